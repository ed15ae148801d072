"""Compares all approaches and their peers side by side: the benchmark behind `make compare`.

It stands on `hot`, which starts the servers and the load generators. In reading order:

scenarios  the loads. The one list that everything iterates
sides      who is measured: the approaches, the peers, the ceilings; and what each one cannot do
peers      starts the peers, and installs what they need
loads      one run of a side under a load: prepare, load, count, check the books
calibration  checks the open-loop generator
costs      processor time, memory and flushes of a run
rounds     the rounds in which the sides take turns, `verify` after each scenario, progress
conditions the machine, the versions and the settings of the database
record     the raw data: one JSON document, from which every number of the report is made
summary    medians and spreads of that document
published  figures of others that cannot be run here
tables     cells and tables, for Markdown and for the page
charts     the charts, drawn by the example program `charts`
page       the page
tests      the arithmetic: python3 -B -m unittest discover -s loadtest -t loadtest
"""
