"""The charts of the page, drawn by the example program `charts`."""

from __future__ import annotations

import json
import math
from pathlib import Path

from hot import processes

from .loads import BEYOND_MIN
from .scenarios import OPEN_PERCENT
from .summary import Cell, Summary, batch_sizes, changes_of_bucket
from .tables import figure, spread

# The colour of each kind in bars.
SERIES = {"ours": 0, "peer": 1, "database": 2, "ceiling": 3}
KINDS = ["approach of Plimsoll", "peer", "PostgreSQL without HTTP", "ceiling"]
PARTS = ("service", "database", "loader")
# Three tones of one colour, which can be told apart in grey.
TONES = (8, 9, 10)
GROUPS = {
    "approaches": ("The approaches", ("ours", "ceiling")),
    "peers": ("`batched`, `self` and the peers", ("peer",)),
}
COMPARED = ("batched", "self")


def draw(wanted: dict[str, dict], programs: Path) -> dict[str, str]:
    """SVG elements by name."""
    program = programs / "examples" / "charts"
    return json.loads(processes.run([program], 60, stdin=json.dumps(wanted)))


def all_charts(summary: Summary) -> dict[str, dict]:
    """The charts for which there are figures, by name."""
    found = {}
    for scenario in summary.scenarios:
        if len(scenario["levels"]) == 1:
            found[f"throughput-{scenario['id']}"] = throughput(summary, scenario)
    for group, (_, kinds) in GROUPS.items():
        sides = sides_of(summary, kinds, group == "peers")
        found[f"sweep-{group}"] = sweep(summary, sides, "per_second", "changes/s")
        found[f"sweep-{group}-p99"] = sweep(summary, sides, "p99_ms", "p99, ms (closed loop)")
        for percent in OPEN_PERCENT:
            found[f"open-{percent}-{group}"] = open_loop(summary, sides, percent)
    found["cpu"] = processor_time(summary)
    found["batches"] = batches(summary)
    return {name: chart for name, chart in found.items() if chart}


def sides_of(summary: Summary, kinds: tuple[str, ...], compared: bool) -> list[dict]:
    return [
        side
        for side in summary.sides
        if side["kind"] in kinds or (compared and side["id"] in COMPARED)
    ]


def described(description: str, chart: dict) -> dict:
    return {"description": description, "chart": chart}


def throughput(summary: Summary, scenario: dict) -> dict | None:
    rows = []
    for side in summary.sides:
        found = summary.cell(scenario["id"], side["id"]).of("per_second")
        if not found:
            continue
        title = f"{side['name']}: {spread(found)} {scenario['unit']}"
        part = {"value": found.middle, "series": SERIES[side["kind"]], "title": title}
        rows.append(
            {
                "name": side["name"],
                "label": figure(found.middle),
                "parts": [part],
                "spread": (found.low, found.high) if found.low < found.high else None,
            }
        )
    if not rows:
        return None
    return described(
        f"{scenario['title']}: {scenario['unit']} of each side", {"kind": "bars", "rows": rows}
    )


def sweep(summary: Summary, sides: list[dict], key: str, name: str) -> dict | None:
    scenario = summary.scenario("sweep")
    if not scenario:
        return None
    series = []
    for place, side in enumerate(sides):
        points = []
        for level in scenario["levels"]:
            found = summary.cell("sweep", side["id"], level).of(key)
            if found and found.low > 0:
                title = f"{side['name']}, {level:,} connections: {spread(found)} {name}"
                limits = (found.low, found.high) if found.low < found.high else None
                points.append({"x": level, "y": found.middle, "spread": limits, "title": title})
        if points:
            series.append({"name": side["name"], "style": place, "points": points})
    ticks = [{"at": level, "label": f"{level:,}"} for level in scenario["levels"]]
    x = {"name": "connections", "range": (0.9, max(scenario["levels"]) * 1.1), "ticks": ticks}
    return lines(f"{name} over connections", x, name, series)


