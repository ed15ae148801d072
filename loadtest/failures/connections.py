"""Clients that keep connections without complete requests: the service must use little memory and
must still answer others."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from urllib.parse import urlsplit

from hot.processes import Failed

from .check import Check, by_status, within
from .clients import connect, exchange, get, read_answer
from .stage import Stage

HEADS = 10_000
HEAD = b"GET /healthz HTTP/1.1\r\nhost: x\r\nendless: ".ljust(400_000, b"x")
HEADS_SECONDS_MAX = 15
MEMORY_MB_MAX = 300
IDLE = 4_096
HEALTH_SECONDS_WANTED = 1
HEALTH_SECONDS_MAX = 5
CONNECTING_AT_ONCE = 256
# Files that service and scenario have open besides these connections.
OTHER_FILES = 500


async def endless_heads(stage: Stage) -> list[Check]:
    count = min(HEADS, stage.open_files - OTHER_FILES)
    limited = "" if count == HEADS else ", the limit of open files"
    service = stage.start_service()
    connections = await connect_many(service.address, count)
    over = threading.Event()
    # In a thread, because in the event loop its other work would be measured as well.
    slowest_health = asyncio.create_task(asyncio.to_thread(watch_health, service.address, over))
    try:
        statuses = await asyncio.gather(*map(send_head, connections))
    finally:
        over.set()
    peak_mb = service.memory_peak_mb()
    memory = f"peak of memory ({count:,} connections{limited})"
    close_all(connections)
    return [
        Check(memory, f"{peak_mb:.0f} MB", f"< {MEMORY_MB_MAX} MB", peak_mb < MEMORY_MB_MAX),
        within("slowest GET /healthz meanwhile", await slowest_health, HEALTH_SECONDS_WANTED),
        Check("answers to the heads", by_status(statuses), "431", set(statuses) == {431}),
    ]


async def idle_connections(stage: Stage) -> list[Check]:
    if stage.open_files < IDLE + OTHER_FILES:
        raise Failed(f"{IDLE + OTHER_FILES} open files are needed: see ulimit -Hn")
    service = stage.start_service(MAX_CONNECTIONS=str(IDLE))
    checks = []
    for what, used in (("never used", False), ("used before", True)):
        connections = await connect_many(service.address, IDLE, used)
        # There is no signal that the service has accepted an unused connection.
        await asyncio.sleep(1)
        seconds = await asyncio.to_thread(health_seconds, service.address)
        close_all(connections)
        title = f"GET /healthz beside {IDLE:,} connections {what}"
        checks.append(within(title, seconds, HEALTH_SECONDS_WANTED))
    return checks


async def connect_many(address: str, count: int, use: bool = False) -> list[socket.socket]:
    """Opens `count` connections. If `use` is true, sends one request on each."""
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def open_one() -> socket.socket:
        async with gate:
            connection = await connect(urlsplit(address).port)
            if use:
                await exchange(connection, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            return connection

    return await asyncio.gather(*(open_one() for _ in range(count)))


async def send_head(connection: socket.socket) -> int:
    """Sends a head without an end. Returns the status of the answer, or 0 if there was none."""
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(connection, HEAD))
    try:
        status, _ = await asyncio.wait_for(read_answer(connection), HEADS_SECONDS_MAX)
    except (OSError, asyncio.TimeoutError):
        status = 0
    sending.cancel()
    # Sending fails if the service has closed the connection. The answer says why it did.
    await asyncio.gather(sending, return_exceptions=True)
    return status


def watch_health(address: str, over: threading.Event) -> float:
    """The time of the slowest answer until `over` is set."""
    slowest = health_seconds(address)
    while not over.wait(0.2):
        slowest = max(slowest, health_seconds(address))
    return slowest


def health_seconds(address: str) -> float:
    begun = time.monotonic()
    try:
        get(address, "/healthz", HEALTH_SECONDS_MAX)
    except OSError:
        return math.inf
    return time.monotonic() - begun


def close_all(connections: list[socket.socket]):
    for connection in connections:
        connection.close()
