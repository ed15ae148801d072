"""The Markdown table and the page, both from the raw data."""

from __future__ import annotations

from html import escape
from pathlib import Path

from hot.processes import Failed
from hot.report import piped

from . import charts, tables
from .scenarios import OPEN_PERCENT
from .summary import Summary

FOLDER = Path(__file__).parent
THEME = (FOLDER.parents[1] / "src/charts/theme.css").read_text()
STYLE = THEME + (FOLDER / "page.css").read_text()
# The chart that is also written as a picture of its own.
PICTURE = "throughput-hot"
TITLE = "Guarding a balance: approaches side by side"


def write(raw: dict, folder: Path, programs: Path) -> list[Path]:
    """Writes `table.md`, `page.html` and `hot.svg`, and returns their paths."""
    summary = Summary(raw)
    table, page, picture = (folder / name for name in ("table.md", "page.html", "hot.svg"))
    table.write_text(markdown(summary))
    try:
        drawn = charts.draw(charts.all_charts(summary), programs)
    except Failed as why:
        raise Failed(f"{table} is written; the page is not, for want of charts: {why}") from None
    page.write_text(html(summary, drawn))
    if PICTURE in drawn:
        picture.write_text(standalone(drawn[PICTURE]))
        return [table, page, picture]
    return [table, page]


def standalone(svg: str) -> str:
    """A chart with its colours, for where no page gives them to it."""
    opened, rest = svg.split("\n", 1)
    paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    return f"{opened}\n<style>\n{THEME}</style>\n{paper}\n{rest}"


def state(summary: Summary) -> list[str]:
    """What the reader must know before any figure."""
    notes = []
    if summary.raw["partial"]:
        notes.append("The measurement was interrupted: this is what there was.")
    if summary.raw["quick"]:
        notes.append("The quick form: short and few rounds, good for a look and not for a decision.")
    if failed := summary.failures():
        notes.append(f"{len(failed)} runs failed; they are listed below and have no figures.")
    return notes


def sections(summary: Summary) -> list[tuple[str, str, list[tuple[str, ...]]]]:
    """Title, explanation and table of each section that Markdown and the page share."""
    return [
        (
            "Throughput",
            "Median of the rounds; in parentheses the lowest and the highest. A run in which more than"
            " one request in a hundred fails counts as failed; fewer stand in brackets.",
            tables.throughput(summary),
        ),
        (
            "Throughput over connections",
            "Changes a second of one hot account, in a closed loop.",
            tables.levels(summary, "sweep", "connections", "per_second"),
        ),
        (
            "p99 over connections",
            "Milliseconds, in a closed loop: a client that waits sends nothing, so this is not what"
            " independent clients would see. No figure where a connection got fewer than three answers:"
            " those that were not answered in time would be missing in it.",
            tables.levels(summary, "sweep", "connections", "p99_ms"),
        ),
        (
            "Open loop: p50",
            "Milliseconds from when a request was due, at this share (%) of the side's capacity.",
            tables.levels(summary, "open", "% of capacity", "p50_ms"),
        ),
        (
            "Open loop: p99",
            "As above. No figure where fewer than 5 requests took longer.",
            tables.levels(summary, "open", "% of capacity", "p99_ms"),
        ),
        (
            "Open loop: the load generator",
            "Its processor time, in µs a request. It has one thread, so where this time by the rate"
            " comes near one second a second, the times are its own.",
            tables.levels(summary, "open", "% of capacity", "cpu_us", "loader"),
        ),
        (
            "What a change costs",
            "One hot account. Processor time for each change of service, database and load"
            " generator; flushes of the database's log; the service's peak of memory during the"
            " run (all approaches are one process); times in a closed loop.",
            tables.costs(summary, "hot"),
        ),
        ("What failed", "", tables.failures(summary)),
        (
            "What was answered",
            "Counted by the client, all rounds together. Afterwards the balances were compared with"
            " these counts, and `plimsoll verify` compared the journal of the approaches with their"
            " balances.",
            tables.answers(summary),
        ),
        (
            "Published elsewhere",
            "Figures of others, which were not measured here and are not the same.",
            tables.published(),
        ),
    ]


