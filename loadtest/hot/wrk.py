"""Runs wrk and checks that all answers are the expected ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from . import processes
from .processes import Failed

SCRIPTS = Path(__file__).resolve().parent.parent
# Of 10,000 connections on one row that commits 1,000 times a second, the last waits for 10 s.
TIMEOUT_SECONDS = 30


class Answers(Enum):
    """The answers that a load must get: statuses, and the share of refusals."""

    ACCEPTED = ({"200"}, 0.0, 0.0)
    REFUSED = ({"400"}, 1.0, 1.0)
    # Amounts +1 and -2 in turn. In the long run, half of the withdrawals can be paid, so a quarter
    # of all requests is refused.
    CROSSING = ({"200", "400"}, 0.2, 0.3)
    CREATED = ({"201"}, 0.0, 0.0)
    # Holds and their captures in turn.
    RESOLVED = ({"200", "201"}, 0.0, 0.0)

    def __init__(self, statuses: set[str], least: float, most: float):
        self.statuses = statuses
        self.least = least
        self.most = most


@dataclass(frozen=True)
class Load:
    """The requests that wrk sends: changes of one balance."""

    connections: int
    users: str = "1"
    amounts: str = "-2"
    answers: Answers = Answers.ACCEPTED
    # The factor by which it runs longer than other loads.
    longer: int = 1
    # The exponent of Zipf's law, if the users are not equally likely.
    zipf: float | None = None
    script: str = "patch_request.lua"

    def words(self) -> list[str]:
        """The words that tell the script what to send."""
        skew = [] if self.zipf is None else [f"zipf={self.zipf:g}"]
        return [f"user={self.users}", f"amount={self.amounts}", *skew]


@dataclass(frozen=True)
class OperationLoad:
    """The requests that wrk sends: any others. The words are those of `operation_request.lua`."""

    connections: int
    request: str
    answers: Answers
    longer: int = 1
    script: str = "operation_request.lua"

    def words(self) -> list[str]:
        """The words that tell the script what to send."""
        return self.request.split()


@dataclass(frozen=True)
class Figures:
    """The figures that wrk measured."""

    requests: int
    per_second: float
    p50_ms: float


def warm_up(url: str, load: Load | OperationLoad):
    """Runs the load for a second and checks the status of each answer, which would slow down the
    measured run."""
    check(run(url, load, 1, ["statuses"]), load.answers)


def measure(url: str, load: Load | OperationLoad, seconds: int) -> Figures:
    """Runs the load for `seconds`, or longer if the load says so."""
    ended = run(url, load, seconds * load.longer, [])
    check(ended, load.answers)
    if not ended["requests"]:
        raise Failed("nothing was answered")
    per_second = ended["requests"] / (ended["duration_us"] / 1e6)
    return Figures(ended["requests"], per_second, ended["latency_us_p50"] / 1e3)


def run(url: str, load: Load | OperationLoad, seconds: int, words: list[str]) -> dict:
    threads = min(2, load.connections)
    command = ["wrk", f"-t{threads}", f"-c{load.connections}", f"-d{seconds}s"]
    command += ["--timeout", f"{TIMEOUT_SECONDS}s", "-s", SCRIPTS / load.script, url, "--"]
    command += [*load.words(), "json", *words]
    output = processes.run(command, seconds=seconds + 2 * TIMEOUT_SECONDS)
    return json.loads(output.splitlines()[-1])


def check(ended: dict, answers: Answers):
    """Raises if a run got unexpected answers: its figures would mean nothing."""
    for kind in ("connect", "read", "write", "timeout"):
        if ended[kind]:
            raise Failed(f"wrk counted {ended[kind]} {kind} errors")
    # Empty if statuses were not counted.
    unexpected = {status for status in ended["statuses"] if status not in answers.statuses}
    if unexpected:
        raise Failed(f"answers by status: {ended['statuses']}")
    # A disk may stall for the whole warm-up, which then has no requests.
    share = ended["not_ok"] / ended["requests"] if ended["requests"] else answers.least
    if not answers.least <= share <= answers.most:
        raise Failed(
            f"{ended['not_ok']} of {ended['requests']} answers were refusals or errors,"
            f" expected {answers.least:.0%} to {answers.most:.0%}"
        )
