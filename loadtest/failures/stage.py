"""The environment of the scenarios: one PostgreSQL for all, and for each scenario fresh users and a
service of its own. A scenario can also hold rows and stop sessions of the database."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from hot import arena, processes
from hot.postgres import Postgres
from hot.processes import Failed, Process, Violated

from .check import Check

USERS = 2_000


@dataclass
class Stage:
    """The environment of one scenario. Closing the stack ends everything started here."""

    stack: ExitStack
    postgres: Postgres
    program: Path
    folder: Path
    # The limit of open files of a process.
    open_files: int
    _stopped: set[int] = field(default_factory=set)

    def start_service(self, **settings: str) -> Process:
        """Starts the service with its default configuration, except for these settings, on fresh users."""
        service = self.launch("service.log", **settings)
        self.postgres.sql(arena.fresh_database(USERS))
        return service

    def launch(self, log: str, **settings: str) -> Process:
        """Starts the service on the users that are there."""
        url = self.postgres.url(over_tcp=False)
        env = processes.bare_environment(**{"DATABASE_URL": url, "PORT": "0", **settings})
        command = [self.program]
        service = processes.start(self.stack, "plimsoll", command, self.folder / log, env)
        service.wait_for_address(seconds=60)
        return service

    def verify(self) -> Check:
        """Checks with `plimsoll verify` that the journal explains every balance."""
        try:
            arena.verify(self.program, self.postgres, self.folder)
        except Violated as why:
            return Check("verify", " ".join(str(why).split()), "pass", False)
        return Check("verify", "pass", "pass", True)

    def journal_rows(self, key: str) -> int:
        """The number of changes that were applied with this key."""
        return int(self.postgres.sql(f"SELECT count(*) FROM balance_changes WHERE key = '{key}'")[0])

    def hold_rows(self, users: range) -> Callable[[], float]:
        """Locks the rows of these users in a foreign transaction. The returned function ends the
        transaction and returns the time at which it did so."""
        psql = subprocess.Popen(
            [str(word) for word in self.postgres.psql()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=processes.bare_environment(),
            text=True,
            start_new_session=True,
        )

        def release() -> float:
            released = time.monotonic()
            psql.terminate()
            psql.wait()
            return released

        self.stack.callback(release)
        rows = f"SELECT FROM users WHERE id BETWEEN {users[0]} AND {users[-1]} FOR UPDATE"
        limits = "SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '10s';"
        psql.stdin.write(f"{limits} BEGIN; SELECT count(*) FROM ({rows}) held;\n")
        psql.stdin.flush()
        if psql.stdout.readline().strip() != str(len(users)):
            raise Failed("the rows could not be locked")
        return release

    def stop_sessions(self):
        """Stops every session of the service with SIGSTOP. Closing the stack kills them."""
        if not self._stopped:
            self.stack.callback(self._kill_stopped_sessions)
        # Repeated, because the service may already have replaced a stopped session. The server's
        # max_connections bounds the loop.
        while fresh := self._sessions() - self._stopped:
            signal_all(fresh, signal.SIGSTOP)
            self._stopped |= fresh

    def _kill_stopped_sessions(self):
        # A stopped process does not exit, so its id cannot belong to another process.
        signal_all(self._sessions() & self._stopped, signal.SIGKILL)

    def _sessions(self) -> set[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'plimsoll'"
        return set(map(int, self.postgres.sql(query)))


def signal_all(pids: set[int], number: int):
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
