"""The comparisons and their targets. The one list that everything iterates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .arena import USERS
from .sides import Approach, Burst, Constant, Memory, Pgbench
from .wrk import Answers, Load

MANY = 10_000
# wrk includes the time of connecting, most of a second, in its measurement.
MANY_LOAD = Load(MANY, longer=3)


@dataclass(frozen=True)
class Row:
    """`of` divided by `against`, or `of` itself. The target is a limit below or above."""

    id: str
    title: str
    of: object
    against: Optional[object] = None
    at_least: Optional[float] = None
    at_most: Optional[float] = None

    def sides(self) -> list:
        return [self.of] if self.against is None else [self.of, self.against]

    def met_by(self, value: float) -> bool:
        return value >= self.at_least if self.at_most is None else value <= self.at_most


@dataclass(frozen=True)
class Section:
    """Rows that share sides. The sides take turns. Each round begins with a fresh database."""

    name: str
    rows: tuple[Row, ...]
    rounds_max: int = 1_000

    def sides(self) -> list:
        """Each side once, in the order of the rows."""
        return list(dict.fromkeys(side for row in self.rows for side in row.sides()))

    def only(self, ids: set[str]) -> Section:
        rows = tuple(row for row in self.rows if row.id in ids)
        return Section(self.name, rows, self.rounds_max)


def sections(fast: str) -> list[Section]:
    """All rows. `fast` is the approach that is compared with all others: `batched`."""
    hot = Approach(f"{fast}, hot", fast, Load(256))
    return [
        Section("hot account", hot_rows(fast, hot)),
        Section("line", line_rows(fast, hot)),
        Section("many accounts", (uniform_row(fast),)),
        Section("one connection", (latency_row(fast),)),
        Section("self", self_rows()),
        Section("burst", (burst_row(fast),)),
        Section("memory", (memory_row(fast),), rounds_max=1),
    ]


def hot_rows(fast: str, hot: Approach) -> tuple[Row, ...]:
    nginx = Constant("nginx, a constant", "nginx", Load(256))
    echo = Constant("echo, the same server", "echo", Load(256))
    many = Approach(f"{fast}, hot, {MANY:,} connections", fast, MANY_LOAD)
    one_by_one = Approach("self, hot", "self", Load(256))
    over_tcp = Approach(f"{fast}, hot, database over TCP", fast, Load(256), over_tcp=True)
    return (
        Row("nginx", f"{fast} / nginx answering a constant", hot, nginx, at_least=0.55),
        Row("echo", f"{fast} / echo of the same server", hot, echo, at_least=0.70),
        Row("connections", f"{fast} at {MANY:,} connections / at 256", many, hot, at_least=0.9),
        Row("self", f"{fast} / self", hot, one_by_one, at_least=15),
        Row("tcp", f"{fast} over TCP / over the Unix socket", over_tcp, hot, at_least=0.9),
    )


def line_rows(fast: str, hot: Approach) -> tuple[Row, ...]:
    empty = Load(256, answers=Answers.REFUSED)
    crossing = Load(256, amounts="1,-2", answers=Answers.CROSSING)
    exhausted = Approach(f"{fast}, exhausted", fast, empty, balance=0)
    mixed = Approach(f"{fast}, half of the withdrawals refused", fast, crossing, balance=0)
    return (
        Row("refusals", f"{fast}: refusals / changes", exhausted, hot, at_least=0.95),
        Row("line", f"{fast}: half of the withdrawals refused / hot", mixed, hot, at_least=0.5),
    )


def uniform_row(fast: str) -> Row:
    uniform = Approach(f"{fast}, {USERS:,} users", fast, Load(256, users=f"1-{USERS}"))
    # Two equal amounts, so that wrk picks each request from its table for this side as well.
    hot = Approach(f"{fast}, hot, requests picked", fast, Load(256, amounts="-2,-2"))
    return Row("uniform", f"{fast}: {USERS:,} users / hot", uniform, hot, at_least=0.65)


def latency_row(fast: str) -> Row:
    batched = Approach(f"{fast}, one connection, p50", fast, Load(1), unit="ms")
    one_by_one = Approach("self, one connection, p50", "self", Load(1), unit="ms")
    title = f"one connection: p50 of {fast} / of self"
    return Row("latency", title, batched, one_by_one, at_most=1.15)


def self_rows() -> tuple[Row, ...]:
    hot = Approach("self, hot, 64 connections", "self", Load(64))
    statement = Pgbench("pgbench, the statement of self")
    empty = Load(64, answers=Answers.REFUSED)
    exhausted = Approach("self, exhausted, 64 connections", "self", empty, balance=0)
    nginx = Constant("nginx, a constant, 64 connections", "nginx", Load(64))
    return (
        Row("pgbench", "self / pgbench with its statement", hot, statement, at_least=0.9),
        Row("self-refusals", "self: refusals / nginx's constant", exhausted, nginx, at_least=0.16),
    )


def burst_row(fast: str) -> Row:
    burst = Burst(f"{fast}, burst of {MANY:,}", fast)
    return Row("burst", f"{fast}: burst of {MANY:,}, cold connections", burst, at_most=0.6)


def memory_row(fast: str) -> Row:
    many = Approach(f"{fast}, hot, {MANY:,} connections", fast, MANY_LOAD)
    memory = Memory("the service's peak of memory", many)
    return Row("memory", f"peak of memory, {MANY:,} connections", memory, at_most=300)
