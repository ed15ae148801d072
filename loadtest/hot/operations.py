"""Sides with operations beyond the change of one balance: bulks, transfers, holds, moments."""

from __future__ import annotations

import time
from dataclasses import dataclass

from . import pgbench, stream, wrk
from .arena import USERS, Arena
from .processes import Failed, Violated
from .sides import check_log
from .wrk import OperationLoad

# The user with a long history, and the seconds that it covers.
LONG_USER = USERS + 1
LONG_ENTRIES = 1_000_000
LONG_AGO_SECONDS = 30 * 24 * 60 * 60


SUM = "SELECT sum(balance) FROM users"


@dataclass(frozen=True)
class Operations:
    """Requests of one kind, under wrk."""

    name: str
    load: OperationLoad
    # What is counted, for each request.
    per_request: float = 1
    # The entries that each request leaves, at least.
    entries: int = 1
    unit: str = "/s"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        service = arena.socket_service
        service.new_log_lines()
        wrk.warm_up(service.address, self.load)
        before = arena.entries()
        figures = wrk.measure(service.address, self.load, seconds)
        check_log(service)
        # The measured run does not look at answers one by one.
        left, due = arena.entries() - before, figures.requests * self.entries
        if left < due:
            raise Failed(f"{figures.requests} requests left {left} entries instead of {due}")
        return figures.per_second * self.per_request


@dataclass(frozen=True)
class PgbenchTransfers:
    """Transfers as one transaction each, with 4 clients."""

    name: str
    # Zero for transfers between any two users.
    merchant: int
    unit: str = "/s"
    on_database: bool = True

    CLIENTS = 4

    def measure(self, arena: Arena, seconds: int) -> float:
        script = arena.folder / "transfer.sql"
        script.write_text(pgbench.TRANSFER)
        _ = arena.socket_service  # has made the tables
        # Captures that pay nobody may have come before.
        before = arena.postgres.sql(SUM)[0]
        per_second = pgbench.measure(
            arena.postgres,
            script,
            self.CLIENTS,
            seconds,
            payers_from=1,
            payers_to=USERS - 1 if self.merchant else USERS,
            merchant=self.merchant,
            users=USERS,
        )
        after = arena.postgres.sql(SUM)[0]
        if after != before:
            raise Violated(f"the sum of all balances is {after} after pgbench, not {before}")
        # Each side has the time of its own statement, which the service would not allow.
        arena.reset_database()
        return per_second


@dataclass(frozen=True)
class Stream:
    """Changes of one account, a line each, over one connection."""

    name: str
    # For each second that a run is meant to take.
    lines_per_second: int
    unit: str = "/s"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        service = arena.stream_service
        lines = self.lines_per_second * seconds
        service.new_log_lines()
        took = stream.send(arena.folder, f"{service.address}/changes", lines)
        check_log(service)
        return lines / took


@dataclass(frozen=True)
class StreamMemory:
    """The peak of memory of a service that has only served streams, this one as the last."""

    name: str
    under: Stream
    unit: str = "MB"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        self.under.measure(arena, seconds)
        return arena.stream_service.memory_peak_mb()


@dataclass(frozen=True)
class Moments:
    """Balances at moments in a long history, over one connection: the median."""

    name: str
    unit: str = "ms"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        service = arena.socket_service
        now = int(time.time())
        first, last = now - LONG_AGO_SECONDS, now - 60 * 60
        arena.postgres.sql(long_history(first, last))
        words = f"moment user={LONG_USER} first={first} last={last}"
        load = OperationLoad(1, words, wrk.Answers.ACCEPTED)
        service.new_log_lines()
        wrk.warm_up(service.address, load)
        figures = wrk.measure(service.address, load, seconds)
        check_log(service)
        return figures.p50_ms


def long_history(first: int, last: int) -> str:
    """Statements that create a user whose history reaches from one second since 1970 to another."""
    step = (last - first) / LONG_ENTRIES
    return f"""
INSERT INTO users (id, balance, held, version, changed_at)
    VALUES ({LONG_USER}, {LONG_ENTRIES}, 0, {LONG_ENTRIES}, to_timestamp({last}))
    ON CONFLICT DO NOTHING;
INSERT INTO balance_changes
        (user_id, version, kind, amount, held_amount, balance, held, created_at)
    SELECT {LONG_USER}, n, 'change', 1, 0, n, 0, to_timestamp({first} + {step:.6f} * n)
    FROM generate_series(1, {LONG_ENTRIES}) n
    ON CONFLICT DO NOTHING;
VACUUM (ANALYZE) balance_changes;
"""
