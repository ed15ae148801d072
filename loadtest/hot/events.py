"""Sides with streams of events beside the load."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from .arena import Arena
from .processes import Failed, bare_environment
from .sides import Approach

SECONDS_MAX = 60


@dataclass(frozen=True)
class Watched:
    """The load of another side, while streams watch a user who is changed at a fixed rate."""

    name: str
    under: Approach
    user: int
    streams: int
    rate: int = 0
    unit: str = "/s"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        with watchers(arena, self.user, self.streams, self.rate):
            return self.under.measure(arena, seconds)


@contextmanager
def watchers(arena: Arena, user: int, streams: int, rate: int):
    """Streams that watch the user. At the end, each of them must have seen each entry once."""
    address = urlsplit(arena.socket_service.address).netloc
    child = subprocess.Popen(
        [str(word) for word in (arena.watchers, address, user, streams, rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=bare_environment(),
        start_new_session=True,
    )
    try:
        if "are open" not in child.stdout.readline():
            raise Failed(f"watchers: {child.stderr.read().strip()}")
        yield
        said, complaint = child.communicate("", timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise Failed(f"watchers did not end within {SECONDS_MAX} s") from None
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        raise Failed(f"watchers: {complaint.strip()}")
    seen = json.loads(said)
    if seen["failed"] or seen["gaps"] or seen["behind"] or (streams and not seen["events"]):
        raise Failed(f"watchers: {seen}")
