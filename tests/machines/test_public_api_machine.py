"""Let people place, approve, cancel and hold while handlers fail and the app dies: every saga ends as it may."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from saga.testing import VirtualClock, run
from tests.machines.playing import TUNING, on_sqlite, play
from tests.machines.profiles import profile
from tests.machines.steps import Step, shape_orders, simple_orders, steps_of

HOUR = 3600.0
_NUMBERS = count(1)


async def in_memory(steps: list[Step]) -> None:
    address = f"sqlite:///:memory:?name=play{next(_NUMBERS)}"
    async with on_sqlite(address, VirtualClock()) as opened:
        await play(steps, opened, tuning=TUNING, patience_seconds=3 * HOUR)


@profile(25)
@given(steps=steps_of(st.one_of(simple_orders, shape_orders), longest_seconds=400.0))
def test_whatever_is_done_every_saga_ends_as_it_may(steps: list[Step]) -> None:
    run(in_memory, steps)
