"""The rounds in which the sides take turns, `verify` after each scenario, and the progress."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from hot.arena import Arena
from hot.measure import tell
from hot.processes import Failed

from . import loads
from .loads import Run
from .record import Record
from .scenarios import Level, Scenario, longer
from .sides import Pgbench, Side

# A run without its measured seconds: setting the balance, waiting until all is quiet. These are guesses
# for the first estimate of the time left; after that, the real times decide.
OVERHEAD_SECONDS = 1.0
BURST_SECONDS = 5


@dataclass(frozen=True)
class Plan:
    """How often and for how long."""

    # Of the first scenario, on which the rates of the open loop depend.
    hot_rounds: int
    rounds: int
    seconds: int
    # Of a level of the sweep.
    level_seconds: int
    # Whether each round begins with a warm-up, or only the first one of the first scenario.
    warm_always: bool

    def words(self) -> str:
        warm_up = "1 s of warm-up before each" if self.warm_always else "1 s of warm-up before the first"
        rounds = f"{self.rounds} rounds" if self.rounds > 1 else "one round"
        first = f" ({self.hot_rounds} of the first scenario)" * (self.hot_rounds != self.rounds)
        return (
            f"{rounds}{first} of {self.seconds} s, {warm_up}; in the sweep {self.level_seconds} s, above"
            f" 1,000 connections {longer(1_001) * self.level_seconds} s, where each level warms the next;"
            " wrk with 2 threads"
        )

    def rounds_of(self, scenario: Scenario) -> int:
        return self.hot_rounds if scenario.id == "hot" else self.rounds

    def seconds_of(self, scenario: Scenario, level: Level) -> int:
        seconds = self.level_seconds if scenario.id == "sweep" else self.seconds
        return seconds * getattr(level.load, "longer", 1)

    def warms(self, scenario: Scenario, number: int) -> bool:
        """Each level is a warm-up for the next one of the same side."""
        if len(scenario.levels) > 1:
            return False
        return self.warm_always or (scenario.id == "hot" and number == 0)


FULL = Plan(hot_rounds=5, rounds=5, seconds=3, level_seconds=1, warm_always=True)
QUICK = Plan(hot_rounds=2, rounds=1, seconds=1, level_seconds=1, warm_always=False)


@dataclass(frozen=True)
class Step:
    """One run of a side."""

    side: Side
    number: int
    level: Level


class Progress:
    """Says what was done, and how long the rest will take."""

    def __init__(self, seconds: float):
        self._left = self._planned = seconds
        self._begun = time.monotonic()

    def done(self, seconds: float, line: str):
        """`seconds` is what the step was planned with."""
        self._left -= seconds
        passed = time.monotonic() - self._begun
        worked_off = self._planned - self._left
        # Too few steps say little about the rest.
        pace = passed / worked_off if worked_off > 0.05 * self._planned else 1.0
        minutes, rest = divmod(round(max(self._left, 0) * pace), 60)
        tell(f"[{minutes:3d}:{rest:02d} left] {line}")


def steps(scenario: Scenario, sides: list[Side], rounds: int) -> list[Step]:
    """The order alternates, so that no side always runs after the same other side."""
    able = [side for side in sides if not side.lacks(scenario)]
    found = []
    for number in range(rounds):
        order = able if number % 2 == 0 else able[::-1]
        found += [Step(side, number, level) for level in scenario.levels for side in order]
    return found


def step_seconds(scenario: Scenario, plan: Plan, step: Step) -> float:
    if scenario.kind == "burst":
        return BURST_SECONDS
    # The open loop brings its own warm-up.
    warm = scenario.kind == "open" or plan.warms(scenario, step.number)
    return plan.seconds_of(scenario, step.level) + warm + OVERHEAD_SECONDS


def planned_seconds(scenarios: list[Scenario], sides: list[Side], plan: Plan) -> float:
    return sum(
        step_seconds(scenario, plan, step)
        for scenario in scenarios
        for step in steps(scenario, sides, plan.rounds_of(scenario))
    )


def run_scenario(
    arena: Arena, record: Record, scenario: Scenario, sides: list[Side], plan: Plan,
    progress: Progress,
):
    rounds = plan.rounds_of(scenario)
    record.add_scenario(scenario, rounds, plan.seconds_of(scenario, scenario.levels[0]))
    for side in sides:
        if why := side.lacks(scenario):
            record.add_absent(scenario, side, why)
    arena.reset_database(scenario.users)
    arena.postgres.sql(loads.peers_table(scenario.users))
    for step in steps(scenario, sides, rounds):
        if scenario.kind == "transfers" and isinstance(step.side, Pgbench):
            # It empties the journal, because its own entries are not those of the service.
            verify(arena, record, scenario)
        run_step(arena, record, scenario, step, plan, progress)
    verify(arena, record, scenario)


def run_step(
    arena: Arena, record: Record, scenario: Scenario, step: Step, plan: Plan, progress: Progress
):
    level = step.level
    seconds, warm = plan.seconds_of(scenario, level), plan.warms(scenario, step.number)
    run = Run(scenario, level, seconds, warm, capacity(record, step.side))
    at = f" at {level.number:,}" if level.number else ""
    line = f"{scenario.id}{at}, round {step.number + 1}: {step.side.name}: "
    key = (scenario.id, step.side.id, level.number, step.number)
    try:
        figures = loads.measure(arena, step.side, run)
    except (Failed, OSError, ValueError, LookupError) as why:
        # Also what a server says that is dying: no answer, or half of one.
        said = f"{why}{loads.last_error(arena, step.side)}"
        record.add_run(*key, failure=said)
        line += f"FAILED: {said}"
    else:
        record.add_run(*key, failure=None, **figures)
        line += f"{figures['per_second']:,.0f} {scenario.unit}"
        if figures["failed"]:
            line += f", {figures['failed']:,} failed"
    progress.done(step_seconds(scenario, plan, step), line)


def capacity(record: Record, side: Side) -> float | None:
    """What the side did in the scenario `hot` of this measurement."""
    rates = [
        run["per_second"]
        for run in record.runs
        if run["scenario"] == "hot" and run["side"] == side.id and not run["failure"]
    ]
    return median(rates) if rates else None


def verify(arena: Arena, record: Record, scenario: Scenario):
    """A result whose journal is not clean counts as failed."""
    try:
        arena.verify()
    except Failed as why:  # a journal that could not be looked at is not clean
        record.set_verified(scenario, clean=False)
        tell(f"{scenario.id}: FAILED: {why}")
    else:
        record.set_verified(scenario, clean=True)
