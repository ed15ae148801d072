"""What a run costs: processor time, memory, flushes of the log, batches."""

from __future__ import annotations

import os
import re
import resource
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from hot.arena import Arena
from hot.postgres import Postgres
from hot.processes import Process

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
# Writing this resets the peak of a process's memory to what it uses now.
RESET_PEAK = "5"


@dataclass(frozen=True)
class Spent:
    """Processor seconds since the start of each part."""

    service: float
    database: float
    loader: float

    def since(self, earlier: Spent, requests: int) -> dict[str, float]:
        """Microseconds of processor time for each request."""
        return {
            part: per_request_us(getattr(self, part) - getattr(earlier, part), requests)
            for part in ("service", "database", "loader")
        }


def per_request_us(seconds: float, requests: int) -> float:
    return seconds * 1e6 / requests


def spent(arena: Arena, service: Process | None) -> Spent:
    """Also counts processes that have ended, as soon as their parent has taken note."""
    parents = stats()
    return Spent(
        processor_seconds(parents, service.pid) if service else 0.0,
        processor_seconds(parents, arena.postgres.pid),
        loader_seconds(),
    )


def loader_seconds() -> float:
    """All programs that this one has run and that ended: wrk, pgbench, the tester."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stats() -> dict[int, tuple[int, float]]:
    """The parent of each process, and its processor seconds with those of its dead children."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            found[int(folder.name)] = parse_stat((folder / "stat").read_text())
        except (OSError, ValueError):
            continue  # it has just ended
    return found


def parse_stat(line: str) -> tuple[int, float]:
    """The parent, and the seconds. The name in parentheses may contain anything."""
    fields = line.rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15])) / TICKS


def tree(parents: dict[int, tuple[int, float]], root: int) -> set[int]:
    """The process and all that it started."""
    members, size = {root}, 0
    while len(members) > size:
        size = len(members)
        members |= {pid for pid, (parent, _) in parents.items() if parent in members}
    return members


def processor_seconds(parents: dict[int, tuple[int, float]], root: int) -> float:
    return sum(parents[pid][1] for pid in tree(parents, root) if pid in parents)


def reset_memory_peak(process: Process):
    for pid in tree(stats(), process.pid):
        try:
            (PROC / str(pid) / "clear_refs").write_text(RESET_PEAK)
        except OSError:
            continue


def memory_peak_mb(process: Process) -> float | None:
    """The sum over the processes of the service, in units of 1,000,000 bytes."""
    peaks = []
    for pid in tree(stats(), process.pid):
        try:
            status = (PROC / str(pid) / "status").read_text()
        except OSError:
            continue
        if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
            peaks.append(int(found.group(1)) * 1024 / 1e6)
    return sum(peaks) if peaks else None


def flushes_query(postgres: Postgres) -> str:
    """Where the server counts how often it flushed its log."""
    if int(postgres.version.split(".")[0]) >= 18:
        return "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'"
    return "SELECT wal_sync FROM pg_stat_wal"


def batches(address: str, name: str) -> dict[str, int]:
    """The counts of a histogram of the service, by upper bound: of each bucket alone."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        return parse_buckets(answer.read().decode(), name)


def parse_buckets(text: str, name: str) -> dict[str, int]:
    cumulative = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} (\d+)$', text, re.MULTILINE)
    counts, below = {}, 0
    for bound, count in cumulative:
        counts[bound] = int(count) - below
        below = int(count)
    return counts
