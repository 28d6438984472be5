"""Outside calls nobody answered: an hour of trouble in virtual time, and the outside system's own books afterwards."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import (
    NOT_FOUND,
    Dependency,
    Ended,
    Ending,
    Event,
    NotFound,
    Purpose,
    Refusal,
    Retry,
    Run,
    Saga,
    Service,
    Start,
)
from saga.app import App, Coordinator, Tuning
from saga.ports import Claim, Store
from tests.runtime.world import VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)
IN_FLIGHT, KEY_TTL = timedelta(minutes=2), timedelta(minutes=10)
TUNING = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)
SLOW = Tuning(fetch_timeout_seconds=5.0, waiting_poll_seconds=20.0, pending_poll_seconds=20.0, beat_seconds=20.0)
HOURS = 3600


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Placed(Event, name="order.placed", version=1):
    """Be an order."""

    order: str


class Charged(Event, name="payment.charged", version=1):
    """Be money taken."""

    order: str


class Sent(Event, name="parcel.sent", version=1):
    """Be the end."""

    order: str


class Declined(Refusal, name="payment.declined", version=1):
    """Be a no."""


class NoParcel(Refusal, name="parcel.refused", version=1):
    """Be a no after the money was taken."""


class GatewayDown(Exception):
    """Be no answer."""


@dataclass
class Outside:
    """Be the outside system: its books are right whatever becomes of its answers.

    It makes one charge for each key, and knows a key for `key_ttl_seconds` after it saw it first.
    """

    key_ttl_seconds: float = KEY_TTL.total_seconds()
    charges: list[str] = field(default_factory=list[str])
    refunds: list[str] = field(default_factory=list[str])
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    known: dict[str, float] = field(default_factory=dict[str, float])

    def charge(self, key: str) -> None:
        """Take the money, once for each key it knows."""
        self.forget()
        if key not in self.known:
            self.known[key] = anyio.current_time()
            self.charges.append(key)

    def refund(self, key: str, charge: str) -> None:
        """Give the money back, once for each key it knows."""
        self.forget()
        if key not in self.known:
            self.known[key] = anyio.current_time()
            self.refunds.append(charge)

    def forget(self) -> None:
        """Forget keys that are too old."""
        now = anyio.current_time()
        self.known = {key: at for key, at in self.known.items() if now - at < self.key_ttl_seconds}

    @property
    def owed(self) -> int:
        """Return how many charges stand."""
        return len(self.charges) - len(self.refunds)


Play = Callable[[Run, Outside], Awaitable[None]]


async def charges(run: Run, outside: Outside) -> None:
    """Answer."""
    outside.charge(run.idempotency_key)


async def loses_the_answer(run: Run, outside: Outside) -> None:
    """Do it, and break the connection."""
    outside.charge(run.idempotency_key)
    raise GatewayDown


async def is_down(run: Run, outside: Outside) -> None:
    """Do nothing, and say so."""
    raise GatewayDown


async def hangs(run: Run, outside: Outside) -> None:
    """Do nothing, and say nothing."""
    await anyio.sleep_forever()


@dataclass
class Till:
    """Hold a shop whose payments go outside: every call plays the next of `plays`, the last one for ever."""

    plays: list[Play]
    kind: str = "step"
    probed: bool = True
    refuses_parcel: bool = False
    probes: list[Play] = field(default_factory=list[Play])
    attempts: int = 3
    timeout: timedelta = timedelta(hours=1)
    outside: Outside = field(default_factory=Outside)
    place: Start[Placed] = field(init=False)
    refunding: list[Play] = field(default_factory=list[Play])

    def __post_init__(self) -> None:
        """Declare shop -> payment (outside) -> shipping."""
        self.saga = Saga("till", version=1, timeout=self.timeout, forward_window=timedelta(days=7))
        shop, payment, shipping = map(Service, ("shop", "payment", "shipping"))
        self.services = [shop, payment, shipping]
        self.place = shop.starts(self.saga, Placed)
        if self.kind == "pivot":
            self._declare_payment(payment)
            shipping.retriable(self.saga)(self._send_surely())
        else:
            self._declare_payment(payment)
            shipping.pivot(self.saga)(self._send())

    def _declare_payment(self, payment: Service) -> None:
        outside, seconds = self.outside, timedelta(seconds=10)
        gateway = Dependency("gateway", max_in_flight=IN_FLIGHT, key_ttl=KEY_TTL)
        retry = Retry(attempts=self.attempts, base_seconds=1.0, cap_seconds=2.0)

        async def charge(placed: Placed, run: Run) -> Charged | Declined:
            outside.asked.append((f"call {run.purpose.value}", run.idempotency_key))
            await (self.plays.pop(0) if len(self.plays) > 1 else self.plays[0])(run, outside)
            return Charged(order=placed.order)

        if self.kind == "pivot":
            step = payment.pivot(self.saga, calls=gateway, timeout=seconds, retry=retry)(charge)
        else:
            step = payment.step(self.saga, calls=gateway, timeout=seconds, retry=retry)(charge)

            @step.compensation(calls=gateway, timeout=seconds)
            async def refund(charged: Charged, run: Run) -> None:
                if self.refunding:
                    await self.refunding.pop(0)(run, outside)
                outside.refund(run.idempotency_key, charged.order)

        if self.probed:

            @step.confirm
            async def find_charge(placed: Placed, run: Run) -> Charged | Declined | NotFound:
                assert run.purpose is Purpose.RESOLVE
                outside.asked.append(("probe", run.idempotency_key))
                outside.forget()
                if self.probes:
                    await self.probes.pop(0)(run, outside)
                return Charged(order=placed.order) if run.idempotency_key in outside.known else NOT_FOUND

    def _send(self) -> Any:
        async def send(charged: Charged, run: Run) -> Sent | NoParcel:
            return NoParcel() if self.refuses_parcel else Sent(order=charged.order)

        return send

    def _send_surely(self) -> Any:
        async def send(charged: Charged, run: Run) -> Sent:
            return Sent(order=charged.order)

        return send

    @property
    def calls(self) -> list[str]:
        """Return what was asked, without keys."""
        return [what for what, _ in self.outside.asked]

    @property
    def keys(self) -> list[str]:
        """Return the keys used, each once, in order."""
        return list(dict.fromkeys(key for _, key in self.outside.asked))


@dataclass
class Shop:
    """Be the till's databases and transport, which outlive its processes."""

    till: Till
    store: Store
    coordination: Any
    transport: MemoryTransport

    @asynccontextmanager
    async def process(self, tuning: Tuning = TUNING) -> AsyncGenerator[App]:
        """Run one process of everything."""
        coordinator = Coordinator(store=self.coordination)
        app = App(
            self.till.services, coordinator=coordinator, store=self.store, transport=self.transport, tuning=tuning
        )
        async with app:
            yield app

    async def crash(self, after_seconds: float) -> None:
        """Place an order and lose the process so long after it: calls under way are cut, nothing more is written."""
        with anyio.move_on_after(after_seconds):
            async with self.process(replace(TUNING, drain_seconds=0.0)):
                await self.till.place(Placed(order="1"), key="1")
                await anyio.sleep_forever()

    async def row(self) -> Any:
        """Return the payment's run row."""
        async with self.store.unit(Claim(service="payment", sagas=())) as unit:
            (row,) = await unit.db.fetch("select * from saga_run where step = 'payment.charge'")
            return row


