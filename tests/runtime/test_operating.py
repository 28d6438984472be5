# pyright: reportPrivateUsage=false
"""Look after sagas by hand: hours of trouble in virtual time, and somebody who retries, skips, resolves and holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TypedDict, cast

import anyio
import pytest
import trio.testing

from outbox.sqlite import SqliteStore
from outbox.urls import open_operating_store
from saga import Cause, Ended, Ending, NotRunning, Retry, Run, SettingsError, VerbRefused, Verdict
from saga._core import emit
from saga._core.bodies import Close, Hold, Undo
from saga._core.relay import messages_of
from saga._core.rows import CoordinatorChanges
from saga._core.stored_instance import instance_of
from saga._runtime.given import Shapes
from saga.app import CoordinatorTuning
from saga.desk import Acted, CancelSaga, Given, HoldSaga, Mode, Result, RetryStep, RunKey, SagaDesk
from saga.errors import Conflict
from saga.operating import InstanceFilter
from saga.ports import CoordinationStore, OperatingStore
from tests.contracts.ageing import prune_expired
from tests.runtime.shapes import Approved, Ordered, ShapeWorld
from tests.runtime.test_external import SLOW, Charged, Declined, Sent, Till, is_down, loses_the_answer, shop
from tests.runtime.test_external import Placed as Bought
from tests.runtime.world import (
    Captured,
    Placed,
    Running,
    Shipped,
    VirtualClock,
    World,
    running,
    running_for_real,
)

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)
HOUR = 3600
ONCE = Retry(attempts=1)


class Signed(TypedDict):
    """Be who does something, and why."""

    who: str
    why: str


SIGNED: Signed = {"who": "ann", "why": "mended"}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def running_slowly(world: World) -> AbstractAsyncContextManager[Running]:
    """Run a world that looks for work now and then only: an hour of virtual time should not take a minute."""
    return running(world, tuning=SLOW, coordinating=CoordinatorTuning(tick_seconds=2.0))


def breaks(run: Run) -> None:
    """Be a handler with a bug."""
    raise RuntimeError("a bug")


async def stuck_undo(up: Running) -> str:
    """Return the ID of a saga whose compensation has failed for good."""
    up.world.behaviour["release"] = breaks
    handle = await up.world.place(Placed(order="1", capture="refuse"))
    ended = await handle.outcome(10 * HOUR)
    assert (ended.ending, ended.cause) == (Ending.STUCK, Cause.UNDO_FAILED)
    return str(handle.saga_id)


async def until(is_so: Callable[[], Awaitable[bool]], timeout_seconds: float = 60) -> None:
    """Look again and again until something is so."""
    with anyio.fail_after(timeout_seconds):
        while True:
            if await is_so():
                return
            await anyio.sleep(0.01)


async def ended_of(up: Running, saga_id: str, ending: Ending, timeout_seconds: float = 60) -> Ended:
    """Wait until a saga has come to an ending, whatever it was told before."""

    async def is_so() -> bool:
        return bool(up.world.endings) and up.world.endings[-1].ending is ending

    await until(is_so, timeout_seconds)
    assert up.world.endings[-1].saga_id == saga_id
    return up.world.endings[-1]


async def trail(up: Running) -> list[tuple[str, str]]:
    """Return what people did."""
    rows = await up.rows("select verb, target from saga_audit order by id")
    return [(row["verb"], row["target"]) for row in rows]


async def stays_as_it_is(desk: SagaDesk, saga_id: str, verb: str) -> None:
    acted = await getattr(desk, verb)(saga_id, **SIGNED)
    assert acted.result is Result.UNCHANGED


# --- retry and skip of an undo -----------------------------------------------------------------------------------


async def test_a_compensation_that_failed_for_good_is_tried_again_once_it_is_mended() -> None:
    async with running_slowly(World(undo_retry=ONCE)) as up, up.app.desk() as desk:
        saga_id = await stuck_undo(up)
        again = await desk.retry(saga_id, **SIGNED)
        assert again.sentence == "retry inventory.reserve; stuck -> closing; sends retry to inventory"
        await anyio.sleep(5)
        assert [row["phase"] for row in await up.rows("select phase from saga_instance")] == ["stuck"]
        del up.world.behaviour["release"]
        await desk.retry(saga_id, "inventory.reserve", **SIGNED)
        await desk.retry(saga_id, "inventory.reserve", **SIGNED)
        await ended_of(up, saga_id, Ending.COMPENSATED)
        assert await up.rows("select * from effect") == []
        assert [step for step, _ in up.world.seen].count("release") == 3
        assert await trail(up) == [("retry", "inventory.reserve")] * 3
        with pytest.raises(VerbRefused, match="has ended"):
            await desk.retry(saga_id, **SIGNED)


async def test_a_compensation_that_was_done_by_hand_is_skipped() -> None:
    async with running_slowly(World(undo_retry=ONCE)) as up, up.app.desk() as desk:
        saga_id = await stuck_undo(up)
        for _ in range(2):
            await desk.skip(saga_id, "inventory.reserve", **SIGNED)
        await ended_of(up, saga_id, Ending.COMPENSATED)
        assert [step for step, _ in up.world.seen].count("release") == 1
        (row,) = await up.rows("select undo, error from saga_run where step = 'inventory.reserve'")
        assert (row["undo"], row["error"]) == ("done", "skipped: mended")


async def test_a_compensation_that_waits_for_its_next_attempt_is_tried_at_once() -> None:
    patient = Retry(attempts=50, base_seconds=2 * HOUR, cap_seconds=2 * HOUR)
    async with running_slowly(World(undo_retry=patient)) as up, up.app.desk() as desk:
        up.world.behaviour["release"] = breaks
        handle = await up.world.place(Placed(order="1", capture="refuse"))
        await anyio.sleep(5)
        del up.world.behaviour["release"]
        before = anyio.current_time()
        await desk.retry(handle.saga_id, **SIGNED)
        assert (await handle.outcome(60)).ending is Ending.COMPENSATED
        assert anyio.current_time() - before < 5


# --- forward -------------------------------------------------------------------------------------------------------

SHORT = timedelta(minutes=2)
NOW_AND_THEN = Retry(base_seconds=20.0, cap_seconds=20.0)


async def test_a_step_that_never_succeeds_is_overdue_and_skipped_with_its_result() -> None:
    async with (
        running_slowly(World(timeout=SHORT, forward_window=SHORT, ship_retry=NOW_AND_THEN)) as up,
        up.app.desk() as desk,
    ):
        up.world.behaviour["ship"] = breaks
        handle = await up.world.place(Placed(order="1"))
        ended = await handle.outcome(HOUR)
        assert (ended.ending, ended.cause) == (Ending.STUCK, Cause.OVERDUE)
        await anyio.sleep(60)
        tries = len(up.world.seen)
        await anyio.sleep(60)
        assert len(up.world.seen) > tries, "its rows are kept, and it is tried on"
        with pytest.raises(VerbRefused, match=r"emits parcel\.shipped\.v1, not nothing"):
            await desk.skip(handle.saga_id, "shipping.ship", **SIGNED)
        for _ in range(2):
            await desk.skip(handle.saga_id, "shipping.ship", result=Shipped(order="1"), **SIGNED)
        await ended_of(up, handle.saga_id, Ending.COMPLETED)
        (row,) = await up.rows("select status, causes, result from saga_run where step = 'shipping.ship'")
        assert (row["status"], bytes(row["result"])) == ("done", b'{"order":"1"}')
        assert "payment.capture" in row["causes"]
        await anyio.sleep(60)
        assert await up.rows("select * from saga_delivery") == [], "what waited for an attempt is a duplicate now"
        (event,) = up.world.endings[-1:]
        assert event.cause is None


async def test_what_follows_goes_on_with_the_result_a_person_has_given() -> None:
    patient = World(timeout=timedelta(hours=3))
    async with running_slowly(patient) as up, up.app.desk() as desk:
        reached = anyio.Event()

        async def hangs(run: Run) -> None:
            reached.set()
            await anyio.sleep_forever()

        up.world.behaviour["capture"] = hangs
        handle = await up.world.place(Placed(order="1"))
        await reached.wait()
        await known(up, handle.saga_id, "inventory.reserve")
        given = Given(type=Captured.wire_type, payload=b'{"order":"1","ship":"fail 1"}')
        acted = await desk.skip(handle.saga_id, "payment.capture", result=given, **SIGNED)
        assert acted.sentence == "skip payment.capture; running; sends skip to payment"
        assert (await handle.outcome(60)).ending is Ending.COMPLETED
        assert [step for step, _ in up.world.seen].count("ship") == 2, "as the given result tells it"
        (row,) = await up.rows("select attempt, status from saga_run where step = 'payment.capture'")
        assert row["status"] == "done", "the answer that came late was dropped"


async def known(up: Running, saga_id: str, text: str) -> None:
    """Wait until the coordinator has heard of something."""

    async def is_so() -> bool:
        rows = await up.rows("select state from saga_instance where saga_id = $1", saga_id)
        return any(text.encode() in bytes(row["state"]) for row in rows)

    await until(is_so)


# --- in doubt --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "result", "ending", "owed"),
    [
        (Verdict.HAPPENED, Charged(order="1"), Ending.COMPENSATED, 0),
        (Verdict.HAPPENED, Declined(), Ending.COMPENSATED, 1),
        (Verdict.NOT_HAPPENED, None, Ending.COMPENSATED, 1),
    ],
)
async def test_a_person_says_what_came_of_a_call_that_is_to_be_undone(
    verdict: Verdict, result: Charged | Declined | None, ending: Ending, owed: int
) -> None:
    till = Till([loses_the_answer], attempts=1, probed=False)
    async with shop(till) as here, here.process(SLOW) as app, app.desk() as desk:
        handle = await till.place(Bought(order="1"))
        ended = await handle.outcome(timeout_seconds=2 * HOUR)
        assert (ended.ending, ended.cause) == (Ending.STUCK, Cause.IN_DOUBT)
        with pytest.raises(VerbRefused, match="must not be repeated"):
            await desk.retry(handle.saga_id, **SIGNED)
        asked = len(till.calls)
        for _ in range(2):
            await desk.resolve(handle.saga_id, "payment.charge", verdict=verdict, result=result, **SIGNED)
        await anyio.sleep(120)
        (row,) = (await here.coordination.load([handle.saga_id])).values()
        assert row.phase == ending.value
        assert (len(till.calls), till.outside.owed) == (asked, owed), "nobody has called again but for the refund"


async def test_a_result_that_its_service_cannot_read_leaves_the_call_in_doubt_and_says_why() -> None:
    till = Till([loses_the_answer], kind="pivot", attempts=10**6, probed=False, timeout=timedelta(hours=5))
    # A desk without the code, as elsewhere than beside the service.
    async with shop(till) as here, here.process(SLOW) as app, SagaDesk(here.coordination) as desk, app.desk() as own:
        handle = await till.place(Bought(order="1"))
        assert (await handle.outcome(timeout_seconds=2 * HOUR)).cause is Cause.IN_DOUBT
        wrong = Given(type=Charged.wire_type, payload=b'{"order": {"number": 1}}')
        verdict = Verdict.HAPPENED
        with pytest.raises(VerbRefused, match=r"the result does not fit payment\.charged\.v1: order: Input should be"):
            await own.resolve(handle.saga_id, "payment.charge", verdict=verdict, result=wrong, **SIGNED)
        for _ in range(2):
            await desk.resolve(handle.saga_id, "payment.charge", verdict=verdict, result=wrong, **SIGNED)
        await anyio.sleep(60)
        reason = "the given result does not fit payment.charged.v1: order: Input should be a valid string"
        instance = instance_of((await here.coordination.load([handle.saga_id]))[handle.saga_id])
        assert (instance.stuck, instance.stuck_detail) == (Cause.IN_DOUBT, f"payment.charge: {reason}")
        row = await here.row()
        assert (row["status"], row["result"], row["error"]) == ("intent", None, reason)
        charged = Charged(order="1")
        await desk.resolve(handle.saga_id, "payment.charge", verdict=verdict, result=charged, **SIGNED)
        await anyio.sleep(60)
        (ended,) = (await here.coordination.load([handle.saga_id])).values()
        assert ended.phase == "completed"


async def test_a_skip_with_a_result_that_its_service_cannot_read_is_a_dead_letter() -> None:
    world = World(timeout=SHORT, forward_window=SHORT, ship_retry=NOW_AND_THEN)
    async with running_slowly(world) as up, up.app.desk() as desk:
        desk._shapes = Shapes(())  # pyright: ignore[reportPrivateUsage] - a desk that is not beside the service
        up.world.behaviour["ship"] = breaks
        handle = await up.world.place(Placed(order="1"))
        assert (await handle.outcome(HOUR)).cause is Cause.OVERDUE
        wrong = Given(type=Shipped.wire_type, payload=b"{}")
        await desk.skip(handle.saga_id, "shipping.ship", result=wrong, **SIGNED)
        await anyio.sleep(60)
        (letter,) = await up.rows("select step, error from saga_delivery where reason = 'dead'")
        assert letter["step"] == "shipping.ship"
        assert letter["error"] == "the given result does not fit parcel.shipped.v1: order: Field required"
        assert await up.rows("select * from saga_run where step = 'shipping.ship' and status = 'done'") == []
        await desk.skip(handle.saga_id, "shipping.ship", result=Shipped(order="1"), **SIGNED)
        await ended_of(up, handle.saga_id, Ending.COMPLETED)


@pytest.mark.parametrize("happened", [True, False])
async def test_a_person_says_what_came_of_a_pivot(happened: bool) -> None:
    till = Till([loses_the_answer], kind="pivot", attempts=10**6, probed=False, timeout=timedelta(hours=5))
    async with shop(till) as here, here.process(SLOW) as app, app.desk() as desk:
        handle = await till.place(Bought(order="1"))
        ended = await handle.outcome(timeout_seconds=2 * HOUR)
        assert (ended.ending, ended.cause) == (Ending.STUCK, Cause.IN_DOUBT)
        verdict, result = (Verdict.HAPPENED, Charged(order="1")) if happened else (Verdict.NOT_HAPPENED, None)
        key = till.keys[-1]
        till.plays[:] = [succeeds]
        for _ in range(2):
            await desk.resolve(handle.saga_id, "payment.charge", verdict=verdict, result=result, **SIGNED)
        await anyio.sleep(120)
        (row,) = (await here.coordination.load([handle.saga_id])).values()
        assert row.phase == "completed"
        assert (till.keys[-1] == key) is happened, "what has not happened is called anew, under a new key, once"
        assert len(till.keys) == (1 if happened else 2)


async def succeeds(run: Run, outside: Any) -> None:
    outside.charge(run.idempotency_key)


async def test_a_call_that_is_still_asked_for_is_not_said_to_have_not_happened() -> None:
    till = Till([is_down], attempts=10**6, probed=False)
    async with shop(till) as here, here.process(SLOW) as app, app.desk() as desk:
        handle = await till.place(Bought(order="1"))
        await anyio.sleep(20)
        with pytest.raises(VerbRefused, match="asked again by itself"):
            await desk.resolve(handle.saga_id, "payment.charge", verdict=Verdict.NOT_HAPPENED, **SIGNED)
        charged = Charged(order="1")
        await desk.resolve(handle.saga_id, "payment.charge", verdict=Verdict.HAPPENED, result=charged, **SIGNED)
        assert (await handle.outcome(60)).ending is Ending.COMPLETED
        assert Sent.wire_type


# --- hold and release ------------------------------------------------------------------------------------------------


async def marks(up: Running, saga_id: str) -> set[str]:
    """Return the marks of all the gates of a saga."""
    return {row["mark"] for row in await up.rows("select mark from saga_gate where saga_id = $1", saga_id)}


def held_in(step: str, up: Running, desk: SagaDesk) -> None:
    """Have the saga held while `step` calls outside."""

    async def hold(run: Run) -> None:
        await known(up, run.saga_id, "inventory.reserve")
        await desk.hold(run.saga_id, **SIGNED)

        async def is_held() -> bool:
            return len(await up.rows("select * from saga_gate where mark = 'held'")) == 4

        await until(is_held, 4)

    up.world.behaviour[step] = hold


async def test_nothing_runs_for_as_long_as_it_is_held_and_then_everything_does() -> None:
    async with running_slowly(World(timeout=timedelta(minutes=30))) as up, up.app.desk() as desk:
        held_in("capture", up, desk)
        handle = await up.world.place(Placed(order="1"))
        await anyio.sleep(HOUR)
        assert [step for step, _ in up.world.seen] == ["reserve", "capture"]
        (row,) = await up.rows("select service, reason, step from saga_delivery")
        assert (row["service"], row["reason"], row["step"]) == ("shipping", "held", "shipping.ship")
        assert await up.rows("select * from saga_outbox") == []
        acted = await desk.release(handle.saga_id, **SIGNED)
        assert acted.sentence.startswith("release; running -> committed; sends release to inventory, release to orders")
        assert (await handle.outcome(60)).ending is Ending.COMPLETED
        assert [step for step, _ in up.world.seen] == ["reserve", "capture", "ship"]
        assert await marks(up, handle.saga_id) == {"free"}
        assert await up.rows("select * from saga_delivery") == []


async def test_the_time_it_was_held_counts_for_no_deadline() -> None:
    async with running_slowly(World(timeout=timedelta(minutes=3))) as up, up.app.desk() as desk:
        held_in("capture", up, desk)
        handle = await up.world.place(Placed(order="1", capture="refuse"))
        await anyio.sleep(600)
        (row,) = await up.rows("select phase, due_at from saga_instance")
        assert row["phase"] == "running", "neither the refusal nor the deadline has been acted upon"
        await desk.release(handle.saga_id, **SIGNED)
        ended = await handle.outcome(60)
        assert (ended.ending, ended.cause) == (Ending.COMPENSATED, Cause.REFUSED)


async def test_a_saga_held_past_its_deadlines_has_its_time_left() -> None:
    world = ShapeWorld(timeout=timedelta(minutes=10), within=timedelta(minutes=5))
    async with running_slowly(cast("World", world)) as up, up.app.desk() as desk:
        handle = await world.place(Ordered())
        await anyio.sleep(200)
        await desk.hold(handle.saga_id, **SIGNED)
        await anyio.sleep(900)
        await desk.release(handle.saga_id, **SIGNED)
        await anyio.sleep(30)
        assert world.endings == []
        await world.approve(Approved(by="ann"), saga_id=handle.saga_id)
        assert (await handle.outcome(60)).ending is Ending.COMPLETED


async def test_an_undo_that_comes_while_it_is_held_is_a_row() -> None:
    async with running_slowly(World(timeout=timedelta(hours=3))) as up, up.app.desk() as desk:
        held_in("capture", up, desk)
        handle = await up.world.place(Placed(order="1", capture="refuse"))
        await anyio.sleep(10)
        await send(up, handle.saga_id, "inventory", Undo(step="inventory.reserve"))
        await send(up, handle.saga_id, "inventory", Undo(step="inventory.reserve"))
        await anyio.sleep(600)
        (row,) = await up.rows("select service, reason from saga_delivery")
        assert (row["service"], row["reason"]) == ("inventory", "held")
        assert [step for step, _ in up.world.seen] == ["reserve", "capture"]
        await desk.release(handle.saga_id, **SIGNED)
        assert (await handle.outcome(60)).ending is Ending.COMPENSATED
        await anyio.sleep(60)
        assert [step for step, _ in up.world.seen] == ["reserve", "capture", "release"]
        assert await up.rows("select * from saga_delivery") == []


async def send(up: Running, saga_id: str, service: str, command: Undo | Hold | Close) -> None:
    """Send a command that its coordinator has written before and nobody has published until now."""
    (plan,) = {row["plan"] for row in await up.rows("select plan from saga_run where saga_id = $1", saga_id)}
    now = VirtualClock().now()
    about = emit.About(
        saga_id=saga_id,
        plan=plan,
        tenant="",
        expires_at=now + timedelta(days=8),
        now=now,
        traceparent="",
    )
    row = emit.command(command, service=service, about=about)
    async with up.transport.publisher() as publisher:
        (error,) = await publisher.publish(messages_of(row))
    assert error is None


async def test_an_older_hold_that_is_delivered_late_holds_nothing() -> None:
    async with running_slowly(World(timeout=timedelta(hours=3))) as up, up.app.desk() as desk:
        held_in("capture", up, desk)
        handle = await up.world.place(Placed(order="1", ship="fail 1"))
        await anyio.sleep(10)
        await desk.release(handle.saga_id, **SIGNED)
        await send(up, handle.saga_id, "shipping", Hold(number=1))
        assert (await handle.outcome(60)).ending is Ending.COMPLETED
        assert await marks(up, handle.saga_id) == {"free"}


async def test_two_people_hold_and_release_at_once_and_the_last_one_is_obeyed() -> None:
    async with running_slowly(World(timeout=timedelta(hours=3))) as up, up.app.desk() as desk, up.app.desk() as other:
        held_in("capture", up, desk)
        handle = await up.world.place(Placed(order="1"))
        await anyio.sleep(10)
        results: list[Result] = []

        async def press(name: str, at: SagaDesk) -> None:
            acted: Acted = await getattr(at, name)(handle.saga_id, **SIGNED)
            results.append(acted.result)

        for _ in range(10):
            async with anyio.create_task_group() as people:
                for at in (desk, other):
                    people.start_soon(press, "release", at)
                    people.start_soon(press, "hold", at)
        done = results.count(Result.DONE)
        assert len(results) == 40
        assert len(await trail(up)) == 1 + done, "what was so already leaves no trace"
        (row,) = await up.rows("select state from saga_instance")
        assert f'"number":{1 + done}'.encode() in bytes(row["state"]), "no two have the same number"
        await desk.hold(handle.saga_id, **SIGNED)
        await anyio.sleep(60)
        assert await marks(up, handle.saga_id) == {"held"}
        await other.release(handle.saga_id, **SIGNED)
        assert (await handle.outcome(60)).ending is Ending.COMPLETED


# --- cancel ----------------------------------------------------------------------------------------------------------


async def test_a_saga_is_cancelled_twice_and_undone_once() -> None:
    async with running_slowly(World(timeout=timedelta(hours=3))) as up, up.app.desk() as desk:
        held_in("capture", up, desk)
        handle = await up.world.place(Placed(order="1", capture="refuse"))
        await anyio.sleep(10)
        assert (await desk.cancel(handle.saga_id, **SIGNED)).sentence == "cancel; running"
        await stays_as_it_is(desk, handle.saga_id, "cancel")
        await anyio.sleep(300)
        await desk.release(handle.saga_id, **SIGNED)
        ended = await handle.outcome(60)
        assert ended.ending is Ending.COMPENSATED
        with pytest.raises(VerbRefused, match=r"has ended \(compensated\)"):
            await desk.cancel(handle.saga_id, **SIGNED)


async def test_past_the_pivot_a_cancel_is_refused() -> None:
    async with running_slowly(World(ship_retry=NOW_AND_THEN)) as up, up.app.desk() as desk:
        up.world.behaviour["ship"] = breaks
        handle = await up.world.place(Placed(order="1"))
        await known(up, handle.saga_id, '"phase":"committed"')
        with pytest.raises(VerbRefused, match="past its pivot"):
            await desk.cancel(handle.saga_id, **SIGNED)
        assert await trail(up) == []
        del up.world.behaviour["ship"]
        await desk.retry(handle.saga_id, "shipping.ship", **SIGNED)
        assert (await handle.outcome(60)).ending is Ending.COMPLETED


async def test_a_saga_that_is_being_undone_is_cancelled_already() -> None:
    async with running_slowly(World(undo_retry=ONCE)) as up, up.app.desk() as desk:
        saga_id = await stuck_undo(up)
        await stays_as_it_is(desk, saga_id, "cancel")
        with pytest.raises(VerbRefused, match="knows no saga nobody"):
            await desk.cancel("nobody", **SIGNED)


# --- keep ------------------------------------------------------------------------------------------------------------


async def prune(up: Running) -> int:
    """Forget at once what nobody can ask for any more."""
    return await prune_expired(up.store, 1000, 0.0)


@pytest.mark.parametrize("how", ["held", "failing"])
async def test_a_saga_that_is_open_for_long_goes_on_and_completes(how: str) -> None:
    async with (
        running_slowly(World(timeout=SHORT, forward_window=SHORT, ship_retry=NOW_AND_THEN)) as up,
        up.app.desk() as desk,
    ):
        if how == "held":
            held_in("capture", up, desk)
        else:
            up.world.behaviour["ship"] = breaks
        handle = await up.world.place(Placed(order="1"))
        for _ in range(20):
            await anyio.sleep(60)
            assert await prune(up) == 0
        if how == "held":
            assert up.world.endings == []
            await desk.release(handle.saga_id, **SIGNED)
        else:
            del up.world.behaviour["ship"]
            await desk.retry(handle.saga_id, **SIGNED)
        await ended_of(up, handle.saga_id, Ending.COMPLETED)
        await anyio.sleep(900)
        assert await prune(up) > 0, "nobody keeps the rows of what has ended"


async def test_an_undo_long_after_the_expiry_still_finds_its_rows() -> None:
    async with (
        running_slowly(World(timeout=SHORT, forward_window=SHORT, ship_retry=NOW_AND_THEN)) as up,
        up.app.desk() as desk,
    ):
        held_in("capture", up, desk)
        handle = await up.world.place(Placed(order="1", capture="refuse"))
        for _ in range(20):
            await anyio.sleep(60)
            assert await prune(up) == 0
        await desk.release(handle.saga_id, **SIGNED)
        assert (await handle.outcome(60)).ending is Ending.COMPENSATED
        assert await up.rows("select * from effect") == []


# --- many sagas ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def looking(name: str) -> AsyncGenerator[OperatingStore]:
    """Open what looks for sagas in the database of a world."""
    async with open_operating_store(f"sqlite:///:memory:?name={name}", clock=VirtualClock()) as store:
        yield store


async def bulk(desk: SagaDesk, verb: Any, *, wanted: InstanceFilter | None = None, **more: Any) -> list[Acted]:
    wanted = wanted or InstanceFilter(phases=("stuck",))
    async with aclosing(desk.each(wanted, verb, **SIGNED, **more)) as acts:
        return [acted async for acted in acts]


ALL = RetryStep(key=RunKey(step=""))


async def told(up: Running, endings: int) -> None:
    async def is_so() -> bool:
        return len(up.world.endings) >= endings

    await until(is_so, HOUR)


async def test_all_that_is_stuck_is_tried_again_page_by_page_and_what_cannot_be_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saga.desk.PAGE", 2)
    async with running_slowly(World(undo_retry=ONCE)) as up:
        store = up.app._coordinator.store  # type: ignore[union-attr]
        name = cast("SqliteStore", up.store)._name
        async with looking(name) as inspection, SagaDesk(store, inspection=inspection) as desk:  # type: ignore[arg-type]
            up.world.behaviour["release"] = breaks
            for number in range(5):
                await up.world.place(Placed(order=str(number), capture="refuse"))
            await told(up, 5)
            rehearsed = await bulk(desk, ALL, mode=Mode.DRY_RUN)
            assert [acted.result for acted in rehearsed] == [Result.DONE] * 5
            assert await trail(up) == []
            assert len(await bulk(desk, ALL, mode=Mode.DRY_RUN, limit=3)) == 3
            refused = await bulk(desk, CancelSaga(reason="x"), wanted=InstanceFilter())
            assert {acted.result for acted in refused} == {Result.UNCHANGED}
            del up.world.behaviour["release"]
            async with aclosing(desk.each(InstanceFilter(phases=("stuck",)), ALL, **SIGNED)) as acts:
                async for _ in acts:
                    break  # somebody has stopped it
            assert len(await trail(up)) == 1
            assert len(await bulk(desk, ALL)) == 4, "and has begun again"
            await told(up, 10)
            ended = await bulk(desk, HoldSaga(), wanted=InstanceFilter())
            assert {acted.result for acted in ended} == {Result.REFUSED}
            assert "has ended" in ended[0].sentence
            assert await bulk(desk, ALL) == []


async def test_a_desk_says_what_it_is_missing() -> None:
    async with running_slowly(World()) as up:
        async with up.app.desk() as desk:
            with pytest.raises(SettingsError, match="by URL"):
                await bulk(desk, ALL)
            with pytest.raises(SettingsError, match="who= and why="):
                await desk.hold("s", who="ann", why=" ")
        app = up.app
    with pytest.raises(NotRunning, match="no coordinator"):
        app.desk()


async def test_a_dry_run_tells_and_writes_nothing() -> None:
    async with running_slowly(World(undo_retry=ONCE)) as up, up.app.desk() as desk:
        saga_id = await stuck_undo(up)
        rows = await up.rows("select state, revision from saga_instance")
        acted = await desk.skip(saga_id, "inventory.reserve", **SIGNED, mode=Mode.DRY_RUN)
        assert acted.sentence == "skip inventory.reserve; stuck; sends skip to inventory"
        with pytest.raises(VerbRefused, match="no step 'nobody'"):
            await desk.skip(saga_id, "nobody", **SIGNED, mode=Mode.DRY_RUN)
        await anyio.sleep(60)
        assert await up.rows("select state, revision from saga_instance") == rows
        assert await trail(up) == []


class Busy:
    """Be a store at which others are always first, `times` times."""

    def __init__(self, store: CoordinationStore, times: int) -> None:
        self._store = store
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, changes: CoordinatorChanges) -> tuple[int, ...]:
        self._times -= 1
        if self._times >= 0:
            raise Conflict("somebody else was first")
        return await self._store.write(changes)


async def test_who_is_in_the_way_for_too_long_is_told() -> None:
    async with running_slowly(World(undo_retry=ONCE)) as up, up.app.desk() as desk:
        saga_id = await stuck_undo(up)
        busy = cast("CoordinationStore", Busy(desk._open, 7))
        async with SagaDesk(busy) as late:
            await late.hold(saga_id, **SIGNED)
        assert len(await trail(up)) == 1
        busy = cast("CoordinationStore", Busy(desk._open, 8))
        async with SagaDesk(busy) as late:
            with pytest.raises(Conflict):
                await late.release(saga_id, **SIGNED)
            await late.release(saga_id, **SIGNED)


# --- for real --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.kafka
@pytest.mark.postgres
async def test_a_saga_is_held_cancelled_retried_and_undone_for_real(database: str, kafka: Any) -> None:
    world = World(undo_retry=ONCE, timeout=timedelta(hours=3))
    async with running_for_real(world, database, kafka.bootstrap) as up, SagaDesk(database) as desk:
        world.behaviour["release"] = breaks
        held_in("capture", up, desk)
        handle = await world.place(Placed(order="1", capture="refuse"))

        async def is_held() -> bool:
            return await marks(up, handle.saga_id) == {"held"}

        await until(is_held)
        await desk.cancel(handle.saga_id, **SIGNED)
        await desk.release(handle.saga_id, **SIGNED)
        assert (await handle.outcome(60)).ending is Ending.STUCK
        del world.behaviour["release"]
        (acted,) = await bulk(desk, ALL)
        assert (acted.saga_id, acted.result) == (handle.saga_id, Result.DONE)
        await ended_of(up, handle.saga_id, Ending.COMPENSATED)
        assert await up.rows("select * from effect") == []
        assert [verb for verb, _ in await trail(up)] == ["hold", "cancel", "release", "retry"]
