"""The frame of a benchmark's command: exit codes, signals, and an orderly shutdown."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, contextmanager

from .processes import Failed, Violated

ENDING = (signal.SIGINT, signal.SIGTERM)


def run(name: str, body) -> int:
    """Runs `body(stack)`, which returns whether all targets are met. Returns the exit code."""
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)
    try:
        with ended_in_order() as stack:
            met = body(stack)
    except Violated as why:
        print(f"{name}: {why}", file=sys.stderr)
        return 1
    except Failed as why:
        print(f"{name}: {why}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 0 if met else 1


@contextmanager
def ended_in_order():
    """A stack whose closing is not interrupted: a signal takes effect after the stack is closed."""
    try:
        with ExitStack() as stack:
            try:
                yield stack
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
