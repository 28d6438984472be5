"""Stop calling a dependency that fails, for a minute of virtual time, and begin again without a herd."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import anyio
import pytest
import trio.testing
from anyio.abc import TaskGroup, TaskStatus

from saga import Breaker, Cause, Dependency, Ending, Overloaded, Retry, WhenOpen
from saga._core.breaker import CallOutcome, Phase
from saga._core.envelope import Message
from saga._core.fleet import FleetVerdict, verdict_message
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan
from saga._core.resolve import resolve_all
from saga._core.rows import RunRow
from saga._core.topics import BREAKERS
from saga._core.words import RunStatus
from saga._runtime.context import ServiceContext
from saga._runtime.fleet import Fleet, FleetJudge
from saga._runtime.planbook import PlanBook
from saga._runtime.throttle import Throttle
from saga._runtime.tokens import Tokens
from saga._runtime.tracing import NullTracer
from saga.app import App
from saga.ports import Claim, Cleanup, Publisher, TopicSpec
from tests.runtime.outage_world import Ordered, Shop, apart, databases, up
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

PER_SECOND = 5
"""A scale of 1:40 of a service that places two hundred sagas a second."""
BREAKER = Breaker()
ORDERS = Claim(service="orders", sagas=())


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def throttle(app: App) -> Throttle:
    """Return the payment service's view of the gateway."""
    return app.context("payment").throttles["gateway"]


async def outage(shop: Shop, seconds: float) -> None:
    """Take the gateway down for a time."""
    shop.gateway.up = False
    await anyio.sleep(seconds)
    shop.gateway.up = True


async def served(app: App, *, task_status: TaskStatus[anyio.CancelScope]) -> None:
    """Run an app until its scope is cancelled."""
    with anyio.CancelScope() as scope:
        async with app:
            task_status.started(scope)
            await anyio.sleep_forever()


# --- one process -----------------------------------------------------------------------------------------------


async def test_a_minute_without_the_gateway_costs_few_calls_and_no_saga() -> None:
    shop = Shop(breaker=BREAKER)
    async with up(shop):
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.place_steadily, PER_SECOND, 120)
            await anyio.sleep(30)
            await outage(shop, 60)
        await shop.all_ended(PER_SECOND * 120, within_seconds=180)
        ended = anyio.current_time()
    assert shop.ended == {Ending.COMPLETED: PER_SECOND * 120}
    # Half of the window's calls fail and open it, others are under way; then three canaries every eleven seconds.
    window = BREAKER.failure_rate * BREAKER.sliding_window + 20
    assert shop.gateway.unanswered.total() <= window + 6 * BREAKER.half_open_permits
    calls = shop.gateway.per_second(began, ended)
    down = calls[30 + 10 : 90]
    assert max(down) <= BREAKER.half_open_permits
    assert sum(down) <= 6 * BREAKER.half_open_permits
    # Growing waves: never twice the usual rate, and a token of rounding, though three hundred runs are waiting.
    assert max(calls[90:]) <= BREAKER.release_growth * PER_SECOND * 1.2 + 1
    assert max(calls[92:97]) <= PER_SECOND
    assert set(shop.gateway.charged.values()) == {1}


async def test_no_run_is_given_up_because_it_was_a_canary() -> None:
    shop = Shop(breaker=Breaker(sliding_window=2, minimum_calls=2), retry=Retry(attempts=2))
    shop.gateway.up = False
    async with up(shop):
        await shop.place_steadily(PER_SECOND, 1)
        await anyio.sleep(60)
        assert max(shop.gateway.unanswered.values()) > shop.retry.attempts
        shop.gateway.up = True
        await shop.all_ended(PER_SECOND, within_seconds=60)
    assert shop.ended == {Ending.COMPLETED: PER_SECOND}


async def test_a_gateway_that_refuses_is_not_out() -> None:
    shop = Shop(breaker=BREAKER)
    shop.gateway.refuses = True
    async with up(shop) as app:
        await shop.place_steadily(20, 5)
        await shop.all_ended(100, within_seconds=30)
        assert throttle(app).phase is Phase.CLOSED
    assert len(shop.gateway.calls) == 100
    assert shop.ended == {Ending.COMPENSATED: 100}


