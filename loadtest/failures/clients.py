"""HTTP clients on raw sockets. Every change gets an `Answer`, even if the service sends none."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import math
import re
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

# Without this pause, refused clients would keep the processors busy with refusals.
PAUSE_SECONDS = 0.1
AMOUNT = 1


@dataclass(frozen=True)
class Answer:
    """The answer to one change. Times are those of the monotonic clock."""

    user: int
    # 0 if there was no answer, for any reason.
    status: int
    sent: float
    answered: float

    @property
    def seconds(self) -> float:
        return self.answered - self.sent


class Clients:
    """Clients of one service. They share connections. A connection serves one client at a time."""

    def __init__(self, address: str, patience_seconds: float = 30):
        self._port = urlsplit(address).port
        self._patience_seconds = patience_seconds
        self._idle: list[socket.socket] = []
        # After this time, no client waits for an answer.
        self.give_up_at = math.inf

    async def change(self, approach: str, user: int, key: str = "", due: float = 0.0) -> Answer:
        """Sends one change. `due` is its scheduled time, from which the latency is measured."""
        sent = due or time.monotonic()
        body = json.dumps({"userId": user, "amount": AMOUNT})
        keyed = f'idempotency-key: "{key}"\r\n' if key else ""
        request = (
            f"PATCH /approach/{approach}/balance HTTP/1.1\r\nhost: x\r\n{keyed}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        )
        return Answer(user, await self.status(request), sent, time.monotonic())

    async def status(self, request: str) -> int:
        """The status of the answer to a request; 0 if there is none, for any reason."""
        patience_seconds = min(self._patience_seconds, self.give_up_at - time.monotonic())
        try:
            return await asyncio.wait_for(self._exchange(request.encode()), patience_seconds)
        except (OSError, asyncio.TimeoutError):
            return 0

    async def _exchange(self, request: bytes) -> int:
        connection = self._idle.pop() if self._idle else await connect(self._port)
        reusable = False
        try:
            status, reusable = await exchange(connection, request)
            return status
        finally:
            if reusable:
                self._idle.append(connection)
            else:
                connection.close()


async def closed_loop(clients: Clients, approach: str, user: int, keys, stop) -> list[Answer]:
    """Changes one user repeatedly until `stop` is set, each time after the previous answer."""
    answers = []
    while not stop.is_set():
        answers.append(await clients.change(approach, user, next(keys)))
        if answers[-1].status != 200:
            await asyncio.sleep(PAUSE_SECONDS)
    return answers


async def open_loop(
    clients: Clients, approach: str, users: range, keys, stop, per_second: int
) -> list[Answer]:
    """Changes users in turn at a fixed rate until `stop` is set, without waiting for answers."""
    sending = []
    begun = time.monotonic()
    for number, user in enumerate(itertools.cycle(users)):
        due = begun + number / per_second
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if stop.is_set():
            return await asyncio.gather(*sending)
        sending.append(asyncio.create_task(clients.change(approach, user, next(keys), due)))


async def connect(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return connection


async def exchange(connection: socket.socket, request: bytes) -> tuple[int, bool]:
    """The status of the answer, and whether the connection can be used again."""
    await asyncio.get_running_loop().sock_sendall(connection, request)
    return await read_answer(connection)


async def read_answer(connection: socket.socket) -> tuple[int, bool]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += await receive(connection)
    head, body = received.split(b"\r\n\r\n", 1)
    head = head.decode("latin-1").lower()
    length = re.search(r"\r\ncontent-length: *(\d+)", head)
    missing = int(length.group(1)) - len(body) if length else 0
    while missing > 0:
        missing -= len(await receive(connection))
    reusable = length is not None and "\r\nconnection: close" not in head
    return int(head.split(" ", 2)[1]), reusable


async def receive(connection: socket.socket) -> bytes:
    part = await asyncio.get_running_loop().sock_recv(connection, 65_536)
    if not part:
        raise ConnectionResetError("closed without a whole answer")
    return part


def get(address: str, path: str, seconds: float) -> bytes:
    """Gets the body over a new connection. Blocks. Raises if there is no 200 in time."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"GET {path} was answered with {answer.status}")
        return answer.read()
    except http.client.HTTPException as why:
        raise OSError(f"GET {path}: {why!r}") from None
    finally:
        connection.close()
