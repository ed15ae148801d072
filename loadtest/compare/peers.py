"""Installs what the peers need, each in its folder, and starts them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from hot import processes
from hot.arena import Arena
from hot.processes import Failed, Process

FOLDER = Path(__file__).resolve().parent.parent / "peers"
INSTALL_SECONDS = 600

# The command of each peer, in its folder.
COMMANDS = {
    "express-sequelize": ["node", "server.js"],
    "fastapi-sqlalchemy": [".venv/bin/python", "-B", "server.py"],
}


def install(name: str):
    """What the two lines in the peer's README do first. Nothing if it is there already."""
    folder = FOLDER / name
    if name == "express-sequelize":
        require("node", "npm")
        lock, installed = folder / "package-lock.json", folder / "node_modules"
        if not up_to_date(lock, installed):
            command = ["npm", "ci", "--no-audit", "--no-fund"]
            processes.run(command, INSTALL_SECONDS, cwd=folder)
            mark(installed)
    if name == "fastapi-sqlalchemy":
        lock, installed = folder / "requirements.txt", folder / ".venv"
        if not up_to_date(lock, installed):
            processes.run([sys.executable, "-m", "venv", installed], INSTALL_SECONDS)
            pip = [installed / "bin/python", "-m", "pip", "install", "--quiet", "-r", lock]
            processes.run(pip, INSTALL_SECONDS)
            mark(installed)


def up_to_date(lock: Path, installed: Path) -> bool:
    stamp = installed / ".installed"
    return stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime


def mark(installed: Path):
    (installed / ".installed").touch()


def require(*names: str):
    for name in names:
        if not shutil.which(name):
            raise Failed(f"{name} is not installed: scripts/setup node")


def started(arena: Arena, name: str) -> Process:
    """The peer's server, which is started on its first use."""
    if name not in arena.peers:
        arena.peers[name] = start(arena, name)
    return arena.peers[name]


def start(arena: Arena, name: str) -> Process:
    port = processes.free_port()
    env = processes.bare_environment(PORT=str(port), **arena.postgres.environment())
    first, *rest = COMMANDS[name]
    folder = FOLDER / name
    program = folder / first if "/" in first else first
    log = arena.folder / f"{name}.log"
    process = processes.start(arena.stack, name, [program, *rest], log, env, cwd=folder)
    process.wait_until(lambda: processes.accepts(port), seconds=60)
    process.address = f"http://127.0.0.1:{port}"
    return process
