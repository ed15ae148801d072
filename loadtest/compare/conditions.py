"""The machine, the versions, and the settings of the database."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from statistics import median

from hot import processes, report
from hot.arena import Arena
from hot.processes import Failed

from . import peers
from .rounds import Plan

DURABILITY = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "wal_level",
    "commit_delay",
    "shared_buffers",
    "max_wal_size",
)
BLOCK = b"\0" * 8192


def conditions(arena: Arena, plan: Plan) -> dict[str, str]:
    """The conditions that matter for comparing these figures with others."""
    names = ", ".join(f"'{name}'" for name in DURABILITY)
    rows = arena.postgres.sql(
        f"SELECT name || ' ' || current_setting(name) FROM pg_settings"
        f" WHERE name IN ({names}) ORDER BY name"
    )
    return report.conditions(arena, plan.rounds, plan.seconds) | {
        "runs": plan.words(),
        "memory": memory(),
        "durability": ", ".join(rows),
        "file system": file_system(arena.folder) or "unknown",
        "a flush of 8 kB": f"{flush_ms(arena.folder):.2f} ms (fdatasync, median)",
        "load": f"{os.getloadavg()[0]:.1f} before the first run",
        "versions": ", ".join(versions(arena)),
    }


def memory() -> str:
    listing = Path("/proc/meminfo")
    text = listing.read_text() if listing.exists() else ""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return f"{int(found.group(1)) / 1024**2:.0f} GiB" if found else "unknown"


def check_disk(folder: Path):
    """In memory, a commit costs nothing, and nothing is durable."""
    if (kind := file_system(folder)) in ("tmpfs", "ramfs"):
        raise Failed(f"{folder} is in memory ({kind}): set TMPDIR to a folder on a disk")


def file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The kind of the file system that a folder is on. None where there is no such list."""
    if not mounts.exists():
        return None
    found = {}
    for line in mounts.read_text().splitlines():
        _, point, kind, *_ = line.split(" ")
        # The last one at a point hides those before.
        found[Path(point.encode().decode("unicode_escape"))] = kind
    resolved = folder.resolve()
    return next(found[each] for each in (resolved, *resolved.parents) if each in found)


def flush_ms(folder: Path) -> float:
    """How long the disk takes to make a block durable. A commit takes at least as long."""
    times = []
    with (folder / "flush").open("wb") as file:
        for _ in range(50):
            file.write(BLOCK)
            file.flush()
            begun = time.monotonic()
            os.fsync(file.fileno()) if not hasattr(os, "fdatasync") else os.fdatasync(file.fileno())
            times.append(time.monotonic() - begun)
    return median(times) * 1e3


def versions(arena: Arena) -> list[str]:
    """Of everything that took part."""
    return [
        first_line("Node", ["node", "--version"]),
        *npm_versions(),
        first_line("Python", [peers.FOLDER / "fastapi-sqlalchemy/.venv/bin/python", "--version"]),
        *pip_versions(),
        first_line("wrk", ["wrk", "-v"], fine=(0, 1)),
        first_line("nginx", ["nginx", "-v"]),
        first_line("plimsoll", [arena.programs / "plimsoll", "--version"]),
    ]


def first_line(name: str, command: list, fine: tuple = (0,)) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    env = {**os.environ, "PATH": path}
    try:
        # nginx and wrk say it on standard error.
        quoted = " ".join(f"'{word}'" for word in command)
        said = processes.run(["sh", "-c", f"{quoted} 2>&1"], 20, fine=fine, env=env)
    except Failed:
        return f"{name} ?"
    number = re.search(r"\d+(\.\d+)+", said)
    return f"{name} {number.group() if number else '?'}"


def npm_versions() -> list[str]:
    package = (peers.FOLDER / "express-sequelize/package.json").read_text()
    return [f"{name} {version}" for name, version in pinned(package, r'"(\w+)": "([\d.]+)"')]


def pip_versions() -> list[str]:
    wanted = {"fastapi", "sqlalchemy", "asyncpg", "uvicorn"}
    text = (peers.FOLDER / "fastapi-sqlalchemy/requirements.txt").read_text()
    found = pinned(text, r"^(\S+)==(\S+)$")
    return [f"{name} {version}" for name, version in found if name.lower() in wanted]


def pinned(text: str, pattern: str) -> list[tuple[str, str]]:
    return [pair for pair in re.findall(pattern, text, re.MULTILINE) if pair[0] != "version"]
