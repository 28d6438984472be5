"""Read what a case has cost: processor time of this process and of the servers, and transactions that wrote."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

TICKS = os.sysconf("SC_CLK_TCK")

# Exact and at once, unlike pg_stat_database, to which a backend reports up to ten seconds late. A transaction ID is
# given out when a transaction first writes, so one that only reads is not counted. Only one program runs at a time.
COUNTERS = """
select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as writes,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint as wal_bytes
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Be the counters at one moment."""

    at: float
    python_seconds: float
    postgres_seconds: float
    kafka_seconds: float
    writes: int
    wal_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Be what lies between two readings, for each of so many sagas."""

    seconds: float
    commits_per_saga: float
    wal_bytes_per_saga: int
    python_ms_per_saga: float
    postgres_ms_per_saga: float
    kafka_ms_per_saga: float


class Meter:
    """Read the counters of this process, its children and the servers."""

    def __init__(self, url: str, *, postgres_pid: int, kafka_pid: int) -> None:
        self._url = urlunsplit(urlsplit(url)._replace(path="/postgres"))
        self._postgres_pid = postgres_pid
        self._kafka_pid = kafka_pid

    async def read(self) -> Reading:
        """Return the counters as they are now."""
        connection = await asyncpg.connect(self._url)
        try:
            row = await connection.fetchrow(COUNTERS)
        finally:
            await connection.close()
        assert row is not None
        return Reading(
            at=time.perf_counter(),
            python_seconds=time.process_time() + children_seconds(os.getpid()),
            postgres_seconds=tree_seconds(self._postgres_pid),
            kafka_seconds=tree_seconds(self._kafka_pid),
            writes=row["writes"],
            wal_bytes=row["wal_bytes"],
        )


def cost(before: Reading, after: Reading, sagas: int) -> Cost:
    """Return what each saga has cost between two readings."""

    def ms(more: float) -> float:
        return round(1000 * more / sagas, 3)

    return Cost(
        seconds=round(after.at - before.at, 2),
        commits_per_saga=round((after.writes - before.writes) / sagas, 2),
        wal_bytes_per_saga=round((after.wal_bytes - before.wal_bytes) / sagas),
        python_ms_per_saga=ms(after.python_seconds - before.python_seconds),
        postgres_ms_per_saga=ms(after.postgres_seconds - before.postgres_seconds),
        kafka_ms_per_saga=ms(after.kafka_seconds - before.kafka_seconds),
    )


def tree_seconds(pid: int) -> float:
    """Return the processor time of a process, its living children and those it has waited for; 0 for pid 0."""
    if not pid:
        return 0.0
    own = _stat(pid)
    if own is None:
        return 0.0
    return sum(int(value) for value in own[11:15]) / TICKS + children_seconds(pid)


def children_seconds(pid: int) -> float:
    """Return the processor time of a process's living children."""
    stats = [stat for child in children_of(pid) if (stat := _stat(child)) is not None]
    return sum(int(value) for stat in stats for value in stat[11:15]) / TICKS


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> list[int]:
    """Return the living children of a process."""
    threads = Path(f"/proc/{pid}/task")
    try:
        return [int(child) for thread in threads.iterdir() for child in (thread / "children").read_text().split()]
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the third on; the second may hold blanks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
