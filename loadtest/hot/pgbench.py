"""Runs pgbench: the same work as the service, without HTTP.

For changes that is the exact statement of the approach `self`, for transfers a transaction as an
application would write it.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import processes
from .postgres import DATABASE, Postgres
from .processes import Failed

AMOUNT = -2

# Locks the two users in order of their ids, so that no two transactions wait for each other. The
# entries are those of two changes: two sides that name each other must have one time, which would
# take a third update.
TRANSFER = r"""
\set from random(:payers_from, :payers_to)
\set other 1 + mod(:from - 1 + random(1, :users - 1), :users)
\set to CASE WHEN :merchant > 0 THEN :merchant ELSE :other END
\set first least(:from, :to)
\set second greatest(:from, :to)
\set first_amount CASE WHEN :first = :from THEN -1 ELSE 1 END
\set second_amount -:first_amount
BEGIN;
UPDATE users
SET balance = balance + :first_amount, version = version + 1,
    changed_at = greatest(statement_timestamp(), changed_at)
WHERE id = :first AND balance + :first_amount >= 0
  AND balance + held + :first_amount <= 9223372036854775807
RETURNING version AS first_version, balance AS first_balance, held AS first_held,
          changed_at AS first_time
\gset
WITH changed AS (
    UPDATE users
    SET balance = balance + :second_amount, version = version + 1,
        changed_at = greatest(statement_timestamp(), changed_at)
    WHERE id = :second AND balance + :second_amount >= 0
      AND balance + held + :second_amount <= 9223372036854775807
    RETURNING version, balance, held, changed_at
), journaled AS (
    INSERT INTO balance_changes
           (user_id, version, kind, amount, held_amount, balance, held, created_at)
    SELECT :first::bigint, :first_version::bigint, 'change'::change_kind,
           :first_amount::bigint, 0, :first_balance::bigint, :first_held::bigint,
           :first_time::timestamptz
    FROM changed
    UNION ALL
    SELECT :second::bigint, version, 'change', :second_amount::bigint, 0, balance, held,
           changed_at
    FROM changed
)
SELECT version AS second_version FROM changed
\gset
COMMIT;
"""


def measure(
    postgres: Postgres, script: Path, clients: int, seconds: int, **variables: int
) -> float:
    """Transactions per second, after a second of warm-up."""
    run(postgres, script, clients, 1, variables)
    return run(postgres, script, clients, seconds, variables)


def run(
    postgres: Postgres, script: Path, clients: int, seconds: int, variables: dict[str, int]
) -> float:
    """Transactions per second."""
    return count(postgres, script, clients, seconds, variables)[1]


def count(
    postgres: Postgres, script: Path, clients: int, seconds: int, variables: dict[str, int]
) -> tuple[int, float]:
    """How many transactions there were, and how many a second."""
    command = [postgres.bin / "pgbench", *postgres.client_flags(), "--no-vacuum"]
    command += [f"--client={clients}", f"--jobs={min(2, clients)}", f"--time={seconds}"]
    command += ["--protocol=prepared", f"--file={script}"]
    command += [f"--define={name}={value}" for name, value in variables.items()]
    command += [DATABASE]
    output = processes.run(command, seconds + 60, env=processes.bare_environment())
    rate = re.search(r"^tps = ([\d.]+) \(without", output, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: (\d+)", output, re.MULTILINE)
    number = re.search(r"^number of transactions actually processed: (\d+)", output, re.MULTILINE)
    if not rate or not number or (failed and failed.group(1) != "0"):
        raise Failed(f"pgbench said: {' / '.join(output.splitlines())}")
    return int(number.group(1)), float(rate.group(1))


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
