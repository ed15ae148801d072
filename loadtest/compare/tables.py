"""Cells and tables, for Markdown and for the page."""

from __future__ import annotations

from .published import PUBLISHED
from .summary import Cell, Spread, Summary, failure_of

ABSENT = "–"


def figure(value: float) -> str:
    """Three significant digits below 1,000; whole numbers above."""
    if value >= 1_000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.995 or value == 0 else f"{value:.2g}"


def spread(found: Spread | None) -> str:
    """The median, and in parentheses lowest and highest."""
    if found is None:
        return ABSENT
    if found.low == found.high:
        return figure(found.middle)
    return f"{figure(found.middle)} ({figure(found.low)}–{figure(found.high)})"


def words(cell: Cell, *keys: str) -> str:
    """The figure, or why there is none."""
    if cell.absent:
        return f"{ABSENT} {cell.absent}"
    if cell.failure:
        return "FAILED"
    failed = sum(run.get("failed", 0) for run in cell.runs)
    return spread(cell.of(*keys)) + f" [{failed:,} failed]" * bool(failed)


def throughput(summary: Summary) -> list[tuple[str, ...]]:
    """A row for each side, a column for each scenario with one level."""
    columns = [each for each in summary.scenarios if len(each["levels"]) == 1]
    rows = [("", *(f"{each['title']}, {each['unit']}" for each in columns))]
    for side in summary.sides:
        cells = (summary.cell(each["id"], side["id"]) for each in columns)
        rows.append((side["name"], *(words(cell, "per_second") for cell in cells)))
    return rows


def levels(summary: Summary, scenario: str, title: str, *keys: str) -> list[tuple[str, ...]]:
    """A row for each side, a column for each level."""
    found = summary.scenario(scenario)
    if not found:
        return []
    rows = [(title, *(f"{level:,}" for level in found["levels"]))]
    for side in summary.sides:
        cells = [summary.cell(scenario, side["id"], level) for level in found["levels"]]
        if any(not cell.absent for cell in cells):
            rows.append((side["name"], *(words(cell, *keys) for cell in cells)))
    return rows


COST_HEAD = (
    "", "service, µs", "database, µs", "loader, µs", "flushes per change", "memory, MB", "p50, ms",
    "p99, ms",
)


def costs(summary: Summary, scenario: str) -> list[tuple[str, ...]]:
    """What a change costs each side."""
    rows = [COST_HEAD]
    for side in summary.sides:
        cell = summary.cell(scenario, side["id"])
        if not cell.runs:
            continue
        keys = [("cpu_us", part) for part in ("service", "database", "loader")]
        keys += [("flushes_per_request",), ("memory_mb",), ("p50_ms",), ("p99_ms",)]
        rows.append((side["name"], *(spread(cell.of(*key)) for key in keys)))
    return rows


def answers(summary: Summary) -> list[tuple[str, ...]]:
    """What the client counted, in all rounds."""
    rows = [("", "", "accepted", "refused", "failed", "books")]
    for scenario in summary.scenarios:
        for side in summary.sides:
            runs = [
                run
                for level in scenario["levels"]
                for run in summary.cell(scenario["id"], side["id"], level).runs
            ]
            if not runs:
                continue
            cell = Cell(runs)
            counts = (f"{cell.total(key):,}" for key in ("accepted", "refused", "failed"))
            rows.append((scenario["title"], side["name"], *counts, books(scenario, side)))
    return rows


def books(scenario: dict, side: dict) -> str:
    if side["kind"] == "ceiling":
        return "it keeps none"
    of_kind = {"burst": "every answer exact", "transfers": "entries agree", "bulk": "entries agree"}
    agree = of_kind.get(scenario["kind"], "balances agree")
    if side["id"] == "pgbench-journaled":
        return f"verify: {scenario['verify']}"
    return f"{agree}, verify: {scenario['verify']}" if side["kind"] == "ours" else agree


def failures(summary: Summary) -> list[tuple[str, ...]]:
    rows = [("scenario", "level", "side", "round", "what")]
    for run in summary.failures():
        level = f"{run['level']:,}" if run["level"] else ""
        side = summary.name(run["side"])
        rows.append((run["scenario"], level, side, str(run["round"] + 1), failure_of(run)))
    return rows if len(rows) > 1 else []


def published() -> list[tuple[str, ...]]:
    head = ("system", "figure, as published", "source", "what is not the same")
    return [head, *((each.system, each.figure, each.source, each.differs) for each in PUBLISHED)]
