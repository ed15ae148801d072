"""Measures how fast one hot account is: the benchmark behind `make bench-hot`.

In reading order:

rows       the list of comparisons and their targets
sides      one side of a comparison: prepare the account, load it, check every answer
operations the sides with bulks, streams, transfers, holds and moments
measure    rounds in which the sides take turns, so that a slow minute affects all of them
report     medians, ratios and their spread, as a table, as Markdown and as JSON
arena      starts all servers on loopback in a temporary folder, and stops them
command    the frame of the command: exit codes, signals, orderly shutdown
postgres, processes, wrk, pgbench, stream, account
           one file for each external program, and one for the account
"""
