"""Measures one hot account beside its upper limits and its alternatives: `make bench-hot`.

Starts its own PostgreSQL, two services, nginx and an echo server on loopback in a temporary folder,
and stops them at the end. Prints each comparison with its target.

Exit codes: 0 all targets met, 1 one missed or failed, 2 bad usage, 3 could not measure,
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from hot import command, measure, processes, report, rows
from hot.arena import Arena
from hot.measure import Results
from hot.processes import Failed

ROOT = Path(__file__).resolve().parent.parent
# wrk holds 10,000 connections and the service another 10,000.
FILES_NEEDED = 12_000
# Time around each run: setting the balance, the warm-up, `verify`, a fresh database.
OVERHEAD_SECONDS = 4


def main() -> int:
    options = parse_arguments()
    return command.run("bench-hot", lambda stack: report_on(stack, options))


def report_on(stack: ExitStack, options: argparse.Namespace) -> bool:
    files = processes.raise_open_files()
    if files < FILES_NEEDED:
        raise Failed(f"{FILES_NEEDED} open files are needed, the limit is {files}: see ulimit -Hn")
    found = run(Arena(stack, ROOT), options)
    print(found.text())
    for path in options.out:
        found.write(path)
    return all(verdict.met for verdict in found.verdicts)


def run(arena: Arena, options: argparse.Namespace) -> report.Report:
    sections = [section.only(options.only) for section in rows.sections(options.approach)]
    sections = [section for section in sections if section.rows]
    tell_duration(sections, options)
    all_results, verdicts = Results(), []
    for section in sections:
        results = measure.run_section(arena, section, options.rounds, options.seconds)
        verdicts += [measure.judge(row, results) for row in section.rows]
        for side, values in results.values.items():
            all_results.values.setdefault(side, []).extend(values)
    conditions = report.conditions(arena, options.rounds, options.seconds)
    return report.Report(conditions, verdicts, all_results)


def tell_duration(sections: list[rows.Section], options: argparse.Namespace):
    runs = sum(min(options.rounds, part.rounds_max) * len(part.sides()) for part in sections)
    minutes = runs * (options.seconds + OVERHEAD_SECONDS) / 60
    measure.tell(f"{runs} runs, about {minutes:.0f} minutes")


def parse_arguments() -> argparse.Namespace:
    ids = [row.id for section in rows.sections("batched") for row in section.rows]
    parser = argparse.ArgumentParser(prog="bench-hot", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=count, default=5, help="runs of each side (default 5)")
    parser.add_argument("--seconds", type=count, default=5, help="length of a run (default 5)")
    parser.add_argument("--approach", default="batched", help="measured instead of batched")
    parser.add_argument(
        "--only",
        type=lambda text: set(text.split(",")),
        default=set(ids),
        metavar="ROW,…",
        help=f"only these rows: {', '.join(ids)}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write the result as Markdown, or JSON if the name ends in .json; repeatable",
    )
    options = parser.parse_args()
    if unknown := options.only - set(ids):
        parser.error(f"--only: no row {', '.join(sorted(unknown))}; there are {', '.join(ids)}")
    return options


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
