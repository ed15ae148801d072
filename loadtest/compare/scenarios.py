"""The loads. The one list that everything iterates."""

from __future__ import annotations

from dataclasses import dataclass

from hot.arena import RICH, USERS
from hot.wrk import Answers, Load, OperationLoad

MANY_USERS = 1_000_000
CONNECTIONS = 256
BURST = 10_000
BULK = 1_000
SWEEP = (1, 4, 16, 64, 256, 1_024, 4_096, 10_000)
QUICK_SWEEP = (1, 64, 1_024)
# Per cent of what the side could do in the scenario `hot`.
OPEN_PERCENT = (50, 80, 95)


@dataclass(frozen=True)
class Level:
    """A load of a scenario. A scenario with one load has one level, 0."""

    number: int
    load: Load | OperationLoad | None = None


@dataclass(frozen=True)
class Scenario:
    """What is sent, and from where."""

    id: str
    title: str
    # One or two sentences for the reader of the page.
    what: str
    # How it is run: `closed`, `open`, `burst`, `transfers` or `bulk`.
    kind: str
    levels: tuple[Level, ...]
    # Of the hot account, before each run.
    balance: int = RICH
    users: int = USERS
    # The client counts answers by status in the measured run as well, which slows wrk down.
    counted: bool = False
    # What the figures count.
    unit: str = "changes/s"


def closed(id: str, title: str, what: str, load: Load, **more) -> Scenario:
    return Scenario(id, title, what, "closed", (Level(0, load),), **more)


def longer(connections: int) -> int:
    """Slow sides take seconds to accept thousands of connections, and wrk measures from the start."""
    return 3 if connections > 1_000 else 1


def scenarios(quick: bool) -> list[Scenario]:
    """All scenarios, in the order in which they run: `open` needs the figures of `hot`."""
    many = MANY_USERS // 10 if quick else MANY_USERS
    sweep = QUICK_SWEEP if quick else SWEEP
    hot = Load(CONNECTIONS)
    refused = Load(CONNECTIONS, answers=Answers.REFUSED)
    crossing = Load(CONNECTIONS, amounts="1,-2", answers=Answers.CROSSING)
    return [
        closed(
            "hot",
            "One hot account",
            f"{CONNECTIONS} connections withdraw from one account, which never runs dry.",
            hot,
        ),
        closed(
            "exhausted",
            "Exhausted",
            f"{CONNECTIONS} connections withdraw from an account at zero: every answer is a"
            " refusal.",
            refused,
            balance=0,
            counted=True,
            unit="refusals/s",
        ),
        closed(
            "mixed",
            "Around the line",
            f"{CONNECTIONS} connections deposit 1 and withdraw 2 in turn, from zero: about a"
            " quarter is refused.",
            crossing,
            balance=0,
            counted=True,
            unit="answers/s",
        ),
        Scenario(
            "open",
            "Open loop",
            "Withdrawals from one account become due at a fixed rate, whether or not earlier ones"
            " were answered: 50, 80 and 95 % of what the same side did in the first scenario.",
            "open",
            tuple(Level(percent) for percent in OPEN_PERCENT),
        ),
        Scenario(
            "sweep",
            "From one connection to thousands",
            "Withdrawals from one account over more and more connections."
            + (" The full form has 1, 4, 16, 64, …, 10,000." if quick else ""),
            "closed",
            tuple(Level(number, Load(number, longer=longer(number))) for number in sweep),
        ),
        closed(
            "lone",
            "One lone client",
            "One connection withdraws from one account: what a change costs when nobody else is"
            " there.",
            Load(1),
        ),
        Scenario(
            "burst",
            "A burst of 10,000",
            "10,000 clients, each with a connection of its own, withdraw 2 from 10,000 at the same"
            " moment. Exactly 5,000 must succeed, and every answer is checked.",
            "burst",
            (Level(0),),
            unit="answers/s",
        ),
        closed(
            "zipf",
            f"{USERS:,} accounts, some hotter",
            f"{CONNECTIONS} connections withdraw from {USERS:,} accounts by Zipf's law: the first"
            " is drawn twice as often as the second, and so on.",
            Load(CONNECTIONS, users=f"1-{USERS}", zipf=1.0),
        ),
        Scenario(
            "merchant",
            "Transfers into one merchant",
            f"{CONNECTIONS} connections pay 1 from any of {USERS:,} accounts into one.",
            "transfers",
            (
                Level(
                    0,
                    OperationLoad(
                        CONNECTIONS, f"transfer from=1-{USERS - 1} to={USERS}", Answers.CREATED
                    ),
                ),
            ),
            unit="transfers/s",
        ),
        Scenario(
            "bulk",
            "Bulk",
            f"8 connections send bulks of {BULK:,} withdrawals from one account, each decided for"
            " itself.",
            "bulk",
            (Level(0, OperationLoad(8, f"bulk items={BULK} user=1", Answers.ACCEPTED)),),
        ),
        closed(
            "uniform",
            f"{many:,} accounts, all alike",
            f"{CONNECTIONS} connections withdraw from {many:,} accounts, each as likely as any"
            " other." + (" The full form has 1,000,000." if quick else ""),
            Load(CONNECTIONS, users=f"1-{many}"),
            users=many,
        ),
    ]
