"""One side of a comparison: it prepares the account, runs once, and checks every answer."""

from __future__ import annotations

import json
from dataclasses import dataclass

from . import account, pgbench, processes, wrk
from .arena import RICH, Arena
from .processes import Failed, Process
from .wrk import Load

BURST_REQUESTS = 10_000


@dataclass(frozen=True)
class Constant:
    """A server without a database, `nginx` or `echo`: an upper limit."""

    name: str
    server: str
    load: Load
    unit: str = "/s"
    on_database: bool = False

    def measure(self, arena: Arena, seconds: int) -> float:
        url = f"{getattr(arena, self.server).address}/approach/echo/balance"
        account.check_served(url)
        wrk.warm_up(url, self.load)
        return wrk.measure(url, self.load, seconds).per_second


@dataclass(frozen=True)
class Approach:
    """An approach of the service, under wrk."""

    name: str
    approach: str
    load: Load
    balance: int = RICH
    over_tcp: bool = False
    unit: str = "/s"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        service = arena.tcp_service if self.over_tcp else arena.socket_service
        url = f"{service.address}/approach/{self.approach}/balance"
        account.check_served(url)
        service.new_log_lines()
        account.set_balance(service.address, self.balance)
        wrk.warm_up(url, self.load)
        # Also waits for changes of the warm-up: a change runs to completion without its client.
        account.set_balance(service.address, self.balance)
        figures = wrk.measure(url, self.load, seconds)
        check_log(service)
        return figures.p50_ms if self.unit == "ms" else figures.per_second


@dataclass(frozen=True)
class Pgbench:
    """The statement of `self` with as many database connections as the service has."""

    name: str
    unit: str = "/s"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        account.set_balance(arena.socket_service.address, RICH)
        # As many connections as the service gives to one user.
        clients = max(arena.pool_size // 2, 1)
        return pgbench.measure(
            arena.postgres,
            arena.pgbench_script,
            clients,
            seconds,
            amount=pgbench.AMOUNT,
            user=account.HOT_USER,
        )


@dataclass(frozen=True)
class Burst:
    """10,000 withdrawals at once, each on its own connection. Measures until the last answer."""

    name: str
    approach: str
    unit: str = "s"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        service = arena.socket_service
        service.new_log_lines()
        command = [arena.tester, "--url", service.address, "--json"]
        command += ["--approach", self.approach, "--requests", BURST_REQUESTS]
        command += ["--log", arena.folder / "responses.log"]
        report = json.loads(processes.run(command, seconds=300, fine=(0, 1)))
        if report["verdict"] != "pass":
            raise Failed(f"concurrency-tester: {report['approaches']}")
        check_log(service)
        return report["approaches"][0]["seconds"]


@dataclass(frozen=True)
class Memory:
    """The service's peak of memory, with this load as the last one."""

    name: str
    under: Approach
    unit: str = "MB"
    on_database: bool = True

    def measure(self, arena: Arena, seconds: int) -> float:
        self.under.measure(arena, seconds)
        return arena.socket_service.memory_peak_mb()


def check_log(service: Process):
    """Raises if the service logged a 5xx, which wrk counts together with the refusals."""
    lines = service.new_log_lines()
    bad = [line for line in lines if " WARN " in line or " ERROR " in line]
    if bad:
        raise Failed(f"{service.name} logged {len(bad)} warnings and errors, first: {bad[0]}")