def markdown(summary: Summary) -> str:
    parts = [f"# {TITLE}", *state(summary)]
    parts.append("\n".join(f"- {name}: {value}" for name, value in conditions(summary)))
    for title, text, table in sections(summary):
        if len(table) > 1:
            cells = [tuple(cell.replace("|", "\\|") for cell in row) for row in table]
            parts += [f"## {title}", *filter(None, [text]), piped(cells)]
    return "\n\n".join(parts) + "\n"


def conditions(summary: Summary) -> list[tuple[str, str]]:
    return list(summary.raw["conditions"].items())


def html(summary: Summary, drawn: dict[str, str]) -> str:
    body = [
        f"<h1>{TITLE}</h1>",
        lead(summary),
        *(f'<p class="note">{escape(note)}</p>' for note in state(summary)),
        LEGEND,
        *(throughput_of(summary, drawn, each) for each in summary.scenarios if each["id"] == "hot"),
        section("What each one does", definitions(summary)),
        section("The other scenarios", throughput(summary, drawn)),
        section("Over connections", sweep(drawn)),
        section("Time to the answer", open_loop(drawn)),
        section("Batches", batches(drawn)),
        section("Processor time", processor_time(drawn)),
        section("Tables", all_tables(summary)),
        section("Where this was measured", environment(summary)),
        section("How to repeat it", REPEAT),
    ]
    return DOCUMENT.format(title=TITLE, style=STYLE, body="\n".join(filter(None, body)))


DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

REPEAT = """<pre><code>make compare QUICK=1     # a look, under ten minutes
make compare             # five rounds of everything
make compare ARGS='--render loadtest/results/&lt;date&gt;/raw.json'   # this page again</code></pre>
<p>Every number that was measured here comes from <code>raw.json</code> beside this page. Compare ratios of one run, not
figures of two machines: load generator, services and database share the processors, and the disk
decides what a commit costs.</p>"""


def lead(summary: Summary) -> str:
    """The one comparison that matters most, in words."""
    hot = summary.scenario("hot")
    found = {
        side["id"]: summary.cell("hot", side["id"]).of("per_second")
        for side in summary.sides
        if hot
    }
    mine, single = found.get("batched"), found.get("self")
    if not mine or not single:
        return ""
    text = (
        f"One account that everybody changes at once: <b>{tables.figure(mine.middle)}</b> changes a"
        f" second with <code>batched</code>, <b>{tables.figure(single.middle)}</b> with one guarded"
        " statement and a commit each. "
    )
    peers = [
        (found[side["id"]].middle, side["name"])
        for side in summary.kinds("peer")
        if found.get(side["id"])
    ]
    if peers:
        rate, name = max(peers)
        text += f"The fastest peer, {escape(name)}, makes <b>{tables.figure(rate)}</b>. "
    return f'<p class="lead">{text}Every change is durable before it is answered.</p>'


def section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def figure(drawn: dict[str, str], name: str, title: str, text: str = "") -> str:
    if name not in drawn:
        return ""
    caption = f"<b>{inline(title)}</b> {inline(text)}"
    chart = f'<div class="chart">{drawn[name]}</div>'
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{chart}\n</figure>"


def inline(text: str) -> str:
    """Words between backquotes as code."""
    pieces = escape(text, quote=False).split("`")
    return "".join(
        f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces)
    )


def definitions(summary: Summary) -> str:
    items = "\n".join(
        f"<dt>{escape(side['name'])}</dt><dd>{inline(side['does'])}</dd>" for side in summary.sides
    )
    return f"<dl>\n{items}\n</dl>"


