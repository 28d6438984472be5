from __future__ import annotations

import json
import subprocess
import sys

import asyncpg
import pytest

from tests.benchmarks.__main__ import missing, ratios
from tests.benchmarks.cases import ALL
from tests.benchmarks.place import SITTING, Kind, Load, Place, Sitting
from tests.testbed.server import run_apart
from tests.testbed.services import Kafka, Postgres

SAGAS = 40
LAPS = "select number, array_agg(runner order by runner) as runners from lap group by number order by number"
RUNNERS = ["four", "one", "three", "two"]


async def laps(url: str) -> list[tuple[int, list[str]]]:
    connection = await asyncpg.connect(url)
    try:
        return [(row["number"], row["runners"]) for row in await connection.fetch(LAPS)]
    finally:
        await connection.close()


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.parametrize("program", ALL)
def test_every_saga_of_every_program_runs_each_step_once(kafka: Kafka, postgres: Postgres, program: str) -> None:
    if why := missing(program):
        pytest.skip(why)
    place = Place(
        kafka=kafka.bootstrap,
        services=postgres.create_database_now("services"),
        coordinator=postgres.create_database_now("coordinator"),
        prefix=f"bench-{program}.",
    )
    loads = (Load(case="flood", kind=Kind.FLOOD, sagas=SAGAS),)
    sitting = SITTING.dump_json(Sitting(place=place, warm_seconds=0.0, loads=loads)).decode()
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.programs.{program}", sitting],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert (line["case"], line["sagas"]) == ("flood", SAGAS)
    assert run_apart(lambda: laps(place.services)) == [(number, RUNNERS) for number in range(1, SAGAS + 1)]


def test_the_ratios_are_those_of_the_worst_case() -> None:
    rates = {("16", "naive"): 10.0, ("16", "product"): 50.0, ("flood", "naive"): 10.0, ("flood", "product"): 20.0}
    assert ratios({**rates, ("flood", "limit"): 80.0}) == "ratio_naive=2.000 share_of_limit=0.250"
