"""One run of a side under a load: prepare, load, count, check the books."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from hot import account, pgbench, processes, wrk
from hot.arena import RICH, Arena
from hot.operations import PgbenchTransfers
from hot.processes import Failed, Process, Violated
from hot.wrk import Answers

from . import costs
from .scenarios import BULK, BURST, Level, Scenario
from .sides import OWN_TABLE, PEER_TABLE, Pgbench, Server

# On a slow disk, the slow sides make a hundred commits a second.
BURST_SECONDS_MAX = 300
QUIET_SECONDS_MAX = 180
QUIET_LOOKS = 3
QUIET_EVERY_SECONDS = 0.06
# Of one processor. Clock ticks of 10 ms are the finest that can be seen.
QUIET_SHARE = 0.2
OPEN_CONNECTIONS = 1_024
# Of the requests that did not fail. A few time-outs do not change a throughput.
FAILED_SHARE_MAX = 0.01
# For each connection, before wrk's times mean anything.
ANSWERS_MIN = 3
# A percentile is shown if at least so many answers took longer.
BEYOND_MIN = 5
# The entries that each request of a kind makes.
ENTRIES = {"transfers": 2, "bulk": BULK}
PGBENCH_BULK = f"""
WITH item AS (SELECT n FROM generate_series(1, {BULK}) n), changed AS (
    UPDATE users SET balance = balance - 2 * {BULK}, version = version + {BULK},
        changed_at = greatest(statement_timestamp(), changed_at)
    WHERE id = 1 AND balance >= 2 * {BULK}
    RETURNING version, balance, held, changed_at
)
INSERT INTO balance_changes
       (user_id, version, kind, amount, held_amount, balance, held, created_at)