LEGEND = (
    '<ul class="legend">'
    + "".join(
        f'<li><span class="key key-{place}"></span>{name}</li>'
        for place, name in enumerate(charts.KINDS)
    )
    + "</ul>"
)


def throughput(summary: Summary, drawn: dict[str, str]) -> str:
    """All scenarios but the first, which stands above everything."""
    figures = [
        throughput_of(summary, drawn, each) for each in summary.scenarios if each["id"] != "hot"
    ]
    if not any(figures):
        return ""
    explained = "<p>Bars are medians, the thin lines reach from the slowest to the fastest round.</p>"
    return f"{explained}\n{LEGEND}\n" + "\n".join(figures)


def throughput_of(summary: Summary, drawn: dict[str, str], scenario: dict) -> str:
    text = f"{scenario['what']} In {scenario['unit']}."
    if absent := absences(summary, scenario):
        text += f" Not in it: {absent}."
    return figure(drawn, f"throughput-{scenario['id']}", f"{scenario['title']}.", text)


# How all sides of a kind are called together.
TOGETHER = {"ceiling": "the ceilings", "database": "pgbench", "peer": "the peers"}


def absences(summary: Summary, scenario: dict) -> str:
    """Who is not in it, by reason."""
    by_reason: dict[str, list[str]] = {}
    for kind in ("ours", "peer", "database", "ceiling"):
        sides = summary.kinds(kind)
        reasons = [summary.cell(scenario["id"], side["id"]).absent for side in sides]
        if kind in TOGETHER and len(set(reasons)) == 1 and reasons[0]:
            by_reason.setdefault(reasons[0], []).append(TOGETHER[kind])
            continue
        for side, why in zip(sides, reasons):
            if why:
                by_reason.setdefault(why, []).append(side["name"])
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())


def sweep(drawn: dict[str, str]) -> str:
    figures = []
    for group, (title, _) in charts.GROUPS.items():
        figures += [
            figure(drawn, f"sweep-{group}", f"{title}: changes a second.", "One hot account."),
            figure(
                drawn, f"sweep-{group}-p99", f"{title}: p99.",
                "What the slowest of a hundred requests took, in a closed loop.",
            ),
        ]
    return "\n".join(filter(None, figures))


def open_loop(drawn: dict[str, str]) -> str:
    figures = [
        figure(
            drawn, f"open-{percent}-{group}",
            f"{title}: at {percent} % of what each side can do.",
            "So many per cent of the requests were answered within so many milliseconds.",
        )
        for group, (title, _) in charts.GROUPS.items()
        for percent in OPEN_PERCENT
    ]
    if not any(figures):
        return ""
    text = (
        "<p>Requests become due at a fixed rate, and the time counts from then: a server that stalls"
        " for a second has kept all waiting that came in this second (no coordinated omission)."
        " Each side is loaded by its own measure, so the rates differ.</p>"
    )
    return text + "\n".join(filter(None, figures))


def batches(drawn: dict[str, str]) -> str:
    return figure(
        drawn, "batches", "How many changes share a commit.",
        "`batched` in the scenario of one hot account: the share of the changes that went in batches"
        " of this size, estimated from the service's histogram.",
    )


def processor_time(drawn: dict[str, str]) -> str:
    return figure(
        drawn, "cpu", "Processor time for each change.",
        "One hot account. The load generator is part of it, since it shares the processors.",
    )


def all_tables(summary: Summary) -> str:
    return "\n".join(
        f"<h3>{escape(title)}</h3>\n" + (f"<p>{inline(text)}</p>" if text else "") + rows(table)
        for title, text, table in sections(summary)
        if len(table) > 1
    )


def rows(table: list[tuple[str, ...]]) -> str:
    head, *rest = table
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rest:
        first, *cells = row
        lines.append(
            f"<tr><th>{escape(first)}</th>"
            + "".join(f"<td>{inline(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def environment(summary: Summary) -> str:
    return rows([("", ""), *conditions(summary)])
