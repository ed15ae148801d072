"""More load than the service can serve, and clients that are slow on purpose: what is served must go on
as before, and the rest must be refused at once."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from urllib.parse import urlsplit

from hot import processes
from hot.processes import Failed, Process

from .check import Check, within
from .clients import Answer, Clients, connect, receive
from .stage import Stage

# A commit that takes so long is the bottleneck: the load generator shares the processors with the service.
SLOW_COMMIT = "ALTER SYSTEM SET commit_delay = 100000; ALTER SYSTEM SET commit_siblings = 0;"
FAST_COMMIT = "ALTER SYSTEM RESET commit_delay; ALTER SYSTEM RESET commit_siblings;"
RELOAD = "SELECT pg_reload_conf();"
# A quarter of the default. The generator needs a connection for each request that waits, and has 28,000
# ports for all runs of a minute.
BOUND = "4096"
FLOODED_USER = 1
OTHER_USER = 2
RATE_FIRST = 2_000
STEP_SECONDS = 5
FLOOD_SECONDS = 60
GOODPUT_WANTED = 0.9
MEMORY_MB_MAX = 600
NORMAL_SECONDS_WANTED = 1.0
PROBE_SECONDS = 0.05
PROBES = 40

SLOW = 2_000
WINDOW_SECONDS = 8
PAIRS = 5
OTHERS_PER_SECOND = 150
P99_RATIO_WANTED = 1.2
HEAD_SECONDS = 15
CUT_SECONDS_MAX = HEAD_SECONDS + 5


async def overload_batched(stage: Stage) -> list[Check]:
    stage.stack.callback(stage.postgres.sql, f"{FAST_COMMIT}{RELOAD}")
    for statement in f"{SLOW_COMMIT}{RELOAD}".split(";")[:-1]:
        stage.postgres.sql(statement)
    return await overload(stage, "batched", LANE_QUEUE=BOUND)


async def overload_self(stage: Stage) -> list[Check]:
    return await overload(stage, "self", MAX_CONNECTIONS=BOUND)


async def overload(stage: Stage, approach: str, **bounds: str) -> list[Check]:
    """One user's flood at twice the rate that the service can serve."""
    service = stage.start_service(**bounds)
    clients = Clients(service.address)
    usual = {user: await probe(clients, approach, user) for user in (FLOODED_USER, OTHER_USER)}
    peak, rate = await saturate(stage, service, approach)
    flood = asyncio.create_task(load(stage, service, approach, 2 * rate, FLOOD_SECONDS))
    during = []
    while not flood.done():
        during.append(await clients.change(approach, OTHER_USER))
        await asyncio.sleep(PROBE_SECONDS)
    ended, found = time.monotonic(), flood.result()
    back = await asyncio.gather(
        *(seconds_until(clients, approach, user, usual[user], ended) for user in usual)
    )
    peak_again, _ = await saturate(stage, service, approach, rate)
    goodput = found["statuses"].get("200", 0) / FLOOD_SECONDS
    reference = (peak + peak_again) / 2
    refused = {status: n for status, n in found["statuses"].items() if status != "200"}
    only_503 = set(refused) <= {"503"} and not found["none"] and not found["no_retry_after"]
    memory = service.memory_peak_mb()
    shown = f"{goodput:,.0f}/s of {peak:,.0f}/s before and {peak_again:,.0f}/s after"
    ratio = goodput / reference
    others = quantile([answer.seconds for answer in during], 0.99)
    refusals = ", ".join(f"{n:,} x {status}" for status, n in refused.items()) or "none"
    return [
        Check(f"load: {2 * rate:,}/s for {FLOOD_SECONDS} s; not sent", f"{found['not_sent']:,}", "", True),
        Check("goodput", f"{ratio:.2f} ({shown})", f">= {GOODPUT_WANTED}", ratio >= GOODPUT_WANTED),
        Check("refused, all with Retry-After", f"{refusals}; {found['none']} without answer", "503", only_503),
        Check("peak of memory", f"{memory:.0f} MB", f"< {MEMORY_MB_MAX} MB", memory < MEMORY_MB_MAX),
        Check("another user meanwhile: 200", f"{ok(during)} of {len(during)} (p99 {others:.3f} s)", "all", ok(during) == len(during)),
        within("another user's latency is normal again", back[1], NORMAL_SECONDS_WANTED),
        within("the flooded user's latency is normal again", back[0], NORMAL_SECONDS_WANTED if approach == "batched" else math.inf),
    ]


