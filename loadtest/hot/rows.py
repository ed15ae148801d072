"""The comparisons and their targets. The one list that everything iterates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .arena import USERS
from .events import Watched
from .operations import Moments, Operations, PgbenchTransfers, Stream, StreamMemory
from .sides import Approach, Burst, Constant, Memory, Pgbench
from .wrk import Answers, Load, OperationLoad

MANY = 10_000
# The changes of a bulk: the most that a request may have.
BULK = 1_000
# The user that many watch, how often it is changed in a second, and how many watch.
OTHER_USER = 2
RATE = 200
CROWD = 1_000
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
        Section("bulks", bulk_rows(hot)),
        Section("bulks of many accounts", (bulk_uniform_row(fast),)),
        Section("stream", (stream_row(),)),
        Section("stream's memory", (stream_memory_row(),), rounds_max=1),
        Section("transfers", transfer_rows()),
        Section("a long history", (moment_row(),), rounds_max=3),
        Section("events", event_rows(fast, hot)),
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


def bulk(users: str) -> OperationLoad:
    words = f"bulk items={BULK} user={users}"
    return OperationLoad(8, words, Answers.ACCEPTED)


def bulk_rows(hot: Approach) -> tuple[Row, ...]:
    title = f"bulks of {BULK:,}, hot, 8 connections"
    bulks = Operations(title, bulk("1"), per_request=BULK, entries=BULK)
    return (
        Row("bulk", f"{title}: changes", bulks, at_least=150_000),
        Row("bulk-hot", f"{title} / single requests", bulks, hot, at_least=2),
    )


def bulk_uniform_row(fast: str) -> Row:
    users = f"1-{USERS}"
    name = f"bulks of {BULK:,}, {USERS:,} users"
    bulks = Operations(name, bulk(users), per_request=BULK, entries=BULK)
    single = Approach(f"{fast}, {USERS:,} users", fast, Load(256, users=users))
    return Row("bulk-uniform", f"{name} / single requests", bulks, single, at_least=1.3)


def stream_row() -> Row:
    stream = Stream("stream, hot, one connection", lines_per_second=150_000)
    return Row("stream", "stream, hot, one connection: changes", stream, at_least=150_000)


def stream_memory_row() -> Row:
    # With the usual runs of five seconds, ten million lines.
    stream = Stream("stream, hot, long", lines_per_second=2_000_000)
    memory = StreamMemory("the service's peak of memory under streams", stream)
    return Row("stream-memory", "peak of memory, a long stream", memory, at_most=100)


def transfer_rows() -> tuple[Row, ...]:
    # The merchant has the last id: both sides lock in order of ids, so its row is held shortest.
    into_one = OperationLoad(256, f"transfer from=1-{USERS - 1} to={USERS}", Answers.CREATED)
    any_two = OperationLoad(256, f"transfer from=1-{USERS} to=1-{USERS}", Answers.CREATED)
    # wrk passes every answer of these to its script, which costs it some microseconds each.
    pairs_load = OperationLoad(256, f"reserve user=1-{USERS}", Answers.RESOLVED)
    merchant = Operations(f"transfers of {USERS:,} users to one", into_one, entries=2)
    transfers = Operations(f"transfers between {USERS:,} users", any_two, entries=2)
    pairs = Operations(f"holds with their captures, {USERS:,} users", pairs_load, per_request=0.5)
    one_by_one = PgbenchTransfers("pgbench, transfers to one", merchant=USERS)
    any_one_by_one = PgbenchTransfers("pgbench, transfers between users", merchant=0)
    return (
        Row("merchant", f"{merchant.name}, 256 connections", merchant, at_least=12_000),
        Row("merchant-pgbench", f"{merchant.name} / pgbench", merchant, one_by_one, at_least=6),
        Row("transfers", f"{transfers.name} / pgbench", transfers, any_one_by_one, at_least=4),
        Row("holds", f"{pairs.name} / transfers", pairs, transfers, at_least=0.4),
    )


def moment_row() -> Row:
    moments = Moments("balance at a moment, p50")
    return Row("moment", "balance at a moment, a million entries: p50", moments, at_most=5)


def event_rows(fast: str, hot: Approach) -> tuple[Row, ...]:
    watched = Watched(f"{fast}, hot, one watcher", hot, user=1, streams=1)
    # The same changes of another user on both sides; only the streams differ.
    beside = Watched(f"{fast}, hot, beside {RATE} changes/s", hot, OTHER_USER, 0, RATE)
    crowd = Watched(f"the same, watched by {CROWD:,}", hot, OTHER_USER, CROWD, RATE)
    return (
        Row("events", f"{fast}, hot: with one watcher / without", watched, hot, at_least=0.9),
        Row("events-crowd", f"{fast}, hot: {crowd.name} / by nobody", crowd, beside, at_least=0.9),
    )
