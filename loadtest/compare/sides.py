"""Who is measured, and what each one cannot do."""

from __future__ import annotations

from dataclasses import dataclass

from hot.arena import Arena
from hot.processes import Process

from . import peers
from .scenarios import Scenario

OWN_TABLE, PEER_TABLE = "users", "peer_users"
CHANGES_ONLY = "no such route"


@dataclass(frozen=True)
class Side:
    """One that is measured."""

    id: str
    name: str
    # `ours`, `peer`, `database` or `ceiling`.
    kind: str
    # Two sentences for the reader of the page.
    does: str

    def lacks(self, scenario: Scenario) -> str | None:
        """Why the scenario does not apply. None if it does."""
        raise NotImplementedError


@dataclass(frozen=True)
class Server(Side):
    """One that speaks HTTP."""

    server: str
    approach: str
    table: str | None

    def process(self, arena: Arena) -> Process:
        if self.server in peers.COMMANDS:
            return peers.started(arena, self.server)
        return getattr(arena, self.server)

    def url(self, arena: Arena) -> str:
        return f"{self.process(arena).address}/approach/{self.approach}/balance"

    def lacks(self, scenario: Scenario) -> str | None:
        if self.kind == "ceiling" and scenario.id not in ("hot", "lone", "sweep"):
            return "no balance"
        if scenario.kind in ("transfers", "bulk") and self.approach != "batched":
            if self.kind == "ours":
                return "the same way as batched"
            return CHANGES_ONLY
        return None


@dataclass(frozen=True)
class Pgbench(Side):
    """One that speaks SQL."""

    script: str
    clients: int
    table: str = PEER_TABLE

    def lacks(self, scenario: Scenario) -> str | None:
        if scenario.kind in ("transfers", "bulk"):
            return None if self is JOURNALED else f"see {JOURNALED.name}"
        if self is JOURNALED:
            return "transfers and bulks only"
        if scenario.id == "mixed":
            return "counts no refusals"
        if scenario.id == "zipf":
            return "no such distribution"
        if scenario.id == "lone" and self.clients > 1:
            return "several clients"
        if scenario.kind != "closed" or scenario.id == "sweep":
            return "no HTTP"
        return None


def approach(name: str, does: str) -> Server:
    return Server(name, name, "ours", does, "socket_service", name, OWN_TABLE)


def peer(server: str, name: str, does: str) -> list[Server]:
    """Both routes of a peer."""
    routes = (
        ("self", "update", "One guarded UPDATE … RETURNING."),
        ("transaction-pessimistic-locking", "lock", "SELECT … FOR UPDATE, decide, UPDATE, COMMIT."),
    )
    return [
        Server(
            f"{server}-{short}", f"{name}: {short}", "peer", f"{what} {does}", server, route,
            PEER_TABLE,
        )
        for route, short, what in routes
    ]


def pgbench(clients: int, script: str = "bare") -> Pgbench:
    what = {
        "bare": "The bare guarded UPDATE, a commit each.",
        "locking": "A plpgsql function that locks the row, decides and writes, a commit each.",
    }[script]
    name = f"pgbench{' function' * (script == 'locking')} × {clients}"
    does = f"{what} {clients} database client{'s' * (clients > 1)}, no HTTP, no journal."
    return Pgbench(f"pgbench-{script}-{clients}", name, "database", does, script, clients)


JOURNALED = Pgbench(
    "pgbench-journaled",
    "pgbench, journaled",
    "database",
    "The service's own tables, with a row of the journal for each entry: a transfer is one"
    " transaction (4 clients), a bulk of 1,000 one statement (1 client). No HTTP, no keys.",
    "journaled",
    4,
    table=OWN_TABLE,
)


SIDES: list[Server | Pgbench] = [
    approach(
        "batched",
        "Changes that wait for an account go into one statement and share a commit, and each gets"
        " an answer of its own. Waits for the commit before, never for a lock.",
    ),
    approach(
        "self",
        "One guarded UPDATE with its journal row, a commit each. Changes of one account queue at"
        " its row lock.",
    ),
    approach(
        "transaction-pessimistic-locking",
        "Locks the row with SELECT … FOR UPDATE, decides, writes, commits. Four round trips, with"
        " the lock held for three of them.",
    ),
    approach(
        "optimistic-locking",
        "Reads, and writes only if the version is still the one it read; tries again otherwise."
        " Waits for nobody, but loses races.",
    ),
    approach(
        "serializable",
        "Reads, decides and writes at isolation level SERIALIZABLE, and tries again on a conflict."
        " Four round trips for each attempt.",
    ),
    *peer(
        "express-sequelize",
        "Express + Sequelize",
        "A Node process a core, five connections each; no journal, no keys.",
    ),
    *peer(
        "fastapi-sqlalchemy",
        "FastAPI + SQLAlchemy",
        "A Python process a core, five connections each; no journal, no keys.",
    ),
    pgbench(1),
    pgbench(10),
    pgbench(32),
    pgbench(10, "locking"),
    JOURNALED,
    Server(
        "nginx", "nginx (constant)", "ceiling",
        "Answers every request with the same bytes. The most that this machine can serve while the"
        " load generator runs beside it.",
        "nginx", "echo", None,
    ),
    Server(
        "echo", "echo (same server)", "ceiling",
        "The service's own HTTP side and body parsing, with a constant behind it. What is left for"
        " the ledger is the difference to this.",
        "echo", "echo", None,
    ),
]
