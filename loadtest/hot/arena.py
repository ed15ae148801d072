"""All servers under test, on loopback and in one temporary folder.

Closing the `ExitStack` ends every process that was started on it, also after an error.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from . import nginx, pgbench, processes
from .postgres import Postgres
from .processes import Failed, Process, Violated

# The hot account is one of these, so that plans and caches are those of a real table. The uniform
# load runs on the same database.
USERS = 100_000
# Lasts for any run, and is far below the limit of 64 bits.
RICH = 10**15

CONSTANT = """
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} reuseport backlog=16384;
        location / {{ return 200 '{{"balance":9998}}'; }}
    }}
"""


class Arena:
    """The servers under test. Each is started on its first use."""

    def __init__(self, stack: ExitStack, root: Path, programs: Path | None = None):
        self.root = root
        self.stack = stack
        folder = tempfile.TemporaryDirectory(prefix="plimsoll-bench-")
        self.folder = Path(stack.enter_context(folder))
        # PostgreSQL's user must be able to traverse it. Private files have modes of their own.
        self.folder.chmod(0o711)
        self.pool_size = default_pool_size(root)
        # The folder of the programs under test.
        self.programs = programs or self.built(root)
        self._service = self.programs / "plimsoll"
        self._echo = self.programs / "examples" / "echo"
        self.tester = self.programs / "concurrency-tester"
        self.watchers = self.programs / "examples" / "watchers"
        # Servers of others, by name.
        self.peers: dict[str, Process] = {}

    @staticmethod
    def built(root: Path) -> Path:
        """The folder in which cargo leaves the programs of a release build."""
        return Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "release"

    @cached_property
    def postgres(self) -> Postgres:
        return Postgres(self.stack, self.root, self.folder)

    @cached_property
    def socket_service(self) -> Process:
        """The service on the database's Unix socket."""
        return self._start_service("service-socket", over_tcp=False)

    @cached_property
    def tcp_service(self) -> Process:
        """The service on the database's TCP port."""
        return self._start_service("service-tcp", over_tcp=True)

    @cached_property
    def stream_service(self) -> Process:
        """A service on the Unix socket for streams only, so that its memory is theirs."""
        return self._start_service("service-stream", over_tcp=False)

    @cached_property
    def nginx(self) -> Process:
        """nginx, which answers everything with a constant."""
        port = processes.free_port()
        process = nginx.start(self.stack, self.folder, port, CONSTANT.format(port=port))
        process.address = f"http://127.0.0.1:{port}"
        return process

    @cached_property
    def echo(self) -> Process:
        """The echo server: the service's HTTP side without anything behind it."""
        env = processes.bare_environment(PORT=str(processes.free_port()))
        log = self.folder / "echo.log"
        process = processes.start(self.stack, "echo", [self._echo], log, env)
        process.wait_for_address(seconds=10)
        return process

    @cached_property
    def pgbench_script(self) -> Path:
        """A file with the statement of `self`."""
        script = self.folder / "self.sql"
        script.write_text(pgbench.statement_of_self(self.root))
        return script

    def reset_database(self, users: int = USERS):
        """Gives every round the same start, and empties the journal."""
        _ = self.socket_service  # has made the tables
        self.postgres.sql(fresh_database(users))

    def entries(self) -> int:
        """How many entries all histories have together."""
        return int(self.postgres.sql("SELECT sum(version) FROM users")[0])

    def verify(self):
        """Checks all invariants of the database. A violation ends the benchmark."""
        verify(self._service, self.postgres, self.folder)

    def _start_service(self, name: str, over_tcp: bool) -> Process:
        env = processes.bare_environment(
            DATABASE_URL=self.postgres.url(over_tcp),
            POOL_SIZE=str(self.pool_size),
            PORT="0",
            # Hides sqlx's warnings of slow statements: sides.check_log takes each warning for a
            # failed answer.
            RUST_LOG="info,sqlx=error",
        )
        log = self.folder / f"{name}.log"
        service = processes.start(self.stack, name, [self._service], log, env)
        service.wait_for_address(seconds=60)
        return service


def fresh_database(users: int) -> str:
    """Statements that empty the service's tables and create rich users with ids from 1."""
    return f"""
TRUNCATE users, balance_changes, holds, idempotency_keys, user_creation_keys;
INSERT INTO users (id, balance, held, version, changed_at)
    SELECT id, {RICH}, 0, 1, now() FROM generate_series(1, {users}) id;
INSERT INTO balance_changes
        (user_id, version, kind, amount, held_amount, balance, held, created_at)
    SELECT id, 1, 'change', balance, 0, balance, 0, changed_at FROM users;
VACUUM (ANALYZE) users, balance_changes, holds, idempotency_keys, user_creation_keys;
"""


def verify(program: Path, postgres: Postgres, folder: Path):
    """Raises `Violated` if an invariant of the database does not hold."""
    env = processes.bare_environment(DATABASE_URL=postgres.url(over_tcp=False))
    report = processes.run([program, "verify", "--json"], 300, fine=(0, 1), env=env, cwd=folder)
    if json.loads(report)["verdict"] != "pass":
        raise Violated(f"plimsoll verify:\n{report}")


def default_pool_size(root: Path) -> int:
    """The default from `.env.example`, which a test of the service keeps up to date."""
    found = re.search(r"^# POOL_SIZE=(\d+)$", (root / ".env.example").read_text(), re.MULTILINE)
    if not found:
        raise Failed("there is no default of POOL_SIZE in .env.example")
    return int(found.group(1))
