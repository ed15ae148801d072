"""Causes failures under load and measures how clients are affected: `make bench-failures`.

Starts its own PostgreSQL and service on loopback in a temporary folder, and stops them at the end.
Prints each figure with its target, in about fifteen minutes.

Exit codes: 0 all targets met, 1 one missed, 2 bad usage, 3 could not run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from failures import check, scenarios
from failures.stage import Stage
from hot import command, processes
from hot.measure import tell
from hot.postgres import Postgres
from hot.processes import Failed
from hot.report import aligned

ROOT = Path(__file__).resolve().parent.parent
SCENARIO_SECONDS_MAX = 300


def main() -> int:
    options = parse_arguments()
    return command.run("bench-failures", lambda stack: report_on(stack, options))


def report_on(stack: ExitStack, options: argparse.Namespace) -> bool:
    """Runs the scenarios and prints a table, even if one of them could not be run."""
    program = options.service.resolve()
    if not os.access(program, os.X_OK):
        raise Failed(f"there is no program {program}: cargo build --release")
    open_files = processes.raise_open_files()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plimsoll-failures-")))
    # PostgreSQL's user must be able to traverse it. Private files have modes of their own.
    folder.chmod(0o711)
    postgres = Postgres(stack, ROOT, folder)
    lines, met = [check.HEAD], True
    try:
        for name in options.only:
            with command.ended_in_order() as own:
                for found in play(name, Stage(own, postgres, program, folder, open_files)):
                    lines.append(found.line(name))
                    met = met and found.met
                    tell("  ".join(filter(None, lines[-1])))
    finally:
        if len(lines) > 1:
            print(aligned(lines), flush=True)
    return met


def play(name: str, stage: Stage) -> list[check.Check]:
    try:
        checks = asyncio.run(asyncio.wait_for(scenarios.ALL[name](stage), SCENARIO_SECONDS_MAX))
    except asyncio.TimeoutError:
        raise Failed(f"{name} did not end within {SCENARIO_SECONDS_MAX} s") from None
    except OSError as why:
        raise Failed(f"{name}: {why}") from None
    return [*checks, stage.verify()]


def parse_arguments() -> argparse.Namespace:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    names = list(scenarios.ALL)
    parser = argparse.ArgumentParser(prog="bench-failures", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=names,
        metavar="NAME,…",
        help=f"only these: {', '.join(names)}",
    )
    parser.add_argument(
        "--service",
        type=Path,
        default=target / "release" / "plimsoll",
        metavar="PATH",
        help="another build of the service, to compare before and after",
    )
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"--only: no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    options.only = [name for name in names if name in options.only]
    return options


if __name__ == "__main__":
    sys.exit(main())