def open_loop(summary: Summary, sides: list[dict], percent: int) -> dict | None:
    """Percentiles on an axis on which each nine takes the same space."""
    series = []
    for side in sides:
        cell = summary.cell("open", side["id"], percent)
        points = [
            {
                "x": 100 / (100 - at),
                "y": max(milliseconds, 1e-3),
                "spread": None,
                "title": f"{side['name']}: {at:g} % within {figure(milliseconds)} ms",
            }
            for at, milliseconds in curve(cell)
        ]
        if points:
            series.append({"name": side["name"], "style": len(series), "points": points})
    shown = {1: "0 %", 2: "50 %", 10: "90 %", 100: "99 %", 1000: "99.9 %"}
    ticks = [{"at": at, "label": label} for at, label in shown.items()]
    x = {"name": "share of the requests answered within …", "range": (0.98, 1100), "ticks": ticks}
    return lines(f"time to the answer at {percent} % of capacity", x, "ms", series)


def curve(cell: Cell) -> list[tuple[float, float]]:
    """The median of the rounds at each percentile for which there are enough answers."""
    runs = [run for run in cell.runs if run.get("curve_ms")]
    if not runs or cell.failure:
        return []
    points = []
    for place, (percent, _) in enumerate(runs[0]["curve_ms"]):
        beyond = min(run["requests"] for run in runs) * (1 - percent / 100)
        if percent < 100 and beyond >= BEYOND_MIN:
            values = sorted(run["curve_ms"][place][1] for run in runs)
            middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
            points.append((percent, middle))
    return points


def lines(description: str, x: dict, y_name: str, series: list[dict]) -> dict | None:
    values = [
        value
        for each in series
        for point in each["points"]
        for value in (point["y"], *(point["spread"] or ()))
    ]
    if not values:
        return None
    low, high, steps = nice_range(min(values), max(values))
    ticks = [
        {"at": step, "label": f"{step:,.0f}" if step >= 1 else f"{step:g}"} for step in steps
    ]
    y = {"name": y_name, "range": (low, high), "ticks": ticks}
    return described(description, {"kind": "lines", "x": x, "y": y, "series": series})


def nice_range(low: float, high: float) -> tuple[float, float, list[float]]:
    """The nearest 1, 2 or 5 times a power of ten around a range, and the steps in it."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(step for step in steps if step <= low)
    last = min(step for step in steps if step >= high and step > first)
    inside = [step for step in steps if first <= step <= last]
    if last / first > 1_000:
        inside = [step for step in inside if math.log10(step).is_integer()]
    return first, last, inside


def processor_time(summary: Summary) -> dict | None:
    rows = []
    for side in summary.sides:
        cell = summary.cell("hot", side["id"])
        found = [cell.of("cpu_us", part) for part in PARTS]
        if not all(found):
            continue
        parts = [
            {
                "value": each.middle,
                "series": tone,
                "title": f"{side['name']}, {part}: {spread(each)} µs a change",
            }
            for tone, part, each in zip(TONES, PARTS, found)
        ]
        total = figure(sum(each.middle for each in found))
        rows.append({"name": side["name"], "label": f"{total} µs", "parts": parts, "spread": None})
    if not rows:
        return None
    legend = [{"name": part, "series": tone} for part, tone in zip(PARTS, TONES)]
    chart = {"kind": "bars", "rows": rows, "legend": legend}
    return described("Processor time for each change of one hot account", chart)


def batches(summary: Summary) -> dict | None:
    """Which share of the changes went in batches of which size, at each number of connections."""
    cell = summary.cell("hot", "batched")
    sizes = [(bound, count) for bound, count in batch_sizes(cell) if bound != "+Inf"]
    changes = [(bound, changes_of_bucket(bound, count)) for bound, count in sizes]
    total = sum(count for _, count in changes)
    if not total:
        return None
    rows, below = [], 0
    last = max(place for place, (_, count) in enumerate(changes) if count)
    for bound, count in changes[: last + 1]:
        upper = round(float(bound))
        name = f"{upper}" if upper - below == 1 else f"{below + 1} to {upper}"
        share = 100 * count / total
        part = {"value": share, "series": 0, "title": f"batches of {name}: {share:.1f} %"}
        rows.append(
            {"name": f"{name} changes", "label": f"{share:.1f} %", "parts": [part], "spread": None}
        )
        below = upper
    return described(
        "Share of the changes by the size of their batch", {"kind": "bars", "rows": rows}
    )
