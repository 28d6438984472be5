# pyright: reportPrivateUsage=false
"""Replay dead letters: each runs once, where its saga still may, and is dead again where it still cannot be read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
import trio
import trio.testing

from outbox.sqlite import SqliteStore
from outbox.urls import open_operating_store
from saga._core import emit
from saga._core.bodies import CancelRequested
from saga._core.limits import Limits
from saga._core.relay import messages_of
from saga._core.rows import GateRow
from saga._core.words import GateState, Reason
from saga.errors import Contended, SettingsError, StoreUnavailable
from saga.operating import DeadLetterDesk, LetterFilter, Progress
from saga.ports import Claim
from tests.runtime.test_bad_input import SAGA, send
from tests.runtime.test_waiting import STEPS, Office, office
from tests.runtime.world import EPOCH, VirtualClock, World, running

pytestmark = pytest.mark.anyio

TINY = Limits(value_bytes=3)
ALL = LetterFilter()
A_DAY_SECONDS = 86_400


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@asynccontextmanager
async def desk_of(name: str) -> AsyncGenerator[DeadLetterDesk]:
    """Open the desk of a database in memory, on the clock of the test."""
    at = f"sqlite:///:memory:?name={name}"
    async with open_operating_store(at, clock=VirtualClock()) as store, DeadLetterDesk(store) as desk:
        yield desk


async def replay(desk: DeadLetterDesk, wanted: LetterFilter = ALL, per_second: float = 1000.0) -> int:
    """Replay letters and return how many there were."""
    done = 0
    async with aclosing(desk.replay(wanted, per_second=per_second, who="ann", why="mended")) as passes:
        async for progress in passes:
            done = progress.letters
    return done


async def work(there: Office) -> None:
    """Handle what is due until nothing is."""
    while rows := await there.store.take_deliveries("office", 10, 60):
        await there.participant.handle([(row.raw, row) for row in rows])


async def spoil(there: Office) -> None:
    """Let the event arrive where it cannot be read."""
    there.context.limits = TINY
    await there.participant.handle([(there.event, None)])
    there.context.limits = Limits()


async def runs(there: Office) -> list[str]:
    """Return the steps that have run."""
    return [run["step"] for run in await there.rows("select step from saga_run order by step")]


async def test_a_mended_letter_runs_once_and_replaying_it_again_does_nothing() -> None:
    async with office("dead1") as there, desk_of("dead1") as desk:
        await spoil(there)
        (letter,) = await desk.list()
        assert (letter.attempt, letter.saga_id, letter.raw.value) == (0, "", there.event.value)
        assert await replay(desk) == 1
        await work(there)
        assert await runs(there) == STEPS
        assert await there.rows() == []
        assert await replay(desk, LetterFilter(ids=(letter.id,))) == 0
        await work(there)
        assert there.twins.tries == 2


async def test_a_letter_that_still_cannot_be_read_is_dead_again_in_its_own_row_and_counted() -> None:
    async with office("dead2") as there, desk_of("dead2") as desk:
        await spoil(there)
        (letter,) = await desk.list()
        there.context.limits = TINY
        for _ in range(2):
            assert await replay(desk) == 1
            await work(there)
        (again,) = await desk.list()
        assert (again.id, again.attempt, again.raw) == (letter.id, 1, letter.raw)
        assert again.error == letter.error


async def test_a_letter_that_can_be_read_but_not_handled_is_dead_again_in_its_own_row() -> None:
    async with office("dead3") as there, desk_of("dead3") as desk:
        foreign = replace(there.event, topic="desk.commands")
        await there.participant.handle([(foreign, None)])
        (letter,) = await desk.list()
        assert await replay(desk) == 1
        await work(there)
        (again,) = await desk.list()
        assert (again.id, again.attempt, again.saga_id, again.message_id) == (letter.id, 1, "s1", "1")


async def test_a_parked_row_that_expires_is_dead_in_its_own_row() -> None:
    async with office("dead4", knows=False) as there, desk_of("dead4") as desk:
        await there.participant.handle([(there.event, None)])
        (parked,) = await there.rows()
        await trio.sleep(A_DAY_SECONDS + 60)
        await work(there)
        (letter,) = await desk.list()
        assert (letter.id, letter.reason) == (parked["id"], Reason.DEAD)
        assert "expired while parked" in letter.error


async def test_a_letter_of_a_closed_saga_is_turned_away() -> None:
    async with office("dead5") as there, desk_of("dead5") as desk:
        await spoil(there)
        closed = GateRow(
            saga_id="s1",
            service="office",
            plan=there.plan.hash,
            state=GateState.CLOSED,
            expires_at=EPOCH + timedelta(days=1),
        )
        await there.write(gates=(closed,))
        assert await replay(desk) == 1
        await work(there)
        assert (await runs(there), await there.rows()) == ([], [])
    assert there.context.counts["turned_away"] == 2


async def test_a_letter_replayed_months_later_is_turned_away() -> None:
    async with office("dead6") as there, desk_of("dead6") as desk:
        await spoil(there)
        await trio.sleep(100 * A_DAY_SECONDS)
        assert await replay(desk) == 1
        await work(there)
        assert (await runs(there), await there.rows()) == ([], [])
    assert there.context.counts["expired"] == 2


# --- the pace of a replay ----------------------------------------------------------------------------------------


async def five_letters(there: Office) -> None:
    """Let five messages die."""
    there.context.limits = TINY
    await there.participant.handle([(replace(there.event, offset=n), None) for n in range(5)])


async def test_a_replay_keeps_its_pace_and_goes_on_after_an_interruption() -> None:
    async with office("dead7") as there, desk_of("dead7") as desk:
        await five_letters(there)
        began = trio.current_time()
        seen: list[Progress] = []
        async with aclosing(desk.replay(ALL, per_second=2, who="ann", why="mended")) as passes:
            async for progress in passes:
                seen.append(progress)
                if len(seen) == 2:
                    break
        assert [progress.letters for progress in seen] == [2, 4]
        assert trio.current_time() - began == pytest.approx(1)
        (left,) = await desk.list()
        assert left.id > seen[-1].last_id
        assert await replay(desk) == 1


async def test_what_dies_again_is_not_replayed_again_by_the_same_pass() -> None:
    async with office("dead8") as there, desk_of("dead8") as desk:
        await five_letters(there)
        done = 0
        async with aclosing(desk.replay(ALL, per_second=2, who="ann", why="mended")) as passes:
            async for progress in passes:
                done = progress.letters
                assert done <= 5
                await work(there)
                await five_letters(there)
        assert done == 5
        assert len(await desk.list()) == 5 + 3 * 5


async def test_others_at_the_same_rows_are_waited_for_and_not_for_ever() -> None:
    class Busy:
        def __init__(self, store: Any, times: int) -> None:
            self.store, self.times = store, times

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        async def replay(self, *args: Any, **kwargs: Any) -> Any:
            self.times -= 1
            if self.times >= 0:
                raise Contended("locked")
            return await self.store.replay(*args, **kwargs)

    async with office("dead9") as there:
        await five_letters(there)
        async with open_operating_store("sqlite:///:memory:?name=dead9", clock=VirtualClock()) as store:
            async with DeadLetterDesk(cast("Any", Busy(store, 5))) as desk:
                assert await replay(desk) == 5
            await five_letters(there)
            async with DeadLetterDesk(cast("Any", Busy(store, 6))) as desk:
                with pytest.raises(Contended):
                    await replay(desk)


async def test_what_makes_no_sense_is_refused() -> None:
    async with office("dead10"), desk_of("dead10") as desk:
        with pytest.raises(SettingsError, match="above 0"):
            await replay(desk, per_second=0)
        with pytest.raises(SettingsError, match="audit trail"):
            await desk.discard(ALL, who="ann", why=" ")
        with pytest.raises(SettingsError, match="audit trail"):
            await anext(desk.replay(ALL, who="", why="mended"))
    with pytest.raises(StoreUnavailable, match="async with"):
        await desk.list()


async def test_letters_are_discarded_page_by_page() -> None:
    async with office("dead11") as there, desk_of("dead11") as desk:
        there.context.limits = TINY
        await there.participant.handle([(replace(there.event, offset=n), None) for n in range(250)])
        assert await desk.discard(LetterFilter(service="office"), who="ann", why="old") == 250
        assert await desk.discard(LetterFilter(service="office"), who="ann", why="old") == 0


# --- the coordinator's -------------------------------------------------------------------------------------------


async def until(found: Callable[[], Awaitable[object]]) -> None:
    """Wait for something to be so."""
    with trio.fail_after(60):
        while not await found():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.1)


async def test_a_coordinators_letter_is_published_again_and_dead_again_until_it_is_mended() -> None:
    async with running(World()) as up:
        about = emit.About(
            saga_id=SAGA,
            plan=up.app.plans[0].hash,
            tenant="",
            expires_at=EPOCH + timedelta(days=1),
            now=EPOCH,
            traceparent="",
        )
        cancel = emit.report(CancelRequested(reason="changed my mind"), service="orders", about=about)
        (sound,) = messages_of(cancel)
        async with up.transport.publisher() as publisher:
            await send(publisher, [replace(sound, value=b"{")])
        name = cast("SqliteStore", up.store)._name
        async with desk_of(name or "") as desk:
            await until(desk.list)
            (letter,) = await desk.list()
            assert await replay(desk) == 1, "only what was dead when it began"
            await until(desk.list)
            (again,) = await desk.list()
            assert again.id > letter.id
            assert (again.raw.key, again.raw.value, again.raw.headers) == (SAGA.encode(), b"{", sound.headers)
            async with up.store.unit(Claim(service="orders", sagas=())) as unit:
                await unit.db.execute("update saga_delivery set raw_value = $1", sound.value)
            assert await replay(desk) == 1
            await until(lambda: up.rows("select 1 as one from saga_instance where phase = 'compensated'"))
            assert await desk.list() == []
