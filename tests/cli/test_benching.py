"""`saga bench` measures what a saga costs here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from saga.cli.benching import Tally, apart
from saga.settings import read_settings
from tests.testbed.services import Kafka, Postgres


def bench(folder: Path, **environ: str) -> dict[str, float]:
    command = [sys.executable, "-m", "saga.cli", "bench", "--seconds", "1", "--open", "4", "--json"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=clean | environ, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_it_tells_sagas_a_second_and_their_latency(tmp_path: Path) -> None:
    found = bench(tmp_path)
    assert (found["open"], found["undone"]) == (4, 0)
    assert found["sagas"] >= 4
    assert found["sagas_per_second"] == round(found["sagas"] / found["seconds"], 1) or found["seconds"] > 1
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert list(tmp_path.iterdir()) == []


def test_percentiles_are_those_of_whole_sagas() -> None:
    tally = Tally(took=[number / 1000 for number in range(100, 0, -1)])
    assert [tally.percentile(share) for share in (0.5, 0.95, 0.99, 1.0)] == [50.0, 95.0, 99.0, 100.0]
    assert Tally().percentile(0.5) == 0.0


def test_what_is_measured_stays_away_from_what_is_there(tmp_path: Path) -> None:
    def places(**environ: str) -> tuple[str, str]:
        found = apart(read_settings(environ).settings, tmp_path)
        return found.store_url, found.transport

    assert places() == (f"sqlite:///{tmp_path}/bench.db", "memory://")
    assert places(SAGA_STORE="postgresql://u@h/d", SAGA_STORE_PASSWORD="p", SAGA_TRANSPORT="kafka://h:1?user=u") == (
        "postgresql://u:p@h/d?schema=saga_bench",
        "kafka://h:1?user=u&prefix=saga-bench.",
    )
    own = {"SAGA_STORE": "postgresql://u@h/d?schema=mine", "SAGA_TRANSPORT": "kafka://h:1?prefix=mine."}
    assert places(**own) == ("postgresql://u@h/d?schema=mine", "kafka://h:1?prefix=mine.")


@pytest.mark.kafka
@pytest.mark.postgres
def test_on_real_servers_it_leaves_everything_else_alone(tmp_path: Path, kafka: Kafka, postgres: Postgres) -> None:
    url = postgres.create_database_now("bench")
    found = bench(tmp_path, SAGA_STORE=url, SAGA_TRANSPORT=f"kafka://{kafka.bootstrap}")
    assert found["sagas"] >= 4
    assert asyncio.run(schemas(url)) == {"saga_bench"}


async def schemas(url: str) -> set[str]:
    """Return the schemas with tables of saga's in them."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select schemaname from pg_tables where tablename like 'saga%'")
    finally:
        await connection.close()
    return {row["schemaname"] for row in rows}