@asynccontextmanager
async def shop(till: Till) -> AsyncGenerator[Shop]:
    """Open the databases of a till."""
    address, clock = f"sqlite:///:memory:?name=till{next(_NUMBERS)}", VirtualClock()
    async with (
        open_store(address, clock=clock) as store,
        open_coordination_store(address, clock=clock) as coordination,
        MemoryTransport() as transport,
    ):
        await store.migrate()
        yield Shop(till=till, store=store, coordination=coordination, transport=transport)


async def bought(till: Till) -> Ending:
    """Place one order and return how it ended."""
    async with shop(till) as here, here.process():
        handle = await till.place(Placed(order="1"))
        ended: Ended = await handle.outcome(timeout_seconds=2 * HOURS)
        return ended.ending


async def bought_after_a_crash(till: Till, away_seconds: float = 0.0) -> Ending:
    """Place one order, lose the process in its call, come back and return how it ended."""
    async with shop(till) as here:
        await here.crash(after_seconds=5)
        await anyio.sleep(away_seconds)
        async with here.process():
            handle = await till.place(Placed(order="1"), key="1")
            ended: Ended = await handle.outcome(timeout_seconds=2 * HOURS)
        return ended.ending


# --- forward -------------------------------------------------------------------------------------------------


async def test_after_a_lost_answer_the_call_is_repeated_with_its_key() -> None:
    till = Till([loses_the_answer, charges])
    assert await bought(till) is Ending.COMPLETED
    assert (till.calls, len(till.keys), till.outside.owed) == (["call act", "call act"], 1, 1)