async def test_deadlines_go_on_while_the_breaker_is_open() -> None:
    shop = Shop(breaker=BREAKER, timeout=timedelta(seconds=40))
    shop.gateway.up = False
    async with up(shop) as app:
        await shop.place_steadily(PER_SECOND, 10)
        assert throttle(app).phase is not Phase.CLOSED
        await anyio.sleep(60)
        shop.gateway.up = True
        await shop.all_ended(PER_SECOND * 10, within_seconds=120)
    assert shop.ended == {Ending.COMPENSATED: PER_SECOND * 10}
    assert shop.causes == {Cause.DEADLINE: PER_SECOND * 10}
    # Whatever was charged to find out the truth was paid back.
    assert len(shop.refunded) == len(shop.gateway.charged)


async def test_runs_that_wait_for_the_breaker_are_rows_without_an_owner() -> None:
    shop = Shop(breaker=BREAKER)
    shop.gateway.up = False
    async with up(shop) as app:
        await shop.place_steadily(20, 4)
        assert throttle(app).phase is Phase.OPEN
        await shop.place_steadily(20, 1)
        await anyio.sleep(1)
        async with app.context("payment").store.unit(ORDERS) as unit:
            rows = await unit.db.fetch("select * from saga_run where step = 'payment.pay' and attempt = 0")
            assert {(row["status"], row["owner"]) for row in rows} == {("intent", "")}
            assert len(rows) >= 20
            newest = sorted(rows, key=lambda row: int(row["created_at"]))[-15:]
            assert {row["revision"] for row in newest} == {1}, "nobody has looked at them in vain"
        shop.gateway.up = True
        await shop.all_ended(100, within_seconds=120)


async def test_a_promised_call_is_not_made_once_the_breaker_has_opened() -> None:
    shop = Shop(breaker=BREAKER)
    definitions = resolve_all(shop.services)
    book = PlanBook(definitions)
    book.learn(plan := build_plan("shop", 1, [manifest_of(definition) for definition in definitions]))
    async with databases() as (store, _):
        context = ServiceContext(
            definition=definitions[1],
            store=store,
            hand_over=lambda _rows: None,
            expect=lambda _rows: None,
            plans=book,
            tracer=NullTracer(),
            rng=Random(1),
            owner="me",
        )
    now = datetime.now(UTC)
    run = RunRow(
        saga_id="s",
        step="payment.pay",
        plan=plan.hash,
        status=RunStatus.INTENT,
        expires_at=now,
        created_at=now,
    )
    for failures, may_start in ((0, True), (BREAKER.minimum_calls, False)):
        tokens = Tokens(context)
        assert tokens.promise(run)
        for _ in range(failures):
            context.throttles["gateway"].called(CallOutcome.FAILED, began=anyio.current_time())
        assert tokens.start(replace(run, revision=1), promised_only=False) is may_start


async def test_calls_that_hang_since_before_the_outage_do_not_hold_up_canaries() -> None:
    seen = Throttle(Dependency("gateway", concurrency=30, breaker=BREAKER))
    hanging = [anyio.current_time()] * 20
    for _ in range(BREAKER.minimum_calls):
        seen.called(CallOutcome.FAILED, began=anyio.current_time())
    assert seen.room(hanging) == 0
    await anyio.sleep(BREAKER.wait_open_seconds)
    assert seen.room(hanging) == BREAKER.half_open_permits
    assert seen.room([*hanging, anyio.current_time()]) == BREAKER.half_open_permits - 1
    assert seen.room(hanging + [hanging[0]] * 10) == 0


async def test_a_rate_bounds_what_begins_in_a_second() -> None:
    shop = Shop(breaker=None, rate_per_second=5.0)
    async with up(shop):
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for order in range(60):
                tasks.start_soon(shop.place, Ordered(order=str(order)))
        await shop.all_ended(60, within_seconds=60)
        calls = shop.gateway.per_second(began, anyio.current_time())
    assert max(calls) <= 5 + 2
    assert len([calls for calls in calls if calls]) <= 60 / 5 * 1.3, "the rate is used"


# --- the fleet -------------------------------------------------------------------------------------------------


