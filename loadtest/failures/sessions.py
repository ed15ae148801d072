"""Database sessions that go silent, as behind a network that drops all packets: the service must
replace them, and must be able to stop despite them."""

from __future__ import annotations

import asyncio
import math
import signal
import time

from .check import Check, by_status, within
from .clients import Clients
from .keys import until_served
from .stage import Stage

APPROACHES = ("self", "batched")
# Several users, so that each lane has some of them.
USERS = range(1, 5)
ATTEMPT_EVERY_SECONDS = 1
RECOVERY_SECONDS_WANTED = 15
RECOVERY_SECONDS_MAX = 25
# DRAIN_TIMEOUT_SECS, which is 10, and a margin of 5 s.
STOP_SECONDS_WANTED = 15
STOP_SECONDS_MAX = 20


async def silent_sessions(stage: Stage) -> list[Check]:
    service = stage.start_service()
    clients = Clients(service.address)
    for approach in APPROACHES:
        for user in USERS:
            await until_served(clients, approach, user)
    stage.stop_sessions()
    recovered = await asyncio.gather(*(
        recovery_seconds(clients, approach, user) for approach in APPROACHES for user in USERS
    ))
    stage.stop_sessions()
    in_flight = [asyncio.create_task(clients.change(each, USERS[0])) for each in APPROACHES]
    await asyncio.sleep(0.2)
    begun = time.monotonic()
    await asyncio.to_thread(service.end, signal.SIGTERM, STOP_SECONDS_MAX)
    stop_seconds = time.monotonic() - begun
    told = by_status([(await each).status for each in in_flight])
    of_self, of_batched = recovered[: len(USERS)], recovered[len(USERS) :]
    return [
        within("200 again through self", max(of_self), RECOVERY_SECONDS_WANTED),
        within("200 again through batched", max(of_batched), RECOVERY_SECONDS_WANTED),
        within("end after SIGTERM", stop_seconds, STOP_SECONDS_WANTED, f"in flight: {told}"),
    ]


async def recovery_seconds(clients: Clients, approach: str, user: int) -> float:
    """Sends an attempt each second, without waiting for answers, until the first 200."""
    begun = time.monotonic()
    attempts = []
    while time.monotonic() < begun + RECOVERY_SECONDS_MAX:
        attempts.append(asyncio.create_task(clients.change(approach, user)))
        await asyncio.sleep(ATTEMPT_EVERY_SECONDS)
        answers = [attempt.result() for attempt in attempts if attempt.done()]
        if accepted := [answer.answered for answer in answers if answer.status == 200]:
            return min(accepted) - begun
    return math.inf