async def saturate(stage: Stage, service: Process, approach: str, rate: int = 0) -> tuple[float, int]:
    """The most 200s a second, and a rate that is hardly more. Doubles the rate until it is too much."""
    if rate:
        found = await load(stage, service, approach, rate, STEP_SECONDS)
        return found["statuses"].get("200", 0) / STEP_SECONDS, rate
    best, rate = 0.0, RATE_FIRST
    while True:
        found = await load(stage, service, approach, rate, STEP_SECONDS)
        goodput = found["statuses"].get("200", 0) / STEP_SECONDS
        best = max(best, goodput)
        # What waits is served before the next step.
        await drained(service, approach)
        if goodput < 0.9 * rate:
            return best, round(best)
        rate *= 2


async def drained(service: Process, approach: str):
    clients = Clients(service.address)
    while (await clients.change(approach, FLOODED_USER)).seconds > 1:
        pass


async def load(stage: Stage, service: Process, approach: str, rate: int, seconds: int) -> dict:
    program = stage.program.parent / "examples" / "flood"
    if not program.exists():
        raise Failed(f"there is no program {program}: cargo build --release --example flood")
    path = f"/approach/{approach}/balance"
    command = [program, urlsplit(service.address).netloc, path, FLOODED_USER, rate, seconds]
    return json.loads(await asyncio.to_thread(processes.run, command, seconds + 30))


async def probe(clients: Clients, approach: str, user: int) -> float:
    """The slowest of some changes while nothing else is asked for."""
    slowest = 0.0
    for _ in range(PROBES):
        slowest = max(slowest, (await clients.change(approach, user)).seconds)
        await asyncio.sleep(PROBE_SECONDS / 5)
    return slowest


async def seconds_until(clients, approach: str, user: int, usual: float, ended: float) -> float:
    """The time from the end of the flood until three changes in a row were as fast as usual."""
    in_a_row, first = 0, math.inf
    while in_a_row < 3:
        answer = await clients.change(approach, user)
        if answer.status == 200 and answer.seconds <= 2 * usual:
            first = answer.sent if in_a_row == 0 else first
            in_a_row += 1
        else:
            in_a_row = 0
        if answer.answered - ended > 30:
            return math.inf
    return max(0.0, first - ended)


def ok(answers: list[Answer]) -> int:
    return sum(answer.status == 200 for answer in answers)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


BEGINNINGS = (
    b"",
    b"PATCH /approach/batched/balance HTTP/1.1\r\nhost: x\r\nconte",
    b"PATCH /approach/batched/balance HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b'content-length: 24\r\n\r\n{"userId":',
)


async def slow_clients(stage: Stage) -> list[Check]:
    """Other clients' latency, alternately without and with clients that send half a request."""
    service = stage.start_service()
    clients = Clients(service.address)
    without, beside = [], []
    await measure(clients)
    for _ in range(PAIRS):
        without += await measure(clients)
        slow = await start_slow(service)
        beside += await measure(clients)
        for connection in slow:
            connection.close()
    slow = await start_slow(service)
    begun = time.monotonic()
    ends = await asyncio.gather(*(until_cut(connection) for connection in slow))
    without, beside = ([answer.seconds for answer in each] for each in (without, beside))
    before, during = quantile(without, 0.99), quantile(beside, 0.99)
    shown = f"{during / before:.2f} ({before * 1e3:.2f} ms, beside them {during * 1e3:.2f} ms)"
    return [
        Check(f"p99 of others beside {SLOW:,} slow clients", shown, f"< {P99_RATIO_WANTED}", during / before < P99_RATIO_WANTED),
        Check("answers to others", f"{len(without) + len(beside):,} x 200", "200", True),
        within("the last slow client is cut off", max(ends) - begun, CUT_SECONDS_MAX),
    ]


async def measure(clients: Clients) -> list[Answer]:
    """Changes at a steady rate, far below what can be served."""
    begun, answers = time.monotonic(), []
    for number in range(WINDOW_SECONDS * OTHERS_PER_SECOND):
        due = begun + number / OTHERS_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        answers.append(await clients.change("batched", OTHER_USER))
    if ok(answers) < len(answers):
        raise Failed("a change beside slow clients was not answered with 200")
    return answers


async def start_slow(service: Process) -> list[socket.socket]:
    loop, connections = asyncio.get_running_loop(), []
    for number in range(SLOW):
        connection = await connect(urlsplit(service.address).port)
        await loop.sock_sendall(connection, BEGINNINGS[number % len(BEGINNINGS)])
        connections.append(connection)
    return connections


async def until_cut(connection: socket.socket) -> float:
    try:
        while True:
            await asyncio.wait_for(receive(connection), CUT_SECONDS_MAX + 10)
    except asyncio.TimeoutError:
        return math.inf
    except OSError:
        return time.monotonic()
    finally:
        connection.close()