async def test_nothing_hangs_when_the_coordinator_that_opened_it_dies(tmp_path: Path) -> None:
    shop = Shop(breaker=BREAKER)
    async with apart(shop, tmp_path) as (services, coordinator), anyio.create_task_group() as tasks:
        dying = await tasks.start(served, coordinator())
        await tasks.start(served, services)
        fleet = services.context("orders").fleet
        shop.gateway.up = False
        await shop.place_steadily(10, 15)
        word = fleet.word("gateway")
        assert word is not None
        assert word.phase is Phase.OPEN
        dying.cancel()
        shop.gateway.up = True
        died = anyio.current_time()
        await anyio.sleep(word.until - died)
        assert fleet.word("gateway") is None
        await shop.gateway.has_charged(150, within_seconds=120)
        await tasks.start(served, coordinator())
        await shop.all_ended(150, within_seconds=120)
        tasks.cancel_scope.cancel()


async def test_starts_are_refused_while_the_fleet_says_open() -> None:
    shop = Shop(breaker=BREAKER, when_open=WhenOpen.REFUSE)
    async with up(shop) as app:
        shop.gateway.up = False
        with pytest.raises(Overloaded, match="gateway does not answer") as refused:
            await shop.place_steadily(10, 30)
        assert refused.value.dependency == "gateway"
        assert 0 < refused.value.retry_after_seconds <= 30
        placed = await started(app)
        shop.gateway.up = True
        await not_open(app)
        await shop.place(Ordered(order="late"))
        assert await started(app) == placed + 1
        await shop.all_ended(placed + 1, within_seconds=120)


async def test_held_starts_go_when_the_fleet_lets_go_or_are_refused_in_the_end() -> None:
    shop = Shop(breaker=BREAKER, when_open=WhenOpen.HOLD)
    async with up(shop) as app:
        shop.gateway.up = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(overloaded, shop, 40)
        placed, held_at = await started(app), anyio.current_time()
        with pytest.raises(Overloaded, match="when_open=hold"):
            await shop.place(Ordered(order="in vain"))
        assert anyio.current_time() - held_at == 20
        with pytest.raises(Overloaded, match="when_open=hold"):
            await shop.place(Ordered(order="in a transaction"), connection=object())
        assert anyio.current_time() - held_at == 20, "nobody waits inside of a transaction"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.place, Ordered(order="held"))
            await anyio.wait_all_tasks_blocked()
            assert await started(app) == placed
            shop.gateway.up = True
        await shop.all_ended(placed + 1, within_seconds=120)


async def test_a_start_is_let_through_where_nothing_else_is_declared() -> None:
    shop = Shop(breaker=BREAKER)
    shop.gateway.up = False
    async with up(shop) as app:
        await shop.place_steadily(10, 15)
        word = app.context("orders").fleet.word("gateway")
        assert word is not None
        assert word.phase is Phase.OPEN
        await shop.place(Ordered(order="late"))
        assert await started(app) == 151


async def overloaded(shop: Shop, seconds: float) -> None:
    """Place orders until they are refused."""
    with pytest.raises(Overloaded):
        await shop.place_steadily(10, seconds)


async def not_open(app: App) -> None:
    """Return once the fleet lets go."""
    with anyio.fail_after(60):
        fleet = app.context("orders").fleet
        while fleet.out(["gateway"]) is not None:
            await fleet.news(60)


async def started(app: App) -> int:
    """Return how many sagas were started."""
    async with app.context("orders").store.unit(ORDERS) as unit:
        (row,) = await unit.db.fetch("select count(*) as n from saga_run where step = 'orders.start'")
        return int(row["n"])


# --- several replicas ------------------------------------------------------------------------------------------


class Replica:
    """Be one process that calls the gateway, as far as the fleet is concerned."""

    def __init__(self, slot: str, *, judges: bool = False) -> None:
        self.throttle = Throttle(Dependency("gateway", breaker=BREAKER))
        self.fleet = Fleet(slot)
        self.fleet.watch("payment", [self.throttle])
        self.fleet.judge = FleetJudge() if judges else None

    def phase(self) -> Phase:
        """Return how the gateway is treated here now."""
        return self.throttle.phase

    def calls(self, answered: int, failed: int = 0) -> None:
        """Hear of calls that have just ended."""
        now = anyio.current_time()
        for outcome in [CallOutcome.ANSWERED] * answered + [CallOutcome.FAILED] * failed:
            self.throttle.called(outcome, began=now)


