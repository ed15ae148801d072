"""Figures of others that cannot be run here. None was measured by this project."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A figure, where it stands, and what is not the same."""

    system: str
    figure: str
    source: str
    differs: str


PUBLISHED = (
    Published(
        "TigerBeetle, by softwaremill/tb-perf",
        "42,543 transfers/s",
        "softwaremill/tb-perf, local-results (2026-01)",
        "100,000 accounts by Zipf's law; the database's own client, not HTTP; 24,576 transfers in"
        " flight",
    ),
    Published(
        "PostgreSQL, batched, by softwaremill/tb-perf",
        "15,219 transfers/s",
        "softwaremill/tb-perf, local-results (2026-01)",
        "100,000 accounts by Zipf's law; the client is in the same process, no HTTP; 384 in flight",
    ),
    Published(
        "PostgreSQL, FOR UPDATE / one statement, by softwaremill/tb-perf",
        "6,402 / 5,577 transfers/s",
        "softwaremill/tb-perf, local-results (2026-01)",
        "as above; rejections and errors were counted as successes in earlier figures of theirs",
    ),
    Published(
        "Formance v3, one pair of accounts",
        "150,000 to 155,000 transactions/s",
        "Formance ledger v3, ADR 0002 (2026-07-08)",
        "bulks of 50 and no guard of the balance (`force: true`); one node with 28 processors and"
        " 224 GiB; 3,000 proposals/s",
    ),
    Published(
        "Formance v3, three nodes",
        "about 106,000 transactions/s, p99 72 to 74 ms",
        "Formance ledger v3, docs/sales/benchmarks.md",
        "bulks of 50, unbounded overdraft, many accounts",
    ),
    Published(
        "AliSQL, inventory hint",
        "31,000 transactions/s on one row (12,000 with its statement queue)",
        "alibabacloud.com, document 202147",
        "MySQL with 90 processors; SQL and not HTTP; no journal",
    ),
    Published(
        "SpacetimeDB, keynote-2",
        "265,542 to 307,074 transactions/s",
        "SpacetimeDB, keynote-2 at 07850c68",
        "100,000 accounts by Zipf's law; requests pipelined over WebSocket; i9-14900K",
    ),
    Published(
        "pgledger",
        "10,600 transfers/s over 50 accounts, 7,500 over 10",
        "pgrs.net, 2025-05-16",
        "a function in the database, no HTTP; Apple M3",
    ),
)
