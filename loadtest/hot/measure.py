"""Runs the rounds. The sides of a section take turns, so that a slow minute affects all of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from statistics import median

from .arena import Arena
from .processes import Failed
from .rows import Row, Section


@dataclass
class Results:
    """The values of each side by round, and the error of each side that failed."""

    values: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The result of a row."""

    row: Row
    # The ratio of the medians, or the median itself. None if a run failed.
    value: float | None
    # The median of each side, in the order of the row.
    medians: tuple[float, ...]
    # The ratio in each round.
    by_round: tuple[float, ...]
    failure: str | None

    @property
    def met(self) -> bool:
        return self.value is not None and self.row.met_by(self.value)


def run_section(arena: Arena, section: Section, rounds: int, seconds: int) -> Results:
    """Measures each side of the section once a round."""
    results = Results()
    rounds = min(rounds, section.rounds_max)
    for number in range(rounds):
        arena.reset_database()
        # The order alternates, so that no side always runs after the same other side.
        sides = section.sides() if number % 2 == 0 else section.sides()[::-1]
        for side in sides:
            if side not in results.failures:
                run_side(arena, side, seconds, results, f"{section.name} {number + 1}/{rounds}")
    return results


def run_side(arena: Arena, side, seconds: int, results: Results, where: str):
    try:
        value = side.measure(arena, seconds)
    except Failed as why:
        results.failures[side] = str(why)
        tell(f"{where}: {side.name}: FAILED: {why}")
    else:
        results.values.setdefault(side, []).append(value)
        tell(f"{where}: {side.name}: {value:,.3f} {side.unit}")
    if side.on_database:
        # Outside of the `try`: a broken invariant does not concern only one row.
        arena.verify()


def judge(row: Row, results: Results) -> Verdict:
    """The row's figures, if no run of its sides failed."""
    for side in row.sides():
        if side in results.failures:
            return Verdict(row, None, (), (), f"{side.name}: {results.failures[side]}")
    columns = [results.values[side] for side in row.sides()]
    medians = tuple(map(median, columns))
    by_round = tuple(quotient(*values) for values in zip(*columns))
    return Verdict(row, quotient(*medians), medians, by_round, None)


def quotient(of: float, against: float = 1.0) -> float:
    return of / against


def tell(line: str):
    """Prints progress to standard error: the result goes to standard output."""
    print(line, file=sys.stderr, flush=True)
