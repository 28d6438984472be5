"""A whole system that runs on Kafka and PostgreSQL is well, and is not once its processes are gone."""

from __future__ import annotations

import pytest
from anyio.to_thread import run_sync

from saga.app import App, Coordinator
from tests.cli.running_shop import Asked, ask, services
from tests.cli.test_dlq import Said
from tests.cli.test_doctor_kafka import a_part, without_store
from tests.cli.test_doctor_postgres import run_sql
from tests.testbed.services import Kafka

pytestmark = pytest.mark.anyio


async def test_a_system_at_work_is_healthy_and_a_stopped_one_is_not(kafka: Kafka, database: str) -> None:
    url = a_part(kafka)

    def look(*arguments: str) -> Said:
        target = "tests.cli.running_shop:services"
        return without_store("doctor", target, "--store", database, "--transport", url, *arguments)

    app = App(services, store=database, transport=url, coordinator=Coordinator(), partitions=1)
    async with app:
        started = await ask(Asked(guest="ann"))
        assert (await started.outcome(60)).ending == "completed"
        said = await run_sync(look, "--strict")
        assert (said.code, said.out.partition(";")[0]) == (0, "nothing found"), said.out
        assert said.out.rstrip().endswith("(14 topics, 3 groups); 1 plans made from code")

    await run_sync(run_sql, database, "update saga_instance set phase = 'running', ended_at = null")
    said = await run_sync(look, "--json")
    codes = {line["code"]: line["severity"] for line in said.lines}
    assert said.code == 1
    # In its group a static member keeps its place for the session, but it has said that it goes.
    assert codes["service-absent"] == "wrong"


async def test_topics_come_from_published_plans_where_no_code_is_named(kafka: Kafka, database: str) -> None:
    url = a_part(kafka)
    async with App(services, store=database, transport=url, coordinator=Coordinator(), partitions=1):
        pass
    said = await run_sync(lambda: without_store("doctor", "--json", "--store", database, "--transport", url))
    assert not {line["code"] for line in said.lines} & {"topics-missing", "plan-missing", "schema-missing"}
    other = a_part(kafka)
    said = await run_sync(lambda: without_store("doctor", "--json", "--store", database, "--transport", other))
    missing = next(line for line in said.lines if line["code"] == "topics-missing")
    assert "rooms.commands" in missing["text"]
