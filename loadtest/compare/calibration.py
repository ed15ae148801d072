"""Checks the open-loop generator on a server that stalls, before anything is measured with it.

A generator that waits for answers would see only a few slow ones: a request for each connection.
"""

from __future__ import annotations

import json
import socketserver
import threading
import time
from pathlib import Path

from hot import processes
from hot.processes import Failed

RATE, SECONDS, CONNECTIONS = 200, 2, 8
# Since the first request. The generator's first second is its warm-up.
STALL_AT, STALL_SECONDS = 1.5, 0.8
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"balance":1}'


class Stalling(socketserver.ThreadingTCPServer):
    """Answers at once, except in the stall."""

    allow_reuse_address = daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self._begun = None
        self._lock = threading.Lock()

    def wait(self):
        with self._lock:
            self._begun = self._begun or time.monotonic()
        since = time.monotonic() - self._begun
        if STALL_AT <= since < STALL_AT + STALL_SECONDS:
            time.sleep(STALL_AT + STALL_SECONDS - since)


class Handler(socketserver.BaseRequestHandler):
    """Each request is one segment, and small."""

    def handle(self):
        while self.request.recv(4096):
            self.server.wait()
            self.request.sendall(ANSWER)


def check(programs: Path):
    """Raises if the generator does not report the stall."""
    with Stalling() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = "{}:{}".format(*server.server_address)
        command = [programs / "examples" / "open_loop", address, "/", 1, -2, RATE, SECONDS, CONNECTIONS]
        found = json.loads(processes.run(command, seconds=60))
        server.shutdown()
    if problem := wrong(found):
        raise Failed(f"the open-loop generator is not to be trusted: {problem}")


def wrong(found: dict) -> str | None:
    """What contradicts the stall. None if nothing does."""
    latency = {percent: micros / 1e6 for percent, micros in found["latency_us"]}
    sending = {percent: micros / 1e6 for percent, micros in found["from_sending_us"]}
    if found["requests"] != RATE * SECONDS or found["unanswered"]:
        return f"{found['requests']} requests, {found['unanswered']} of them unanswered"
    if latency[100.0] < 0.9 * STALL_SECONDS:
        return f"it saw {latency[100.0]:.3f} s of a stall of {STALL_SECONDS} s"
    # Of all requests, 40 % were due in the stall, and 20 % in its first half.
    if latency[90.0] < 0.5 * STALL_SECONDS:
        return f"its 90th percentile is {latency[90.0]:.3f} s"
    if any(sending[percent] > latency[percent] for percent in latency):
        return "a request was answered faster since it was due than since it was sent"
    return None
