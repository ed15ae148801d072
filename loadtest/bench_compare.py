"""Runs all approaches and their peers side by side on this machine: `make compare`.

Starts its own PostgreSQL, the service, the peers, nginx and an echo server on loopback, and stops them
at the end. Writes raw data, a Markdown table and a page.

Exit codes: 0 measured, 1 a run of the service failed or a journal is not clean, 2 bad usage, 3 could
not measure, 130 interrupted (what was measured is written). A peer that fails under a load is a result.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from compare import calibration, conditions, page, peers, record, rounds
from compare.record import Record
from compare.scenarios import scenarios
from compare.sides import SIDES
from compare.summary import failure_of
from hot import command, processes
from hot.arena import Arena
from hot.measure import tell
from hot.processes import Failed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "loadtest" / "results"
PROGRAMS = (
    "plimsoll", "concurrency-tester", "examples/echo", "examples/open_loop", "examples/charts",
)
# wrk holds 10,000 connections and the service another 10,000.
FILES_NEEDED = 12_000


def main() -> int:
    options = parse_arguments()
    if options.render:
        return command.run("compare", lambda stack: render(options))
    return command.run("compare", lambda stack: measure(stack, options))


def render(options: argparse.Namespace) -> bool:
    """Makes the table and the page again from the raw data."""
    for path in page.write(record.load(options.render), options.render.parent, programs(options)):
        print(path)
    return True


def measure(stack: ExitStack, options: argparse.Namespace) -> bool:
    files = processes.raise_open_files()
    if files < FILES_NEEDED:
        raise Failed(f"{FILES_NEEDED} open files are needed, the limit is {files}: see ulimit -Hn")
    check_programs(options)
    found = Record(options.quick)
    try:
        measure_all(stack, options, found)
        found.partial = False
    finally:
        if found.runs:
            raw = found.write(options.out)
            for path in [raw, *page.write(record.load(raw), options.out, programs(options))]:
                print(path)
    ours = {side.id for side in SIDES if side.kind == "ours"}
    return not any(failure_of(run) for run in found.runs if run["side"] in ours)


def measure_all(stack: ExitStack, options: argparse.Namespace, found: Record):
    plan = rounds.QUICK if options.quick else rounds.FULL
    chosen = [each for each in scenarios(options.quick) if each.id in options.only]
    sides = [side for side in SIDES if side.id in options.sides]
    for name in peers.COMMANDS:
        if any(getattr(side, "server", None) == name for side in sides):
            peers.install(name)
    calibration.check(programs(options))
    arena = Arena(stack, ROOT, options.programs)
    conditions.check_disk(arena.folder)
    _ = arena.socket_service  # makes the tables
    schema = (peers.FOLDER / "pgbench" / "schema.sql").read_text()
    arena.postgres.sql(schema)
    found.conditions = conditions.conditions(arena, plan)
    for side in sides:
        found.add_side(side)
    progress = rounds.Progress(rounds.planned_seconds(chosen, sides, plan))
    for scenario in chosen:
        rounds.run_scenario(arena, found, scenario, sides, plan, progress)


def check_programs(options: argparse.Namespace):
    """Before an hour has passed."""
    for name in PROGRAMS:
        if not (programs(options) / name).exists():
            raise Failed(f"there is no {programs(options) / name}: make compare builds it")


def programs(options: argparse.Namespace) -> Path:
    return options.programs or Arena.built(ROOT)


def parse_arguments() -> argparse.Namespace:
    ids, sides = [each.id for each in scenarios(True)], [side.id for side in SIDES]
    parser = argparse.ArgumentParser(prog="compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--only", type=words(ids), default=ids, metavar="SCENARIO,…", help=", ".join(ids)
    )
    parser.add_argument(
        "--sides", type=words(sides), default=sides, metavar="SIDE,…", help=", ".join(sides)
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="default: loadtest/results/ and the date, with a number where there is one already",
    )
    parser.add_argument(
        "--programs", type=Path, metavar="FOLDER",
        help="the release programs to measure, with examples/ in it (default: those of cargo)",
    )
    parser.add_argument(
        "--render", type=Path, metavar="RAW.JSON", help="make table and page again, measure nothing"
    )
    options = parser.parse_args()
    options.out = options.out or record.free_folder(RESULTS, options.quick)
    if options.programs:
        options.programs = options.programs.resolve()
    return options


def words(known: list[str]):
    def parse(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}")
        return text.split(",")

    return parse


if __name__ == "__main__":
    sys.exit(main())
