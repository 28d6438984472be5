"""Run handlers that break their transaction: the fault is theirs, and nobody else waits for them."""

from __future__ import annotations

import asyncpg
import pytest

from saga import Ending, Run
from saga._core.ids import saga_id_of
from saga._core.words import Cause
from saga.app import SagaHandle
from tests.runtime.world import Placed, World, running, running_for_real
from tests.testbed.services import Kafka

pytestmark = pytest.mark.anyio


@pytest.mark.kafka
@pytest.mark.postgres
async def test_a_swallowed_database_error_fails_that_saga_alone(kafka: Kafka, database: str) -> None:
    world = World()
    victims: set[str] = set()

    async def swallow(run: Run) -> None:
        if run.saga_id in victims:
            try:
                await run.db.execute("insert into no_such_table values (1)")
            except asyncpg.PostgresError:
                return

    world.behaviour["reserve"] = swallow
    async with running_for_real(world, database, kafka.bootstrap):
        handles: list[SagaHandle] = []
        for number in range(6):
            key = str(number)
            if number == 3:
                victims.add(saga_id_of("checkout", "", key))
            handles.append(await world.place(Placed(order=key), key=key))
        endings = [await handle.outcome(60) for handle in handles]
    assert [end.ending for end in endings].count(Ending.COMPLETED) == 5
    assert (endings[3].ending, endings[3].cause) == (Ending.COMPENSATED, Cause.FAILED)


async def test_a_result_the_annotation_does_not_allow_fails_with_a_sentence() -> None:
    world = World()
    async with running(world):
        ended = await (await world.place(Placed(order="1", reserve="odd"))).outcome(20)
    assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.FAILED)
    assert "its annotation allows Reserved | OutOfStock" in ended.detail
    assert "attempts" not in ended.detail, "it is the same every time"