SELECT 1, version - {BULK} + n, 'change', -2, 0, balance + 2 * ({BULK} - n), held, changed_at
FROM changed, item;
"""


@dataclass(frozen=True)
class Run:
    """What is run, and for how long."""

    scenario: Scenario
    level: Level
    seconds: int
    warm: bool
    # Changes a second that the side can do, for the open loop.
    capacity: float | None = None


def measure(arena: Arena, side: Server | Pgbench, run: Run) -> dict:
    """The figures of one run. Raises if they would mean nothing."""
    if isinstance(side, Pgbench):
        return of_pgbench(arena, side, run)
    kind = {"open": open_loop, "burst": burst}
    return kind.get(run.scenario.kind, closed_loop)(arena, side, run)


def closed_loop(arena: Arena, side: Server, run: Run) -> dict:
    """wrk: every connection sends its next request when the last one is answered."""
    scenario, load = run.scenario, run.level.load
    service = side.process(arena)
    url = side.url(arena) if scenario.kind == "closed" else service.address
    if run.warm:
        prepare(arena, side, scenario)
        check_statuses(wrk.run(url, load, 1, ["statuses"]), load.answers)
    prepare(arena, side, scenario)
    books = Books(arena, side, scenario)
    meter = Meter(arena, side)
    ended = wrk.run(url, load, run.seconds, ["statuses"] if scenario.counted else [])
    meter.stop()
    answers = answers_of(ended, scenario.counted)
    per_request = BULK if scenario.kind == "bulk" else 1
    accepted = answers["accepted"] * per_request
    wanted = {"exhausted": answers["refused"], "mixed": answers["accepted"] + answers["refused"]}
    counted = wanted.get(scenario.id, accepted)
    check_failures(answers)
    wait_until_quiet(arena, side)
    seconds = ended["duration_us"] / 1e6
    if side.table:
        # What was in flight at the end was applied and not counted.
        books.check(answers, in_flight=load.connections)
    timed = are_times_known(answers, load.connections)
    return {
        "per_second": counted / seconds,
        "requests": ended["requests"],
        **answers,
        "seconds": seconds,
        "p50_ms": ended["latency_us_p50"] / 1e3 if timed else None,
        "p99_ms": ended["latency_us_p99"] / 1e3 if timed else None,
        **meter.figures(max(counted, 1)),
    }


def answers_of(ended: dict, counted: bool) -> dict[str, int]:
    """Accepted, refused and failed, as the client saw them."""
    broken = sum(ended[kind] for kind in ("connect", "read", "write", "timeout"))
    if counted:
        statuses = ended["statuses"]
        accepted = statuses.get("200", 0) + statuses.get("201", 0)
        refused = statuses.get("400", 0)
        failed = sum(statuses.values()) - accepted - refused
        return {"accepted": accepted, "refused": refused, "failed": failed + broken}
    # The account is rich, so whatever is not a success is a failure.
    accepted = ended["requests"] - ended["not_ok"]
    return {"accepted": accepted, "refused": 0, "failed": ended["not_ok"] + broken}


def check_failures(answers: dict[str, int]):
    """Raises if so many requests failed that the other figures mean little."""
    answered = answers["accepted"] + answers["refused"]
    if answers["failed"] > FAILED_SHARE_MAX * answered:
        raise Failed(f"{answers['failed']} requests failed, and {answered} did not")


def are_times_known(answers: dict[str, int], connections: int) -> bool:
    """wrk forgets what is not answered when it ends: with few answers for each connection, these
    are the quick ones."""
    return answers["accepted"] + answers["refused"] >= ANSWERS_MIN * connections


def check_statuses(ended: dict, answers: Answers):
    """Every answer of the warm-up must be one of those that the load is about."""
    unexpected = {
        status: count
        for status, count in ended["statuses"].items()
        if status not in answers.statuses
    }
    if unexpected:
        raise Failed(f"answers by status in the warm-up: {ended['statuses']}")


def open_loop(arena: Arena, side: Server, run: Run) -> dict:
    """Requests at a fixed rate. Times are counted from when a request was due."""
    if not run.capacity:
        raise Failed("what it can do was not measured")
    rate = max(1, round(run.capacity * run.level.number / 100))
    service = side.process(arena)
    prepare(arena, side, run.scenario)
    books = Books(arena, side, run.scenario)
    meter = Meter(arena, side)
    url = side.url(arena)
    address, path = url.removeprefix("http://").split("/", 1)
    command = [arena.programs / "examples" / "open_loop", address, f"/{path}", account.HOT_USER]
    command += [wrk.Load.amounts, rate, run.seconds, OPEN_CONNECTIONS]
    ended = json.loads(processes.run(command, seconds=run.seconds + 60))
    meter.stop()
    wait_until_quiet(arena, side)
    statuses = ended["statuses"]
    accepted = statuses.get("200", 0)
    answers = {"accepted": accepted, "refused": 0, "failed": ended["requests"] - accepted}
    check_failures(answers)
    # Nobody counts the second of warm-up, so up to so many more may have been applied.
    books.check(answers, in_flight=rate + 1)
    percentile = dict(ended["latency_us"])
    beyond_p99 = ended["requests"] / 100
    return {
        "per_second": accepted / run.seconds,
        "rate": rate,
        "requests": ended["requests"],
        **answers,
        "seconds": run.seconds,
        "p50_ms": percentile[50.0] / 1e3,
        "p99_ms": percentile[99.0] / 1e3 if beyond_p99 >= BEYOND_MIN else None,
        "curve_ms": [[percent, micros / 1e3] for percent, micros in ended["latency_us"]],
        "from_sending_ms": [[percent, us / 1e3] for percent, us in ended["from_sending_us"]],
        # The loader also sent the warm-up.
        **meter.figures(max(accepted + rate, 1)),
        "service": service.name,
    }


def burst(arena: Arena, side: Server, run: Run) -> dict:
    """The bundled tester, which checks every single answer."""
    service = side.process(arena)
    prepare(arena, side, run.scenario)
    meter = Meter(arena, side)
    command = [arena.tester, "--url", service.address, "--json", "--approach", side.approach]
    command += ["--requests", BURST, "--log", arena.folder / "responses.log"]
    command += ["--timeout", BURST_SECONDS_MAX]
    report = json.loads(processes.run(command, 2 * BURST_SECONDS_MAX, fine=(0, 1)))
    meter.stop()
    found = report["approaches"][0]
    if report["verdict"] != "pass":
        wrong = [f"{each['count']} x {each['meaning']}" for each in found["violations"]]
        raise Failed(f"not every answer is exact: {', '.join(wrong)}")
    wait_until_quiet(arena, side)
    figures = meter.figures(BURST)
    return {
        "per_second": BURST / found["seconds"],
        "requests": BURST,
        "accepted": found["accepted"],
        "refused": found["refused"],
        "failed": BURST - found["accepted"] - found["refused"],
        "seconds": found["seconds"],
        "p50_ms": found["latencyMs"]["p50"],
        "p99_ms": found["latencyMs"]["p99"],
        **figures,
    }


def of_pgbench(arena: Arena, side: Pgbench, run: Run) -> dict:
    scenario = run.scenario
    if scenario.kind == "transfers":
        _ = arena.socket_service  # has made the tables
        rate = PgbenchTransfers(side.name, merchant=scenario.users).measure(arena, run.seconds)
        count = round(rate * run.seconds)
        return {"per_second": rate, "accepted": count, "refused": 0, "failed": 0,
                "requests": count, "seconds": run.seconds}
    if scenario.kind == "bulk":
        return bulk_of_pgbench(arena, side, run)
    variables = {"amount": pgbench.AMOUNT, "first_user": 1, "last_user": 1}
    if scenario.id == "uniform":
        variables["last_user"] = scenario.users
    script = arena.root / "loadtest/peers/pgbench" / f"{side.script}.sql"
    if run.warm:
        pgbench.count(arena.postgres, script, side.clients, 1, variables)
    prepare(arena, side, scenario)
    books = Books(arena, side, scenario)
    meter = Meter(arena, None)
    number, rate = pgbench.count(arena.postgres, script, side.clients, run.seconds, variables)
    meter.stop()
    refused = number if scenario.balance == 0 else 0
    answers = {"accepted": number - refused, "refused": refused, "failed": 0}
    books.check(answers, in_flight=0)
    return {
        "per_second": rate,
        "requests": number,
        **answers,
        "seconds": number / rate,
        "p50_ms": None,
        "p99_ms": None,
        "mean_ms": side.clients * 1e3 / rate,
        **meter.figures(max(number, 1)),
    }


def bulk_of_pgbench(arena: Arena, side: Pgbench, run: Run) -> dict:
    """The service's own tables, in one statement for each bulk. `verify` checks the entries."""
    script = arena.folder / "bulk.sql"
    script.write_text(PGBENCH_BULK)
    account.set_balance(arena.socket_service.address, RICH)
    meter = Meter(arena, None)
    number, rate = pgbench.count(arena.postgres, script, 1, run.seconds, {})
    meter.stop()
    changes = number * BULK
    return {
        "per_second": rate * BULK,
        "requests": number,
        "accepted": number,
        "refused": 0,
        "failed": 0,
        "seconds": number / rate,
        **meter.figures(max(changes, 1)),
    }