async def test_after_a_crash_the_probe_brings_the_answer_and_nothing_is_called_again() -> None:
    async def dies_having_charged(run: Run, outside: Outside) -> None:
        outside.charge(run.idempotency_key)
        await anyio.sleep_forever()

    till = Till([dies_having_charged])
    assert await bought_after_a_crash(till) is Ending.COMPLETED
    assert (till.calls, till.outside.owed) == (["call act", "probe"], 1)


async def test_after_a_crash_before_the_call_the_same_key_is_called() -> None:
    till = Till([hangs, charges])
    assert await bought_after_a_crash(till) is Ending.COMPLETED
    assert (till.calls, len(till.keys), till.outside.owed) == (["call act", "probe", "call act"], 1, 1)


async def test_a_call_may_have_begun_as_late_as_its_lease_allows() -> None:
    till = Till([hangs, charges])
    assert await bought_after_a_crash(till, away_seconds=IN_FLIGHT.total_seconds()) is Ending.COMPLETED
    assert (till.calls, len(till.keys)) == (["call act", "probe", "call act"], 1)


async def test_without_a_probe_the_same_call_is_made_again_after_a_crash() -> None:
    till = Till([hangs, charges], probed=False)
    assert await bought_after_a_crash(till) is Ending.COMPLETED
    assert (till.calls, len(till.keys), till.outside.owed) == (["call act", "call act"], 1, 1)


async def test_a_call_proven_not_to_have_happened_is_made_anew_with_another_key() -> None:
    till = Till([hangs, charges])
    assert await bought_after_a_crash(till, away_seconds=IN_FLIGHT.total_seconds() + 15) is Ending.COMPLETED
    assert (till.calls, len(till.keys), till.outside.owed) == (["call act", "probe", "call act"], 2, 1)


# --- undo ------------------------------------------------------------------------------------------------------


async def test_an_undo_in_doubt_is_resolved_by_the_probe_and_then_compensated() -> None:
    till = Till([loses_the_answer])
    assert await bought(till) is Ending.COMPENSATED
    assert (till.calls, till.outside.owed) == (["call act"] * 3 + ["probe"], 0)
    assert len(till.outside.refunds) == 1


async def test_an_undo_waits_until_the_call_can_no_longer_be_under_way() -> None:
    """The call is given up, the probe finds nothing, and then the gateway does it after all."""

    async def does_it_late(run: Run, outside: Outside) -> None:
        late.start_soon(_later, run.idempotency_key, outside)
        raise GatewayDown

    async def _later(key: str, outside: Outside) -> None:
        await anyio.sleep(90)
        outside.charge(key)

    till = Till([does_it_late], attempts=1)
    async with anyio.create_task_group() as late:
        assert await bought(till) is Ending.COMPENSATED
    assert till.calls == ["call act", "probe", "probe"]
    assert (len(till.outside.charges), till.outside.owed) == (1, 0)


