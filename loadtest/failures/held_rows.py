"""A foreign transaction holds rows. Changes of other users must not be delayed. Changes of the held
users must be refused in time, and must succeed as soon as the rows are released."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from dataclasses import dataclass

from .check import Check, by_status, within
from .clients import Answer, Clients, closed_loop, open_loop
from .stage import Stage

HELD_SECONDS = 20
OTHERS = range(1_001, 1_101)
OTHERS_PER_SECOND = 200
OTHERS_SECONDS_MAX = 2
OTHERS_SECONDS_P99_MAX = 0.5
# PostgreSQL ends a statement after half of ANSWER_TIMEOUT_SECS, that is 5 s. The rest is margin.
HELD_SECONDS_MAX = 5.5
RECOVERY_SECONDS_MAX = 1
# Time after the release. A change without an answer by then counts as lost.
PATIENCE_SECONDS = 8


@dataclass(frozen=True)
class HeldRows:
    """Clients of held users in a closed loop, and clients of other users in an open loop."""

    approach: str
    rows: int
    clients: int
    # Whether every second change has an Idempotency-Key.
    keyed: bool

    async def play(self, stage: Stage) -> list[Check]:
        clients = Clients(stage.start_service().address)
        users, keys = range(1, self.rows + 1), self._keys()
        for user in OTHERS:
            await clients.change(self.approach, user)
        release = stage.hold_rows(users)
        stop_others, stop_held = asyncio.Event(), asyncio.Event()
        others = asyncio.create_task(
            open_loop(clients, self.approach, OTHERS, keys, stop_others, OTHERS_PER_SECOND)
        )
        loops = (
            closed_loop(clients, self.approach, users[number % self.rows], keys, stop_held)
            for number in range(self.clients)
        )
        held = [asyncio.create_task(each) for each in loops]
        await asyncio.sleep(HELD_SECONDS)
        stop_others.set()
        released = release()
        clients.give_up_at = time.monotonic() + PATIENCE_SECONDS
        await asyncio.sleep(2 * RECOVERY_SECONDS_MAX)
        stop_held.set()
        answers = list(itertools.chain.from_iterable(await asyncio.gather(*held)))
        return [*judge_others(await others), *judge_held(answers, users, released)]

    def _keys(self):
        for number in itertools.count():
            yield f"change-{number}" if self.keyed and number % 2 else ""


def judge_others(answers: list[Answer]) -> list[Check]:
    good = sum(a.status == 200 and a.seconds <= OTHERS_SECONDS_MAX for a in answers)
    statuses = by_status([answer.status for answer in answers])
    value = f"{good:,} of {len(answers):,} (at any time: {statuses})"
    seconds = sorted(answer.seconds for answer in answers)
    p50, p99 = (seconds[len(seconds) * percent // 100] for percent in (50, 99))
    note = f"p50 {p50:.3f}, max {seconds[-1]:.3f}"
    return [
        Check(f"others: 200 within {OTHERS_SECONDS_MAX} s", value, "all", good == len(answers)),
        within("others: p99", p99, OTHERS_SECONDS_P99_MAX, note),
    ]


def judge_held(answers: list[Answer], users: range, released: float) -> list[Check]:
    held = [answer for answer in answers if answer.sent < released]
    statuses = [answer.status for answer in held]
    # By user.
    first_accepted = dict.fromkeys(users, math.inf)
    for answer in answers:
        if answer.status == 200 and answer.answered > released:
            first_accepted[answer.user] = min(first_accepted[answer.user], answer.answered)
    recovery_seconds = max(first_accepted.values()) - released
    return [
        within("held: slowest answer", max(answer.seconds for answer in held), HELD_SECONDS_MAX),
        Check("held: answers", by_status(statuses), "503 or 200", set(statuses) <= {200, 503}),
        within("held: 200 after the release", recovery_seconds, RECOVERY_SECONDS_MAX),
    ]