class Meter:
    """What a run costs, from its creation to `stop`."""

    def __init__(self, arena: Arena, side: Server | None):
        self._arena = arena
        self._service = side.process(arena) if side else None
        self._batched = side if side and side.kind == "ours" else None
        if self._service:
            costs.reset_memory_peak(self._service)
        self._batches = self._read_batches()
        self._flushes = self._read_flushes()
        self._spent = costs.spent(arena, self._service)

    def stop(self):
        self._spent_after = costs.spent(self._arena, self._service)
        self._flushes_after = self._read_flushes()

    def figures(self, requests: int) -> dict:
        used = self._spent_after.since(self._spent, requests)
        if self._service is None:
            used["service"] = 0.0
        batches = {
            bound: count - self._batches.get(bound, 0)
            for bound, count in self._read_batches().items()
        }
        return {
            "cpu_us": used,
            "flushes_per_request": (self._flushes_after - self._flushes) / requests,
            "memory_mb": costs.memory_peak_mb(self._service) if self._service else None,
            "batches": batches if any(batches.values()) else None,
        }

    def _read_flushes(self) -> int:
        return int(self._arena.postgres.sql(costs.flushes_query(self._arena.postgres))[0] or 0)

    def _read_batches(self) -> dict[str, int]:
        if not self._batched:
            return {}
        return costs.batches(self._service.address, "plimsoll_batch_changes")


