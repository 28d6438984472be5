"""Let people place, approve, cancel and hold while handlers fail and the app dies: every saga ends as it may."""

from __future__ import annotations

from itertools import count
from tempfile import TemporaryDirectory

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import example, given
from hypothesis import strategies as st

from saga.app import CoordinatorTuning, Tuning
from saga.testing import VirtualClock, run
from tests.machines.playing import COORDINATOR_TUNING, TUNING, on_servers, on_sqlite, play
from tests.machines.profiles import profile
from tests.machines.steps import (
    Approve,
    ApproveKey,
    Crash,
    Hold,
    Kind,
    Order,
    Place,
    Step,
    Trouble,
    Wait,
    shape_orders,
    simple_orders,
    steps_of,
)
from tests.testbed.services import Kafka

HOUR = 3600.0
_NUMBERS = count(1)
ALL = steps_of(st.one_of(simple_orders, shape_orders), longest_seconds=400.0)
DIES_WHEN_TOLD: list[Step] = [Place(order=Order(), key="k1"), Wait(seconds=0.05), Crash(), Wait(seconds=10.0)]
HELD_BEFORE_ITS_LAST_STEP: list[Step] = [
    Place(order=Order(kind=Kind.SHAPE, parcels=2), key="k1"),
    Approve(pick=0, by="ada"),
    Wait(seconds=10.0),
    Hold(pick=0),
    *(Wait(seconds=40.0), Wait(seconds=400.0)),
]
TWO_SAY_SO: list[Step] = [ApproveKey(key="k1", by="ada"), ApproveKey(key="k1", by="bob")]
SHORT = steps_of(simple_orders, longest_seconds=1.0)


async def on(address: str, steps: list[Step]) -> None:
    async with on_sqlite(address, VirtualClock()) as opened:
        how = {"tuning": TUNING, "coordinator_tuning": COORDINATOR_TUNING, "patience_seconds": 3 * HOUR}
        await play(steps, opened, **how)


@profile(40)
@given(steps=ALL)
@example(steps=DIES_WHEN_TOLD)
@example(steps=TWO_SAY_SO)
@example(steps=HELD_BEFORE_ITS_LAST_STEP)
def test_whatever_is_done_every_saga_ends_as_it_may(steps: list[Step]) -> None:
    run(on, f"sqlite:///:memory:?name=play{next(_NUMBERS)}", steps)


@profile(3)
@given(steps=ALL)
def test_likewise_on_a_file(steps: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        run(on, f"sqlite:///{folder}/play.db", steps)


@pytest.mark.kafka
@pytest.mark.postgres
def test_likewise_on_postgres_and_kafka(database: str, kafka: Kafka) -> None:
    @profile(3)
    @given(steps=SHORT.map(without_trouble))
    def played(steps: list[Step]) -> None:
        portal.call(on_real, steps)

    async def on_real(steps: list[Step]) -> None:
        salt = f"{next(_NUMBERS)}-"
        how = {"tuning": Tuning(beat_seconds=1.0), "coordinator_tuning": CoordinatorTuning(), "patience_seconds": 60.0}
        await play(steps, opened, with_shapes=False, salt=salt, **how)

    servers = on_servers(database, kafka.bootstrap)
    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(servers) as opened:
        played()


def without_trouble(steps: list[Step]) -> list[Step]:
    """Leave out what takes its time, such as a handler that hangs."""
    return [step for step in steps if not isinstance(step, Trouble)]
