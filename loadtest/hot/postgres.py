"""One PostgreSQL for the benchmark, on a Unix socket and on loopback, with the same settings as the
service's private cluster."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import signal
from contextlib import ExitStack
from pathlib import Path

from . import processes
from .processes import Failed

OLDEST_MAJOR = 14
ROLE = DATABASE = "plimsoll"
FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
)


class Postgres:
    """A running server with an empty database."""

    def __init__(self, stack: ExitStack, root: Path, folder: Path):
        self.bin, self.version = find_programs(root)
        self.socket_dir = folder / "socket"
        self.port = processes.free_port()
        self._password = secrets.token_hex(16)
        self._env = processes.bare_environment()
        user = server_user()
        cluster = folder / "cluster"
        for path in (self.socket_dir, cluster):
            path.mkdir(mode=0o700)
            give(path, user)
        self._make(cluster, folder, user)
        command = [self.bin / "postgres", "-D", cluster, *self._settings(root)]
        self._start = lambda: processes.start(
            stack,
            "postgres",
            command,
            folder / "postgres.log",
            self._env,
            user,
            # SIGINT is PostgreSQL's fast shutdown, which does not wait for clients.
            end_by=signal.SIGINT,
            end_seconds=120,
        )
        self.start()
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")

    def start(self):
        """Starts the server, and waits until it answers."""
        self._server = self._start()
        self._server.wait_until(self._accepts, seconds=60)

    def end(self, how: int):
        """Ends the server by this signal."""
        self._server.end(how, seconds=120)

    @property
    def pid(self) -> int:
        """The server's first process, of which all others are children."""
        return self._server.pid

    def environment(self) -> dict[str, str]:
        """libpq's variables, for programs that connect through the Unix socket."""
        return {
            "PGHOST": str(self.socket_dir),
            "PGPORT": str(self.port),
            "PGUSER": ROLE,
            "PGDATABASE": DATABASE,
        }

    def url(self, over_tcp: bool) -> str:
        """The DATABASE_URL of the Unix socket, or of loopback."""
        if over_tcp:
            return f"postgres://{ROLE}:{self._password}@127.0.0.1:{self.port}/{DATABASE}"
        return f"postgres:///{DATABASE}?host={self.socket_dir}&port={self.port}&user={ROLE}"

    def client_flags(self) -> list[str]:
        """The flags that let `psql` and `pgbench` connect through the Unix socket."""
        return [f"--host={self.socket_dir}", f"--port={self.port}", f"--username={ROLE}"]

    def sql(self, statements: str, database: str = DATABASE) -> list[str]:
        """Runs statements, each in its own transaction, and returns the rows of all."""
        rows = processes.run(self.psql(database), seconds=300, stdin=statements, env=self._env)
        return rows.splitlines()

    def psql(self, database: str = DATABASE) -> list:
        """The command of a session that reads statements and prints only their rows."""
        flags = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        return [self.bin / "psql", *self.client_flags(), *flags, database]

    def _make(self, cluster: Path, folder: Path, user: pwd.struct_passwd | None):
        password_file = folder / "socket" / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        give(password_file, user)
        command = [self.bin / "initdb", f"--pgdata={cluster}", f"--username={ROLE}"]
        # Like the service, but also over TCP, where a password keeps out the machine's other users.
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password_file}"]
        command += ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
        processes.run(command, seconds=120, cwd=folder, env=self._env, **processes.as_user(user))
        password_file.unlink()

    def _settings(self, root: Path) -> list[str]:
        settings = {
            **service_settings(root),
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _accepts(self) -> bool:
        if not processes.accepts(self.port):
            return False
        try:
            self.sql("SELECT 1", database="postgres")
        except Failed:
            return False
        return True


def find_programs(root: Path) -> tuple[Path, str]:
    """The folder of PostgreSQL's programs, and its version. Searches where the service does."""
    fixed = [Path(os.environ["PG_BIN"])] if os.environ.get("PG_BIN") else [root / ".postgres/bin"]
    system = [path for pattern in FOLDERS for path in Path("/").glob(pattern[1:])]
    on_path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    system.sort(key=lambda folder: version_of(folder)[0], reverse=True)
    for folder in fixed + system + on_path:
        major, version = version_of(folder)
        needed = ("initdb", "psql", "pgbench")
        if major >= OLDEST_MAJOR and all((folder / program).exists() for program in needed):
            return folder, version
    raise Failed("found no folder with postgres, initdb, psql and pgbench: scripts/setup pgbench")


def version_of(folder: Path) -> tuple[int, str]:
    """Major number and full version of the server in a folder, or (0, "") if there is none."""
    if not (folder / "postgres").exists():
        return 0, ""
    text = processes.run([folder / "postgres", "--version"], seconds=10)
    found = re.search(r"\(PostgreSQL\) ((\d+)\S*)", text)
    return (int(found.group(2)), found.group(1)) if found else (0, "")


def server_user() -> pwd.struct_passwd | None:
    """The user to run the server as if this is root, as which PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise Failed("there is no user 'postgres' or 'nobody' to run PostgreSQL as")


def give(path: Path, user: pwd.struct_passwd | None):
    """Makes the server's user the owner."""
    if user:
        os.chown(path, user.pw_uid, user.pw_gid)


def service_settings(root: Path) -> dict[str, str]:
    """The settings of the service's private cluster, from their only definition."""
    source = (root / "src/cluster/settings.rs").read_text()
    table = source.split("const SETTINGS", 1)[-1].split("];", 1)[0]
    settings = dict(re.findall(r'^\s*\("(\w+)", "([^"]*)"\),$', table, re.MULTILINE))
    if settings.get("fsync") != "on":
        raise Failed("the settings in src/cluster/settings.rs are not understood")
    return settings