async def test_an_undo_of_what_has_not_happened_calls_nothing_more() -> None:
    till = Till([is_down], attempts=2)
    assert await bought(till) is Ending.COMPENSATED
    assert till.calls == ["call act", "call act", "probe", "probe"]
    assert (till.outside.charges, till.outside.refunds) == ([], [])


async def test_an_undo_asks_a_probe_that_does_not_answer_until_it_does() -> None:
    till = Till([loses_the_answer], attempts=1, probes=[is_down, hangs, is_down])
    assert await bought(till) is Ending.COMPENSATED
    assert (till.calls, till.outside.owed) == (["call act"] + ["probe"] * 4, 0)


@pytest.mark.parametrize("kind", ["step", "pivot"])
async def test_an_intent_that_nobody_has_called_is_stopped_without_asking(kind: str) -> None:
    till = Till([charges], kind=kind, timeout=timedelta(minutes=1))
    async with shop(till) as here, here.process(replace(TUNING, calls_in_flight=0)):
        handle = await till.place(Placed(order="1"))
        assert (await handle.outcome(timeout_seconds=300)).ending is Ending.COMPENSATED
        row = await here.row()
    assert (row["pending_at"], row["called_at"], till.calls) == (None, None, [])


# --- the pivot -------------------------------------------------------------------------------------------------


async def test_a_pivot_that_has_happened_wins_against_the_deadline() -> None:
    async def does_it_and_hangs(run: Run, outside: Outside) -> None:
        outside.charge(run.idempotency_key)
        await anyio.sleep_forever()

    till = Till([does_it_and_hangs], kind="pivot", attempts=1)
    assert await bought(till) is Ending.COMPLETED
    assert (till.calls, till.outside.owed) == (["call act", "probe"], 1)


async def test_a_pivot_proven_not_to_have_happened_lets_the_saga_be_undone() -> None:
    till = Till([hangs], kind="pivot", attempts=1)
    assert await bought(till) is Ending.COMPENSATED
    assert (till.calls, till.outside.charges) == (["call act", "probe", "probe"], [])


# --- the key's end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probed", [True, False])
async def test_past_the_keys_end_nothing_is_repeated_and_a_person_is_asked(probed: bool) -> None:
    till = Till([loses_the_answer], attempts=1, probed=probed, probes=[is_down] * 10**4)
    async with shop(till) as here, here.process(SLOW) as app:
        handle = await till.place(Placed(order="1"))
        assert (await handle.outcome(timeout_seconds=2 * HOURS)).ending is Ending.STUCK
        asked = len(till.calls)
        await anyio.sleep(100)
        row = await here.row()
        counts = dict(app.context("payment").counts)
    assert (row["pending_at"], row["undo"], row["status"]) == (None, "wanted", "failed")
    assert "its key may be forgotten" in row["error"]
    assert (counts["in_doubt"], len(till.calls)) == (1, asked), "it is reported once and then left alone"
    assert len(till.outside.charges) == 1, "a key that may be forgotten is not called again"


async def test_a_probe_may_bring_the_answer_after_the_keys_end() -> None:
    """The books still show the charge; only that they show nothing would prove nothing."""

    till = Till([loses_the_answer], attempts=1, probes=[is_down] * 3)
    till.outside.key_ttl_seconds = 10.0**9
    async with shop(till) as here:
        await here.crash(after_seconds=2)
        await anyio.sleep(KEY_TTL.total_seconds())
        till.probes.clear()
        async with here.process(SLOW):
            handle = await till.place(Placed(order="1"), key="1")
            assert (await handle.outcome(timeout_seconds=2 * HOURS)).ending is Ending.COMPENSATED
    assert till.outside.owed == 0


