"""The report of the results: as text for a terminal, and as Markdown or JSON for a file."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from . import processes
from .arena import Arena
from .measure import Results, Verdict
from .processes import Failed

ROWS_HEAD = ("row", "what", "medians", "value", "spread", "target", "")
SIDES_HEAD = ("side", "median", "min", "max", "")


@dataclass(frozen=True)
class Report:
    """All rows, all sides, and the conditions of the measurement."""

    conditions: dict[str, str]
    verdicts: list[Verdict]
    results: Results

    def text(self) -> str:
        """Two tables for a terminal."""
        parts = [aligned(self._rows()), aligned(self._sides()), "\n".join(self._failures())]
        return "\n\n".join(filter(None, parts))

    def markdown(self) -> str:
        """The report as Markdown, to be kept beside the code."""
        conditions = [f"- {name}: {value}" for name, value in self.conditions.items()]
        parts = ["# One hot account", "\n".join(conditions)]
        parts += [piped(self._rows()), piped(self._sides())]
        parts += [f"- {failure}" for failure in self._failures()]
        parts += [
            "Value: the ratio of the medians, or the median itself. Spread: the lowest and the"
            " highest of the rounds. All figures are of one machine on which loader, service and"
            " database share the cores."
        ]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """The report for programs, with the figure of every run."""
        rows = [
            {
                "row": verdict.row.id,
                "title": verdict.row.title,
                "sides": [side.name for side in verdict.row.sides()],
                "value": verdict.value,
                "byRound": verdict.by_round,
                "atLeast": verdict.row.at_least,
                "atMost": verdict.row.at_most,
                "met": verdict.met,
                "failure": verdict.failure,
            }
            for verdict in self.verdicts
        ]
        sides = [
            {"side": side.name, "unit": side.unit, "median": median(values), "byRound": values}
            for side, values in self.results.values.items()
        ]
        document = {"conditions": self.conditions, "rows": rows, "sides": sides}
        return json.dumps(document, indent=2) + "\n"

    def write(self, path: Path):
        """Writes Markdown or JSON, depending on the file's name."""
        path.write_text(self.json() if path.suffix == ".json" else self.markdown())

    def _failures(self) -> list[str]:
        return [f"{v.row.id}: FAILED: {v.failure}" for v in self.verdicts if v.failure]

    def _rows(self) -> list[tuple]:
        return [ROWS_HEAD, *(self._row(verdict) for verdict in self.verdicts)]

    def _row(self, verdict: Verdict) -> tuple:
        row = verdict.row
        target = f">= {row.at_least:g}" if row.at_most is None else f"<= {row.at_most:g}"
        if verdict.failure:
            return (row.id, row.title, "-", "-", "-", target, "FAILED")
        unit = "" if row.against else f" {row.of.unit}"
        medians = " / ".join(map(amount, verdict.medians))
        spread = f"{min(verdict.by_round):.3f}..{max(verdict.by_round):.3f}"
        word = "ok" if verdict.met else "MISSED"
        value = f"{verdict.value:.3f}{unit}"
        return (row.id, row.title, medians, value, spread, target + unit, word)

    def _sides(self) -> list[tuple]:
        lines = [SIDES_HEAD]
        for side, values in self.results.values.items():
            figures = (amount(figure) for figure in (median(values), min(values), max(values)))
            lines.append((side.name, *figures, side.unit))
        return lines


def amount(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1_000 else f"{figure:.3f}"


def aligned(lines: list[tuple]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def piped(lines: list[tuple]) -> str:
    head, *rest = lines
    cells = [head, tuple("---" for _ in head), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def conditions(arena: Arena, rounds: int, seconds: int) -> dict[str, str]:
    """The conditions that matter for comparing these figures with others."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(arena.root),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "PostgreSQL": arena.postgres.version,
        "database connections": str(arena.pool_size),
        "runs": f"{rounds} rounds, {seconds} s each after 1 s of warm-up; wrk with 2 threads",
    }


def commit(root: Path) -> str:
    try:
        return processes.run(["git", "-C", root, "describe", "--always", "--dirty"], 10).strip()
    except Failed:
        return "unknown"


def processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
