"""A database that goes away under load, and one whose disk is full: each answer is honest, nothing hangs,
and the service goes on by itself."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import signal
import subprocess
import time
from collections import Counter

from hot import processes
from hot.processes import Failed

from .check import Check, by_status, within
from .clients import Answer, Clients, open_loop
from .keys import until_served
from .sessions import APPROACHES
from .stage import Stage

USERS = range(1, 9)
PER_SECOND = 100
BEFORE_SECONDS, AWAY_SECONDS, AFTER_SECONDS = 2, 5, 3
PROBE_EVERY_SECONDS = 0.02
# A request in flight is answered with 504 at the latest after ANSWER_TIMEOUT_SECS; nothing else waits
# for a database whose port is closed.
ANSWER_SECONDS_WANTED = 10
RECOVERY_SECONDS_WANTED = 1

DISK_MB = 16
TABLE = "balance_changes"


async def database_away(stage: Stage) -> list[Check]:
    address = stage.start_service().address
    clients = Clients(address)
    for approach in APPROACHES:
        await until_served(clients, approach, USERS[0])
    stop, keys = asyncio.Event(), itertools.repeat("")
    loads = [
        asyncio.create_task(open_loop(clients, each, USERS, keys, stop, PER_SECOND))
        for each in APPROACHES
    ]
    await asyncio.sleep(BEFORE_SECONDS)
    await asyncio.to_thread(stage.postgres.end, signal.SIGKILL)
    gone = time.monotonic()
    await asyncio.sleep(AWAY_SECONDS / 2)
    ready, healthy = await probe(clients, "/readyz"), await probe(clients, "/healthz")
    await asyncio.sleep(AWAY_SECONDS / 2)
    await asyncio.to_thread(stage.postgres.start)
    back = time.monotonic()
    while await probe(clients, "/readyz") != 200:
        await asyncio.sleep(PROBE_EVERY_SECONDS)
    readied = time.monotonic()
    await asyncio.sleep(AFTER_SECONDS)
    stop.set()
    found = [
        Check("GET /readyz, /healthz while it is away", f"{ready}, {healthy}", "503, 200",
              (ready, healthy) == (503, 200)),
        within("GET /readyz is 200 again after", readied - back, RECOVERY_SECONDS_WANTED),
    ]
    for approach, load in zip(APPROACHES, loads):
        found += judge_away(approach, await load, gone, back)
    return found


def judge_away(approach: str, answers: list[Answer], gone: float, back: float) -> list[Check]:
    away = [each for each in answers if each.answered > gone and each.sent < back]
    slowest = max(each.seconds for each in away)
    statuses = Counter(each.status for each in away)
    accepted = [each.answered for each in answers if each.status == 200 and each.sent > back]
    recovery = min(accepted) - back if accepted else math.inf
    # A change may have been answered as the database died, or as it came back.
    honest = set(statuses) <= {200, 503, 504} and statuses[503] > 0
    told = by_status([each.status for each in away])
    return [
        Check(f"answers of {approach} while it is away", told, "503, 504", honest),
        within(f"slowest of them, {approach}", slowest, ANSWER_SECONDS_WANTED),
        within(f"200 again through {approach} after", recovery, RECOVERY_SECONDS_WANTED),
    ]


async def probe(clients: Clients, path: str) -> int:
    return await clients.status(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")


async def disk_full(stage: Stage) -> list[Check]:
    """The journal is on a disk of its own, which fills up. (A disk without room for the WAL stops
    PostgreSQL, which is the scenario above.)"""
    clients = Clients(stage.start_service().address)
    for approach in APPROACHES:
        await until_served(clients, approach, USERS[0])
    disk = small_disk(stage)
    place = f"CREATE TABLESPACE small LOCATION '{disk}'; ALTER TABLE {TABLE} SET TABLESPACE small;"
    stage.postgres.sql(place)
    stage.stack.callback(
        stage.postgres.sql,
        f"ALTER TABLE {TABLE} SET TABLESPACE pg_default; DROP TABLESPACE small;",
    )
    filler = disk / "filler"
    fill(filler)
    # The table grows page by page; what is left of its last one is used first.
    answers = []
    for approach, user in itertools.product(APPROACHES, USERS):
        for _ in range(100):
            answers.append(await clients.change(approach, user))
            if answers[-1].status != 200:
                break
    told = {each.status for each in answers[-len(APPROACHES):]}
    filler.unlink()
    for approach, user in itertools.product(APPROACHES, USERS):
        await until_served(clients, approach, user)
    return [
        Check("answers on a full disk", by_status([each.status for each in answers]), "503",
              told == {503} and {each.status for each in answers} <= {200, 503}),
        Check("room again", "200 through all", "200", True),
    ]


def small_disk(stage: Stage):
    """A file system in memory, which PostgreSQL's user can write to."""
    if os.geteuid() != 0:
        raise Failed("disk-full mounts a file system, which needs root: leave it out with --only")
    disk = stage.folder / "disk"
    disk.mkdir(exist_ok=True)
    owner = (stage.folder / "cluster").stat()
    options = f"size={DISK_MB}m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    processes.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], seconds=10)
    stage.stack.callback(subprocess.run, ["umount", "--lazy", disk], check=False)
    return disk


def fill(file):
    with file.open("wb", buffering=0) as filler:
        block = bytes(4096)
        try:
            while True:
                filler.write(block)
        except OSError:
            pass
