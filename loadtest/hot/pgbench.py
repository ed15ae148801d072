"""Runs pgbench with the exact statement of the approach `self`: the same work without HTTP."""

from __future__ import annotations

import re
from pathlib import Path

from . import processes
from .account import HOT_USER
from .postgres import DATABASE, Postgres
from .processes import Failed

AMOUNT = -2


def measure(postgres: Postgres, script: Path, clients: int, seconds: int) -> float:
    """Changes per second, after a second of warm-up."""
    run(postgres, script, clients, 1)
    return run(postgres, script, clients, seconds)


def run(postgres: Postgres, script: Path, clients: int, seconds: int) -> float:
    command = [postgres.bin / "pgbench", *postgres.client_flags(), "--no-vacuum"]
    command += [f"--client={clients}", f"--jobs={min(2, clients)}", f"--time={seconds}"]
    command += ["--protocol=prepared", f"--file={script}"]
    command += [f"--define=amount={AMOUNT}", f"--define=user={HOT_USER}", DATABASE]
    output = processes.run(command, seconds + 60, env=processes.bare_environment())
    rate = re.search(r"^tps = ([\d.]+) \(without", output, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", output, re.MULTILINE)
    if not rate or (failed and failed.group(1) != "0"):
        raise Failed(f"pgbench said: {' / '.join(output.splitlines())}")
    return float(rate.group(1))


def statement_of_self(root: Path) -> str:
    """The approach's SQL from its source, with pgbench's variables for its parameters."""
    source = (root / "src/approach/guarded_update.rs").read_text()
    found = re.search(r'const WITHOUT_KEY: &str = r"([^"]*)"', source)
    if not found or "UPDATE users" not in found.group(1):
        raise Failed("the statement in src/approach/guarded_update.rs is not understood")
    parameters = {"$1": ":amount", "$2": ":user", "$3": "NULL::text"}
    sql = found.group(1)
    for parameter, value in parameters.items():
        sql = sql.replace(parameter, value)
    return sql + ";\n"