class Books:
    """Compares the balances, or the number of entries, with what the client counted."""

    def __init__(self, arena: Arena, side: Server | Pgbench, scenario: Scenario):
        self._arena = arena
        self._side = side
        self._scenario = scenario
        self._before = self._read() if side.table else None

    def check(self, answers: dict[str, int], in_flight: int):
        """Raises `Violated` if the balances differ by more than the requests whose answers the
        client did not take."""
        if entries := ENTRIES.get(self._scenario.kind):
            problem = missing(answers, self._read() - self._before, in_flight, entries)
        else:
            problem = difference(self._scenario.id, answers, self._before - self._read(), in_flight)
        if problem:
            raise Violated(f"{self._side.name}: {problem}")

    def _read(self) -> int:
        if self._scenario.kind in ENTRIES:
            # A version counts the entries of its user.
            return int(self._arena.postgres.sql("SELECT sum(version) FROM users")[0])
        alone = self._scenario.id not in ("zipf", "uniform")
        where = f" WHERE id = {account.HOT_USER}" if alone else ""
        statement = f"SELECT sum(balance) FROM {self._side.table}{where}"
        return int(self._arena.postgres.sql(statement)[0])


def missing(answers: dict[str, int], made: int, in_flight: int, entries: int) -> str | None:
    """What does not fit between the entries that were made and the answers. None if all fits."""
    least = answers["accepted"] * entries
    most = (answers["accepted"] + answers["failed"] + in_flight) * entries
    if least <= made <= most:
        return None
    return f"{made} entries were made, and {answers['accepted']} answers say {least} to {most}"


def difference(scenario: str, answers: dict[str, int], taken: int, in_flight: int) -> str | None:
    """What does not fit between the sum that was taken and the answers. None if all fits.

    Failed requests may have been applied.
    """
    unknown = in_flight + answers["failed"]
    if scenario == "exhausted":
        return f"{taken} was taken from an account at zero" if taken else None
    if scenario == "mixed":
        # Deposits of 1 and withdrawals of 2 in turn: half of the requests are deposits, all of them
        # accepted, and what else was accepted is a withdrawal.
        requests = answers["accepted"] + answers["refused"]
        due = 2 * answers["accepted"] - 1.5 * requests
        slack = 5 * (unknown + 4)
        fits = abs(taken - due) <= slack
        return None if fits else f"{taken} was taken, and the answers say {due} (± {slack})"
    withdrawal = -int(wrk.Load.amounts)
    least = answers["accepted"] * withdrawal
    most = (answers["accepted"] + unknown) * withdrawal
    if least <= taken <= most:
        return None
    return f"{taken} was taken, and {answers['accepted']} answers say {least} to {most}"


def prepare(arena: Arena, side: Server | Pgbench, scenario: Scenario):
    """Sets the balance of the hot account, after earlier requests have ended."""
    wait_until_quiet(arena, side)
    if scenario.id in ("zipf", "uniform", "merchant") or not side.table:
        return
    if side.table == OWN_TABLE:
        account.set_balance(arena.socket_service.address, scenario.balance)
    else:
        statement = f"UPDATE {PEER_TABLE} SET balance = {scenario.balance} WHERE id = 1"
        arena.postgres.sql(statement)


def wait_until_quiet(arena: Arena, side: Server | Pgbench):
    """Requests go on without their client. Returns when they have ended: when the database has been
    idle for a while, and the server as well, which may still have requests to read."""
    process = side.process(arena) if isinstance(side, Server) else None
    give_up = time.monotonic() + QUIET_SECONDS_MAX
    idle, used = 0, processor_seconds(process)
    while idle < QUIET_LOOKS:
        if time.monotonic() > give_up:
            raise Failed(f"{side.name} did not become idle")
        time.sleep(QUIET_EVERY_SECONDS)
        before, used = used, processor_seconds(process)
        works = used - before > QUIET_SHARE * QUIET_EVERY_SECONDS
        busy = works or int(arena.postgres.sql(BUSY)[0])
        idle = 0 if busy else idle + 1


def processor_seconds(process: Process | None) -> float:
    return costs.processor_seconds(costs.stats(), process.pid) if process else 0.0


BUSY = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
  AND backend_type = 'client backend'
"""


def last_error(arena: Arena, side: Server | Pgbench) -> str:
    """What the server logged last about an error."""
    if not isinstance(side, Server):
        return ""
    errors = [line for line in side.process(arena).new_log_lines() if "ERROR" in line.upper()]
    return f" ({side.name} logged: {errors[-1].strip()[:300]})" if errors else ""


def peers_table(users: int) -> str:
    """Statements that fill the peers' table with rich users."""
    return f"""
TRUNCATE {PEER_TABLE};
INSERT INTO {PEER_TABLE} SELECT id, {RICH} FROM generate_series(1, {users}) id;
VACUUM (ANALYZE) {PEER_TABLE};
"""