class Room:
    """Be where replicas hear each other; `verdicts` are all that were said."""

    def __init__(self, transport: MemoryTransport, publisher: Publisher, tasks: TaskGroup) -> None:
        self._transport = transport
        self._publisher = publisher
        self._tasks = tasks
        self.verdicts: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        self.verdicts += [message for message in messages if message.key.startswith(b"verdict/")]
        return await self._publisher.publish(messages)

    async def enter(self, replica: Replica) -> None:
        """Let one more replica hear and speak, out of step with the others."""
        await anyio.sleep(0.3)
        self._tasks.start_soon(replica.fleet.follow, self._transport)
        self._tasks.start_soon(replica.fleet.speak, self)


@asynccontextmanager
async def together(*replicas: Replica) -> AsyncGenerator[Room]:
    """Let replicas hear each other."""
    async with MemoryTransport() as transport, transport.publisher() as publisher, anyio.create_task_group() as tasks:
        await transport.ensure_topics([TopicSpec(name=BREAKERS, partitions=1, cleanup=Cleanup.COMPACT)])
        room = Room(transport, publisher, tasks)
        for replica in replicas:
            await room.enter(replica)
        yield room
        tasks.cancel_scope.cancel()


async def test_who_has_called_nobody_drops_to_canaries_with_the_others() -> None:
    failing, idle, coordinator = Replica("0"), Replica("1"), Replica("2", judges=True)
    async with together(failing, idle, coordinator):
        for _ in range(7):
            failing.calls(0, failed=10)
            await anyio.sleep(1)
        assert idle.phase() is Phase.HALF_OPEN
        assert idle.throttle.room([]) == BREAKER.half_open_permits
        # Nobody fails any more: the fleet is silent before long, and canaries are enough for everybody.
        await anyio.sleep(50)
        assert idle.fleet.word("gateway") is None
        idle.calls(3)
        assert idle.phase() is Phase.RECOVERING
        await anyio.sleep(150)
        assert idle.phase() is Phase.CLOSED


async def test_one_replica_in_trouble_does_not_open_it_for_all() -> None:
    failing, fine = Replica("0", judges=True), Replica("1")
    async with together(failing, fine):
        for _ in range(20):
            failing.calls(0, failed=10)
            fine.calls(30)
            await anyio.sleep(1)
            assert fine.fleet.word("gateway") is None
        assert failing.phase() is not Phase.CLOSED
        assert fine.phase() is Phase.CLOSED


async def test_a_coordinator_repeats_a_verdict_only_where_no_other_does() -> None:
    first, second, failing = Replica("0", judges=True), Replica("1", judges=True), Replica("2")
    async with together(first, second, failing) as room:
        for _ in range(40):
            failing.calls(0, failed=10)
            await anyio.sleep(1)
        assert failing.fleet.out(["gateway"]) is not None
    # One when it opens, and one every five seconds or so.
    assert 7 <= len(room.verdicts) <= 9


async def test_a_coordinator_goes_on_where_another_has_died() -> None:
    first, failing = Replica("0", judges=True), Replica("1")
    async with together(first, failing) as room:
        for _ in range(10):
            failing.calls(0, failed=10)
            await anyio.sleep(1)
        await room.enter(Replica("2", judges=True))
        first.fleet.judge = None
        for _ in range(60):
            # Canaries only: too few to open it, and enough to keep it open.
            failing.calls(0, failed=1)
            await anyio.sleep(1)
            assert failing.fleet.out(["gateway"]) is not None


async def test_what_cannot_be_read_or_is_over_is_ignored() -> None:
    replica = Replica("0", judges=True)
    old = FleetVerdict(
        dependency="gateway", phase=Phase.OPEN, share=0, valid_until=datetime.now(UTC) - timedelta(seconds=1)
    )
    far = FleetVerdict(dependency="other", phase=Phase.OPEN, share=0, valid_until=datetime.now(UTC) + timedelta(days=1))
    async with together(replica) as room:
        rubbish = Message(topic=BREAKERS, key=b"verdict/gateway", value=b"{")
        await room.publish([rubbish, verdict_message(old)])
        await anyio.sleep(5)
        assert len(room.verdicts) == 2, "nothing has changed by it"
        await room.publish([verdict_message(far)])
        await anyio.sleep(1)
        assert replica.phase() is Phase.CLOSED
        assert replica.fleet.out(["gateway"]) is None
        assert replica.fleet.out(["gateway", "other"]) is not None
        await anyio.sleep(30)
        assert replica.fleet.out(["gateway", "other"]) is None
