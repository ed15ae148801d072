"""Restarts under load: no request is dropped, and behind nginx nobody notices."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from hot import nginx, processes

from .check import Check, by_status
from .clients import connect, exchange
from .stage import Stage

RESTARTS = 50
ROLLS = 5
LOAD_SECONDS = 0.4
USERS = range(1, 21)
# Some clients hurry, some wait between connecting and sending.
PAUSES_SECONDS = (0, 0, 0, 0.02, 0.1)
# The first packet of a connection that comes too late is dropped.
CONNECT_SECONDS_MAX = 0.5
STOP_SECONDS_MAX = 30


@dataclass
class Seen:
    """What clients got to see."""

    statuses: Counter = field(default_factory=Counter)
    # Requests that were sent, and whose connection ended without an answer.
    dropped: int = 0


async def restarts(stage: Stage) -> list[Check]:
    seen, announced = Seen(), 0
    service = stage.start_service()
    for _ in range(RESTARTS):
        port = urlsplit(service.address).port
        clients = [
            asyncio.create_task(until_refused(port, user, number, seen))
            for number, user in enumerate(itertools.islice(itertools.cycle(USERS), 60))
        ]
        await asyncio.sleep(LOAD_SECONDS)
        ending = asyncio.create_task(asyncio.to_thread(service.end, signal.SIGTERM, STOP_SECONDS_MAX))
        announced += await is_announced(port)
        await asyncio.gather(*clients)
        await ending
        service = stage.launch("service.log")
    entries = journal_entries(stage)
    return [
        Check("requests without an answer", f"{seen.dropped:,}", "0", seen.dropped == 0),
        Check(f"answers under {RESTARTS} x SIGTERM", by_status(list(seen.statuses.elements())),
              "200", set(seen.statuses) == {200}),
        Check("entries in the journal for them", f"{entries:,}", f"{seen.statuses[200]:,}",
              entries == seen.statuses[200]),
        Check("GET /readyz failed first", f"{announced} times", f"{RESTARTS} times",
              announced == RESTARTS),
    ]


async def until_refused(port: int, user: int, number: int, seen: Seen):
    """Changes a user until no connection can be made. Every second client keeps its connection."""
    keeps, pause = number % 2 == 0, PAUSES_SECONDS[number % len(PAUSES_SECONDS)]
    while True:
        try:
            connection = await asyncio.wait_for(connect(port), CONNECT_SECONDS_MAX)
        except (OSError, asyncio.TimeoutError):
            return
        try:
            reusable = True
            while reusable:
                await asyncio.sleep(pause)
                status, reusable = await exchange(connection, change(user))
                seen.statuses[status] += 1
                reusable = reusable and keeps
        except OSError:
            seen.dropped += 1
        finally:
            connection.close()


async def is_announced(port: int) -> bool:
    """Whether GET /readyz fails while the service still accepts connections and changes."""
    for _ in range(100):
        try:
            connection = await connect(port)
            status, _ = await exchange(connection, b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
            connection.close()
        except OSError:
            return False
        if status == 503:
            return True
        await asyncio.sleep(0.005)
    return False


async def rolling_restarts(stage: Stage) -> list[Check]:
    """Two instances behind nginx, with the configuration in `deploy/nginx`."""
    ports = [processes.free_port() for _ in range(2)]
    instances = [
        stage.start_service(PORT=str(ports[0])),
        stage.launch("service-1.log", PORT=str(ports[1])),
    ]
    front = behind_nginx(stage, ports)
    stop, keyed, plain = asyncio.Event(), Seen(), Seen()
    keys = map("rolling-{}".format, itertools.count())
    clients = [
        asyncio.create_task(through_nginx(front, user, (keys if of is keyed else None), of, stop))
        for user, of in itertools.product(USERS, (keyed, plain))
    ]
    await asyncio.sleep(LOAD_SECONDS)
    for number in itertools.chain.from_iterable([range(2)] * ROLLS):
        await asyncio.to_thread(instances[number].end, signal.SIGTERM, STOP_SECONDS_MAX)
        await asyncio.sleep(LOAD_SECONDS)
        settings = {"PORT": str(ports[number])}
        instances[number] = await asyncio.to_thread(
            lambda: stage.launch(f"service-{number}.log", **settings)
        )
        await asyncio.sleep(LOAD_SECONDS)
    stop.set()
    await asyncio.gather(*clients)
    entries = journal_entries(stage)
    accepted = keyed.statuses[200] + plain.statuses[200]
    return [
        judge(f"answers with keys, {2 * ROLLS} restarts", keyed, {200}),
        judge("answers without keys", plain, {200, 503}),
        Check("entries in the journal for them", f"{entries:,}", f"{accepted:,}",
              entries == accepted),
    ]


def judge(what: str, seen: Seen, fine: set[int]) -> Check:
    told = by_status([*seen.statuses.elements(), *[0] * seen.dropped])
    wanted = ", ".join(map(str, sorted(fine)))
    return Check(what, told, wanted, set(seen.statuses) <= fine and not seen.dropped)


async def through_nginx(port: int, user: int, keys, seen: Seen, stop: asyncio.Event):
    connection = None
    while not stop.is_set():
        try:
            connection = connection or await connect(port)
            status, reusable = await exchange(connection, change(user, next(keys) if keys else ""))
            seen.statuses[status] += 1
        except OSError:
            seen.dropped, reusable = seen.dropped + 1, False
        if not reusable and connection:
            connection.close()
            connection = None
    if connection:
        connection.close()


def change(user: int, key: str = "") -> bytes:
    body = json.dumps({"amount": 1})
    keyed = f'idempotency-key: "{key}"\r\n' if key else ""
    return (
        f"PATCH /users/{user}/balance HTTP/1.1\r\nhost: x\r\n{keyed}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def journal_entries(stage: Stage) -> int:
    """The entries beyond the opening one of each user."""
    return int(stage.postgres.sql("SELECT sum(version) - count(*) FROM users")[0])


def behind_nginx(stage: Stage, ports: list[int]) -> int:
    """Starts nginx in front of these ports. Returns its own."""
    root = Path(__file__).resolve().parents[2]
    site = (root / "deploy/nginx/plimsoll.conf").read_text()
    front = processes.free_port()
    for default, port in ((3000, front), (3001, ports[0]), (3002, ports[1])):
        site = site.replace(f"127.0.0.1:{default}", f"127.0.0.1:{port}")
    nginx.start(stage.stack, stage.folder, front, site, workers="1")
    return front