async def test_a_call_that_was_not_answered_for_too_long_is_not_made_again_after_a_crash() -> None:
    till = Till([hangs], probed=False)
    async with shop(till) as here:
        await here.crash(after_seconds=5)
        await anyio.sleep(KEY_TTL.total_seconds())
        async with here.process(SLOW):
            handle = await till.place(Placed(order="1"), key="1")
            assert (await handle.outcome(timeout_seconds=2 * HOURS)).ending is Ending.STUCK
        row = await here.row()
    assert (till.calls, row["undo"], row["pending_at"]) == (["call act"], "none", None)


async def test_a_compensation_is_not_repeated_past_its_keys_end() -> None:
    async def refunds_and_hangs(run: Run, outside: Outside) -> None:
        outside.refund(run.idempotency_key, "1")
        await anyio.sleep_forever()

    till = Till([charges], refuses_parcel=True, refunding=[refunds_and_hangs])
    async with shop(till) as here:
        await here.crash(after_seconds=5)
        assert till.outside.refunds == ["1"]
        await anyio.sleep(KEY_TTL.total_seconds())
        async with here.process(SLOW):
            handle = await till.place(Placed(order="1"), key="1")
            assert (await handle.outcome(timeout_seconds=2 * HOURS)).ending is Ending.STUCK
    assert till.outside.refunds == ["1"], "a refund whose key may be forgotten is not made again"


# --- heartbeats ---------------------------------------------------------------------------------------------------


async def test_a_call_longer_than_a_lease_is_kept_by_its_heartbeats() -> None:
    async def takes_its_time(run: Run, outside: Outside) -> None:
        await anyio.sleep(9)
        outside.charge(run.idempotency_key)

    till = Till([takes_its_time])
    quick = replace(TUNING, beat_seconds=1.0)
    async with shop(till) as here, here.process(quick) as one, here.process(quick) as other:
        handle = await till.place(Placed(order="1"))
        assert (await handle.outcome(timeout_seconds=60)).ending is Ending.COMPLETED
        counts = [app.context("payment").counts for app in (one, other)]
    assert till.calls == ["call act"]
    assert not any("taken_over" in each or "silent" in each for each in counts)


async def test_a_silent_owner_is_named_after_two_beats_and_loses_its_calls_after_three(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "saga")
    till = Till([hangs, charges])
    async with shop(till) as here:
        # The other process's beats come between the second and the third that this one misses.
        await here.crash(after_seconds=3)
        owner = (await here.row())["owner"]
        async with here.process() as app:
            handle = await till.place(Placed(order="1"), key="1")
            assert (await handle.outcome(timeout_seconds=60)).ending is Ending.COMPLETED
            counts = dict(app.context("payment").counts)
    said = [record.getMessage() for record in caplog.records if owner in record.getMessage()]
    assert len(said) == 2
    assert "has missed two heartbeats" in said[0]
    assert "is taken over from" in said[1]
    assert (counts["silent"], counts["taken_over"]) == (1, 1)


async def test_a_call_whose_run_somebody_else_has_is_cancelled() -> None:
    cut: list[str] = []

    async def is_cut(run: Run, outside: Outside) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cut.append(run.idempotency_key)

    till = Till([is_cut])
    slow = replace(TUNING, beat_seconds=2.0)
    async with shop(till) as here, here.process(slow) as app:
        await till.place(Placed(order="1"))
        await anyio.sleep(1)
        async with here.store.unit(Claim(service="payment", sagas=())) as unit:
            await unit.db.execute("update saga_run set revision = revision + 1, owner = 'x' where owner <> ''")
        await anyio.sleep(2.5)
        assert len(cut) == 1
        assert app.context("payment").counts["lost"] == 1
        assert (await here.row())["status"] == "intent"
