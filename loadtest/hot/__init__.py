"""How fast is one hot account? The measurements behind `make bench-hot`.

In reading order:

rows       what is compared with what, and which ratio is expected
sides      one side of a comparison: prepare the account, load it, check every answer
measure    rounds in which the sides take turns, so that a slow minute hits all of them
report     medians, ratios and their spread; a table for people, Markdown and JSON for keeping
arena      everything that is measured, started on loopback in a temporary folder, and ended again
command    the frame of the command: exit codes, signals, an orderly end
postgres, processes, wrk, pgbench, account
           one file for each foreign thing
"""
