"""A figure and its target."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

HEAD = ("failure", "figure", "value", "wanted", "")


@dataclass(frozen=True)
class Check:
    """One line of the result."""

    what: str
    value: str
    wanted: str
    met: bool

    def line(self, scenario: str) -> tuple[str, ...]:
        return (scenario, self.what, self.value, self.wanted, "ok" if self.met else "MISSED")


def within(what: str, seconds: float, limit: float, note: str = "") -> Check:
    """A time and its limit, with an optional note that explains the time."""
    shown = "never" if math.isinf(seconds) else f"{seconds:.3f} s"
    return Check(what, f"{shown}{note and f' ({note})'}", f"<= {limit:g} s", seconds <= limit)


def by_status(statuses: list[int]) -> str:
    """The number of answers by status. Status 0 means no answer."""
    counts = sorted(Counter(statuses).items())
    return ", ".join(f"{count:,} x {status or 'none'}" for status, count in counts)
