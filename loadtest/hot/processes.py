"""The benchmark's processes: each is started with a log file, and ended by its own id."""

from __future__ import annotations

import os
import pwd
import re
import resource
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

LOOK_EVERY_SECONDS = 0.02
# Applies if the system sets no limit. Enough for every load.
OPEN_FILES_MAX = 65_536


class Failed(Exception):
    """A part of the benchmark failed. The message is one line, for people."""


class Violated(Failed):
    """The database's invariants do not hold."""


class Process:
    """A process that runs until the stack that it was started on is closed."""

    def __init__(self, name: str, child: subprocess.Popen, log: Path):
        self.name = name
        self.pid = child.pid
        self.address = ""
        self._child = child
        self._log = log
        self._read_up_to = 0

    def new_log_lines(self) -> list[str]:
        """The lines logged since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._read_up_to)
            text = log.read()
        self._read_up_to += len(text)
        return text.decode(errors="replace").splitlines()

    def wait_until(self, ready, seconds: float):
        """Returns the result of `ready()` as soon as it is true."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            if answer := ready():
                return answer
            if self._child.poll() is not None:
                raise Failed(f"{self.name} ended at once: {self._last_words()}")
            time.sleep(LOOK_EVERY_SECONDS)
        raise Failed(f"{self.name} was not ready within {seconds:g} s: {self._last_words()}")

    def wait_for_address(self, seconds: float):
        """Waits until it logs the address on which it listens, and sets `address`."""

        def address():
            return re.search(r"listening on (http://\S+)", self._log.read_text(errors="replace"))

        self.address = self.wait_until(address, seconds).group(1)

    def memory_peak_mb(self) -> float:
        """The peak of its memory, in units of 1,000,000 bytes."""
        status = Path(f"/proc/{self.pid}/status")
        if not status.exists():
            raise Failed("there is no /proc on this system to read the peak of memory from")
        peak = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        return int(peak.group(1)) * 1024 / 1e6

    def end(self, how: int, seconds: float):
        """Sends the signal `how`, and kills the process if it still runs after `seconds`."""
        if self._child.poll() is not None:
            return
        self._child.send_signal(how)
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def start(
    stack: ExitStack,
    name: str,
    command: list,
    log: Path,
    env: dict[str, str],
    user: pwd.struct_passwd | None = None,
    end_by: int = signal.SIGTERM,
    end_seconds: float = 20,
    cwd: Path | None = None,
) -> Process:
    """Starts a process that ends with the stack.

    It has its own session, so that a Ctrl-C in the terminal reaches only the benchmark, which then
    ends all processes in order.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd or log.parent,
            start_new_session=True,
            **as_user(user),
        )
    process = Process(name, child, log)
    stack.callback(process.end, end_by, end_seconds)
    return process


def run(command: list, seconds: float, stdin: str = "", fine: tuple = (0,), **options) -> str:
    """Runs a command and returns its standard output. Raises on exit codes other than `fine`."""
    name = Path(str(command[0])).name
    try:
        ended = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            start_new_session=True,
            **options,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} did not end within {seconds:g} s") from None
    except OSError as why:
        raise Failed(f"{name} cannot be run: {why}") from None
    if ended.returncode not in fine:
        said = (ended.stderr.strip() or ended.stdout.strip() or "it said nothing").splitlines()
        raise Failed(f"{name} ended with {ended.returncode}: {' / '.join(said[-5:])}")
    return ended.stdout


def as_user(user: pwd.struct_passwd | None) -> dict:
    """The options that start a process as this user, without the current user's groups."""
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def bare_environment(**variables: str) -> dict[str, str]:
    """An environment without variables of the caller that could change the measurement."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C", **variables}


def raise_open_files() -> int:
    """Raises the limit of open files to its maximum, for all processes started later."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files


def accepts(port: int) -> bool:
    """Whether a server listens on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
