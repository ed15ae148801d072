"""Medians and spreads of the raw data. Every number of the report is made here."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, with the lowest and the highest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float | None]) -> Spread | None:
        known = [value for value in values if value is not None]
        return cls(median(known), min(known), max(known)) if known else None


@dataclass(frozen=True)
class Cell:
    """One side in one scenario at one level: figures, or why there are none."""

    runs: list[dict]
    # Why it was not run, or what went wrong. None if all is well.
    absent: str | None = None
    failure: str | None = None

    def of(self, *keys: str) -> Spread | None:
        """The spread of a figure, such as `("cpu_us", "service")`."""
        return None if self.failure else Spread.of([at(run, keys) for run in self.runs])

    def total(self, key: str) -> int:
        return sum(run[key] for run in self.runs)


def failure_of(run: dict) -> str | None:
    """Why a run has no figures. None if it has."""
    if run["failure"] or run.get("requests") != 0:
        return run["failure"]
    return "nothing was answered before the run ended"


def at(run: dict, keys: tuple[str, ...]):
    value = run
    for key in keys:
        value = value.get(key) if value is not None else None
    return value


class Summary:
    """The raw data, by scenario, side and level."""

    def __init__(self, raw: dict):
        self.raw = raw
        self.sides = raw["sides"]
        self.scenarios = raw["scenarios"]
        self._absent = {(each["scenario"], each["side"]): each["why"] for each in raw["absent"]}

    def scenario(self, id: str) -> dict | None:
        return next((each for each in self.scenarios if each["id"] == id), None)

    def cell(self, scenario: str, side: str, level: int = 0) -> Cell:
        runs = [
            run
            for run in self.raw["runs"]
            if (run["scenario"], run["side"], run["level"]) == (scenario, side, level)
        ]
        if not runs:
            return Cell([], absent=self._absent.get((scenario, side), "not measured"))
        failure = next((failure_of(run) for run in runs if failure_of(run)), None)
        return Cell([run for run in runs if not failure_of(run)], failure=failure)

    def kinds(self, *kinds: str) -> list[dict]:
        return [side for side in self.sides if side["kind"] in kinds]

    def failures(self) -> list[dict]:
        """The runs that failed."""
        return [run for run in self.raw["runs"] if failure_of(run)]

    def name(self, side: str) -> str:
        return next(each["name"] for each in self.sides if each["id"] == side)


def batch_sizes(cell: Cell) -> list[tuple[str, int]]:
    """How many changes of all runs went in batches up to each size; the size is a bound.

    The service counts batches. A batch in a bucket has, on average, about three quarters of the
    bound: the middle between this bound and the one before, which is half of it.
    """
    counts: dict[str, int] = {}
    for run in cell.runs:
        for bound, count in (run.get("batches") or {}).items():
            counts[bound] = counts.get(bound, 0) + count
    return list(counts.items())


def changes_of_bucket(bound: str, batches: int) -> float:
    """The changes in so many batches of a bucket whose bounds double."""
    size = float(bound)
    return batches * (size if size <= 2 else size * 0.75)
