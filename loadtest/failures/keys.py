"""Changes with an Idempotency-Key: the answers to their clients must agree with the journal."""

from __future__ import annotations

import asyncio
import json

from hot.processes import Failed

from .check import Check
from .clients import Answer, Clients, get
from .stage import Stage

HELD_SECONDS = 3
# The second request is sent while the first one waits for the row.
SECOND_AFTER_SECONDS = 0.2
PATIENCE_SECONDS = 10
# A reload reaches all processes of PostgreSQL within this time.
RELOAD_SECONDS = 1
STANDBY = "synchronous_standby_names"


async def keyed_duplicate(stage: Stage) -> list[Check]:
    address = stage.start_service(KEY_WAIT_SECS="1").address
    clients = Clients(address, PATIENCE_SECONDS)
    await until_served(clients, "batched", 1)
    release = stage.hold_rows(range(1, 2))
    first = asyncio.create_task(clients.change("batched", 1, "duplicate"))
    await asyncio.sleep(SECOND_AFTER_SECONDS)
    second = asyncio.create_task(clients.change("batched", 1, "duplicate"))
    await asyncio.sleep(HELD_SECONDS - SECOND_AFTER_SECONDS)
    release()
    answers = [await first, await second]
    await until_served(clients, "batched", 1)
    return [judge("answers to the first and the second", answers, stage.journal_rows("duplicate"))]


async def missing_standby(stage: Stage) -> list[Check]:
    address = stage.start_service(ANSWER_TIMEOUT_SECS="2").address
    clients = Clients(address, PATIENCE_SECONDS)
    # Each approach has its own user: the first approach has the first user, and so on.
    approaches = list(enumerate(approach_names(address), start=1))
    for user, approach in approaches:
        await until_served(clients, approach, user)
    stage.stack.callback(configure, stage, f"RESET {STANDBY}")
    configure(stage, f"SET {STANDBY} = 'missing'")
    await asyncio.sleep(RELOAD_SECONDS)
    answers = [await clients.change(approach, user, approach) for user, approach in approaches]
    configure(stage, f"RESET {STANDBY}")
    await asyncio.sleep(RELOAD_SECONDS)
    for user, approach in approaches:
        await until_served(clients, approach, user)
    return [
        judge(f"answer of {approach}", [answer], stage.journal_rows(approach))
        for (_, approach), answer in zip(approaches, answers)
    ]


def judge(what: str, answers: list[Answer], rows: int) -> Check:
    """Answers 200 need a journal row. If there is a row, not all answers may be 503 or 409."""
    statuses = {answer.status for answer in answers}
    # 504 is right in both cases.
    fits = bool(statuses & {200, 504}) if rows else 200 not in statuses
    right = fits and rows <= 1 and statuses <= {200, 409, 503, 504}
    told = ", ".join(f"{a.status or 'none'} after {a.seconds:.1f} s" for a in answers)
    return Check(what, f"{told}; {rows} in the journal", "agree", right)


def configure(stage: Stage, setting: str):
    stage.postgres.sql(f"ALTER SYSTEM {setting}; SELECT pg_reload_conf();")


async def until_served(clients: Clients, approach: str, user: int):
    """Waits until a change of this user is accepted. All earlier changes have ended by then."""
    for _ in range(20):
        answer = await clients.change(approach, user)
        if answer.status == 200:
            return
        await asyncio.sleep(0.5)
    raise Failed(f"{approach} answers {answer.status or 'nothing'} while nothing is broken")


def approach_names(address: str) -> list[str]:
    paths = json.loads(get(address, "/openapi.json", PATIENCE_SECONDS))["paths"]
    parameters = paths["/approach/{approach}/balance"]["patch"]["parameters"]
    return next(each["schema"]["enum"] for each in parameters if each["name"] == "approach")
