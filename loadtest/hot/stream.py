"""Streams changes to the service with curl, which reads the answers while it sends."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from .account import HOT_USER
from .processes import Failed, bare_environment

LINE = b'{"userId":%d,"amount":-2}\n' % HOT_USER
LINES_OF_A_PIECE = 10_000
ACCEPTED = b'{"balance":'
READ_BYTES = 1 << 20
SECONDS_MAX = 600


def send(folder: Path, url: str, lines: int) -> float:
    """The seconds until the last answer. Raises unless every line was accepted."""
    curl = shutil.which("curl")
    if not curl:
        raise Failed("curl is not installed: scripts/setup curl")
    changes = folder / "changes.ndjson"
    write_changes(changes, lines)
    command = [curl, "--silent", "--show-error", "--no-buffer", "--fail", "--request", "POST"]
    command += ["--header", "Content-Type: application/x-ndjson", "--header", "Expect:"]
    command += ["--max-time", str(SECONDS_MAX), "--upload-file", str(changes), url]
    begun = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=bare_environment(),
        start_new_session=True,
    ) as child:
        answered, accepted = count(child.stdout)
        said = child.stderr.read().decode(errors="replace").strip()
    took = time.monotonic() - begun
    if child.returncode or answered != lines or accepted != lines:
        raise Failed(
            f"of {lines} lines {answered} were answered, {accepted} of them with a balance;"
            f" curl ended with {child.returncode} {said}"
        )
    return took


def write_changes(path: Path, lines: int):
    """Writes the lines, unless the file has them from an earlier run."""
    if path.exists() and path.stat().st_size == lines * len(LINE):
        return
    with path.open("wb") as file:
        for _ in range(lines // LINES_OF_A_PIECE):
            file.write(LINE * LINES_OF_A_PIECE)
        file.write(LINE * (lines % LINES_OF_A_PIECE))


def count(answers) -> tuple[int, int]:
    """How many lines there are, and how many have a balance."""
    answered = accepted = 0
    # The end of the last piece, in which the beginning of a line may be.
    rest = b""
    while piece := answers.read1(READ_BYTES):
        answered += piece.count(b"\n")
        piece = rest + piece
        accepted += piece.count(ACCEPTED)
        rest = piece[1 - len(ACCEPTED) :]
    return answered, accepted
