"""Measures how failures affect clients. The scenarios behind `make bench-failures`.

In reading order:

scenarios    the list of all scenarios, which everything iterates
held_rows    a foreign transaction holds rows: other users and the held ones
connections  unfinished request heads, and as many idle connections as are allowed
floods       twice the load that can be served, and 2,000 clients that send half a request
keys         an answer to a keyed change must agree with the journal
sessions     database sessions that go silent
stage        one PostgreSQL for all; for each scenario fresh users and a service of its own
clients      HTTP clients on raw sockets, in a closed and in an open loop
check        a figure and its target
"""
