# pyright: reportPrivateUsage=false
"""Plain events: each subscriber's effects happen once, whatever the log delivers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import anyio
import pytest
import trio
import trio.testing

from outbox.sqlite.unit import SqliteUnit
from outbox.urls import open_store
from saga import NotRunning, Permanent, Run, Service, TooLarge
from saga._core.envelope import Delivery, Envelope
from saga._core.rows import Snapshot
from saga._core.story import Story
from saga._core.words import Reason
from saga._runtime.tracing import NullSpan
from saga.app import App
from saga.operating import LetterFilter
from saga.ports import Below, SpanKind
from saga.testing import Published, published, unit
from tests.runtime.plain_world import (
    TOPIC,
    AddressChanged,
    Counter,
    CustomerMoved,
    Customs,
    LaterClock,
    counter,
    ground,
    listening,
    make_tables,
    moved,
    until,
)
from tests.runtime.test_dead_letters import desk_of, replay
from tests.runtime.world import EPOCH, TUNING
from tests.testbed.services import Kafka
from transports import open_transport

pytestmark = pytest.mark.anyio

BOTH = [("ann", "bill"), ("ann", "greet")]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def failing(run: Run) -> None:
    """Fail after having written."""
    msg = f"attempt {run.attempt}"
    raise RuntimeError(msg)


async def test_a_service_without_sagas_runs_alone_and_both_subscribers_get_the_event() -> None:
    async with counter() as there:
        await there.send(moved(headers=(("ce_tenant", b"acme"),)))
        await until(lambda: _has_billed(there, BOTH))
        assert await there.waiting() == []
    assert {(run.saga_id, run.tenant, run.step) for run in there.customs.runs} == {
        ("", "acme", "billing.bill"),
        ("", "acme", "billing.greet"),
    }


async def _has_billed(there: Counter, wanted: list[tuple[str, str]]) -> bool:
    return await there.billed() == wanted


async def test_a_redelivered_event_changes_nothing_in_a_later_batch_or_the_same() -> None:
    async with counter() as there:
        await there.hand(moved(), moved())
        await there.hand(moved())
        assert await there.billed() == BOTH
        inbox = await there.rows("select * from saga_inbox order by subscriber")
        assert [(row["service"], row["day"], row["message_id"], row["subscriber"]) for row in inbox] == [
            ("billing", "2026-01-01", "/customers m1", "billing.bill"),
            ("billing", "2026-01-01", "/customers m1", "billing.greet"),
        ]
        assert there.app.context("billing").counts["duplicate"] == 4


async def test_the_same_id_from_another_source_is_another_event() -> None:
    async with counter() as there:
        await there.hand(moved(), moved(source="/crm"))
        assert len(await there.billed()) == 4


async def test_a_subscriber_that_fails_is_tried_again_alone_and_its_neighbours_go_on() -> None:
    customs = Customs()

    async def once(run: Run) -> None:
        if run.attempt == 1:
            await failing(run)

    customs.behave["bill"] = once
    async with counter(customs) as there:
        await there.hand(moved(), moved(2, customer="bob"))
        assert await there.billed() == [("ann", "greet"), ("bob", "greet")]
        waiting = await there.waiting()
        assert sorted((row["step"], row["reason"], row["message_id"]) for row in waiting) == [
            ("billing.bill", "retry", "/customers m1"),
            ("billing.bill", "retry", "/customers m2"),
        ]
        await there.hand(moved())
        await there.hand(moved(source="/crm", customer="cid"))
        assert len(await there.waiting()) == 3
        await trio.sleep(2)
        await there.work()
        assert await there.billed() == [*BOTH, ("bob", "bill"), ("bob", "greet"), ("cid", "bill"), ("cid", "greet")]
        assert await there.waiting() == []
    assert max(attempt for name, _, attempt in customs.seen if name == "bill") == 2


async def test_who_was_quicker_in_another_replica_wins_and_the_neighbours_are_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = SqliteUnit.read
    blind = 1

    async def too_early(self: SqliteUnit, sagas: Any, runs: Any, inbox: Any = ()) -> Snapshot:
        nonlocal blind
        seen = await read(self, sagas, runs, inbox)
        if seen.inbox and blind:  # the neighbour's transaction is beside this one, and has nothing to overlook
            blind -= 1
            return replace(seen, inbox=frozenset())
        return seen

    async with counter() as there:
        await there.hand(moved())
        monkeypatch.setattr(SqliteUnit, "read", too_early)
        await there.hand(moved(), moved(2, customer="bob"))
        assert await there.billed() == [*BOTH, ("bob", "bill"), ("bob", "greet")]
        assert there.app.context("billing").counts["conflict"] == 1


async def test_a_subscriber_that_takes_too_long_is_a_failed_attempt() -> None:
    customs = Customs()

    async def slow(_: Run) -> None:
        await trio.sleep(6)

    customs.behave["bill"] = slow
    async with counter(customs) as there:
        await there.hand(moved())
        (row,) = await there.waiting()
        assert (row["reason"], row["step"]) == ("retry", "billing.bill")
        assert "no answer within 5 s" in row["error"]
        assert await there.billed() == [("ann", "greet")]


async def test_what_fails_for_good_is_a_dead_letter_and_its_replay_runs_once_even_weeks_later() -> None:
    customs = Customs()
    customs.behave["bill"] = failing
    async with counter(customs, "plain-dead") as there, desk_of("plain-dead") as desk:
        await there.hand(moved())
        await trio.sleep(10)
        await there.work()
        (letter,) = await desk.list()
        assert (letter.step, letter.saga_id, letter.attempt) == ("billing.bill", "", 3)
        assert "attempt 3" in letter.error
        customs.behave.clear()
        await there.hand(moved())
        assert await there.billed() == [("ann", "greet")]
        there.clock.later = timedelta(days=30)
        assert await replay(desk, LetterFilter(service="billing")) == 1
        await there.work()
        assert await there.billed() == BOTH
        assert await there.waiting() == []


async def test_a_permanent_failure_is_a_dead_letter_at_once() -> None:
    customs = Customs()

    async def never(_: Run) -> None:
        raise Permanent("no such customer")

    customs.behave["bill"] = never
    async with counter(customs) as there:
        await there.hand(moved())
        (row,) = await there.waiting()
        assert (row["reason"], row["step"], row["attempt"]) == ("dead", "billing.bill", 1)


async def test_what_is_older_than_the_inbox_remembers_is_never_handled() -> None:
    async with counter(name="plain-old") as there, desk_of("plain-old") as desk:
        await there.hand(moved(at=EPOCH - timedelta(days=8, seconds=1)))
        (row,) = await there.waiting()
        assert (row["reason"], row["step"]) == ("dead", "")
        assert "more than 8 days ago: it may have been handled before" in row["error"]
        for _ in range(2):
            assert await replay(desk) == 1
            await there.work()
        (again,) = await there.waiting()
        assert again["id"] == row["id"]
        assert again["reason"] == "dead"
        assert await there.billed() == []
        await there.hand(moved(at=EPOCH - timedelta(days=7, hours=23)))
        assert await there.billed() == BOTH


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (moved(at=EPOCH + timedelta(days=1, minutes=1)), "more than a day ahead"),
        (moved(headers=(), at=EPOCH.replace(year=1970)), "has no ce_time"),
    ],
)
async def test_a_time_that_cannot_be_is_a_dead_letter(message: Any, reason: str) -> None:
    async with counter() as there:
        await there.hand(message)
        (row,) = await there.waiting()
        assert row["reason"] == "dead"
        assert reason in row["error"]


async def test_what_cannot_be_read_is_a_dead_letter_with_its_bytes_for_each_subscriber_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with counter(name="plain-odd") as there, desk_of("plain-odd") as desk:
        odd = moved(value=b'{"city": 1}')
        await there.hand(odd)
        await there.hand(odd)
        letters = await desk.list()
        assert [(one.step, one.raw.value, one.reason) for one in letters] == [
            ("billing.bill", odd.value, Reason.DEAD),
            ("billing.greet", odd.value, Reason.DEAD),
        ]
        assert "customer: Field required" in letters[0].error
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert [line.split()[0] for line in told] == ["billing.bill", "billing.greet"]
        assert all("a dead letter: payload does not fit CustomerMoved: customer: Field" in line for line in told)


async def test_a_broken_envelope_is_replayed_for_every_subscriber_and_meets_the_inbox() -> None:
    async with counter(name="plain-env") as there, desk_of("plain-env") as desk:
        context = there.app.context("billing")
        whole = context.limits
        context.limits = type(whole)(value_bytes=3)
        await there.hand(moved())
        await there.hand(moved())
        context.limits = whole
        assert len(await desk.list()) == 2
        assert await replay(desk) == 2
        await there.work()
        assert await there.billed() == BOTH
        assert await there.waiting() == []


async def test_a_type_that_nobody_takes_is_skipped_and_a_version_that_nobody_reads_is_not_lost() -> None:
    async with counter() as there:
        await there.hand(moved(kind="customer.married.v1"), moved(2, kind="customer.moved.v2"))
        assert there.customs.seen == []
        assert {row["step"] for row in await there.waiting()} == {"billing.bill", "billing.greet"}
        assert "no upcaster leads there from customer.moved.v2" in (await there.waiting())[0]["error"]


async def test_a_row_of_a_subscriber_that_only_other_code_has_is_parked() -> None:
    customs = Customs()
    customs.behave["bill"] = failing
    async with counter(customs) as there:
        await there.hand(moved())
        declared = there.app.context("billing").definition.subscribers
        object.__setattr__(there.app.context("billing").definition, "subscribers", declared[1:])
        await trio.sleep(1)
        await there.work()
        (row,) = await there.waiting()
        assert (row["reason"], row["step"]) == ("parked", "billing.bill")
        object.__setattr__(there.app.context("billing").definition, "subscribers", declared)
        customs.behave.clear()
        await trio.sleep(20)
        await there.work()
        assert await there.billed() == BOTH


async def test_an_older_version_is_lifted_by_an_upcaster() -> None:
    from saga import Event

    class Old(Event, name="customer.moved", version=1):
        who: str

    class New(Event, name="customer.moved", version=2):
        customer: str

    customs = Customs()
    customs.billing = billing = type(customs.billing)("billing")

    @billing.upcaster
    def lift(old: Old) -> New:
        return New(customer=old.who)

    @billing.on(New, topic=TOPIC)
    async def bill(event: New, run: Run) -> None:
        await run.db.execute("insert into address (customer, by) values ($1, 'v2')", event.customer)

    async with counter(customs) as there:
        await there.hand(
            moved(value=b'{"who": "ann"}'), moved(2, value=b'{"customer": "bob"}', kind="customer.moved.v2")
        )
        assert await there.billed() == [("ann", "v2"), ("bob", "v2")]


async def test_a_saga_s_event_on_the_topic_is_nothing_to_a_service_that_only_subscribes() -> None:
    saga = (
        ("ce_sagakind", b"event"),
        ("ce_sagaid", b"s1"),
        ("ce_sagaplan", b"abc"),
        ("ce_expirytime", b"2030-01-01T00:00:00Z"),
    )
    async with counter() as there:
        await there.hand(moved(headers=saga))
        assert there.customs.seen == []
        assert await there.waiting() == []


async def test_a_crash_before_the_offset_moves_changes_nothing() -> None:
    both = [*BOTH, ("bob", "bill"), ("bob", "greet")]
    async with ground() as there, trio.open_nursery() as nursery:
        async with there.another() as first:
            participant = first.participant

            async def lost(*_: object, **__: object) -> None:
                participant._finished.clear()

            participant._commit = lost
            nursery.start_soon(there.send, moved(1), moved(2, customer="bob"))
            await until(lambda: _has_billed(there, both))
        async with there.another() as later:
            await until(lambda: _has_read(later, 4))
            assert await there.billed() == both


async def _has_read(there: Counter, duplicates: int) -> bool:
    return there.app.context("billing").counts.get("duplicate") == duplicates


async def test_a_subscriber_publishes_in_its_transaction_and_an_attempt_that_fails_sends_nothing() -> None:
    customs = Customs()
    ids: list[str] = []

    async def publish(run: Run) -> None:
        ids.append(await run.publish(AddressChanged(customer="ann"), key="ann"))
        ids.append(await run.publish(AddressChanged(customer="ann"), key=None, topic=TOPIC))
        if run.attempt == 1:
            await failing(run)

    customs.behave["bill"] = publish
    async with counter(customs) as there:
        sent: list[Any] = []
        context = there.app.context("billing")
        context.hand_over = listening(sent, context.hand_over)
        await there.hand(moved(headers=(("ce_correlationid", b"c9"), ("ce_tenant", b"acme"))))
        assert sent == []
        await trio.sleep(1)
        await there.work()
    first, second = sent
    assert ids[-2:] == [first.id, second.id] == ids[:2]
    assert (first.aggregatetype, first.aggregateid, second.aggregatetype) == ("billing.events", "ann", TOPIC)
    headers = dict(first.headers)
    assert (headers["ce_causationid"], headers["ce_correlationid"]) == (b"m1", b"c9")
    assert (headers["ce_source"], headers["ce_tenant"]) == (b"/saga/billing", b"acme")


async def test_a_subscriber_is_a_plain_function_in_a_unit_test() -> None:
    billing = Customs().billing
    got: list[str] = []

    @billing.on(AddressChanged, topic="a")
    async def note(event: AddressChanged, run: Run) -> None:
        got.append(event.customer)
        await run.publish(CustomerMoved(customer=event.customer), key=event.customer)

    async with unit(billing, tenant="acme") as run:
        await note(AddressChanged(customer="ann"), run)
        assert published(run) == (Published(event=CustomerMoved(customer="ann"), key="ann", topic="billing.events"),)
        with pytest.raises(TooLarge):
            await note(AddressChanged(customer="x" * 2_000_000), run)
    with pytest.raises(NotRunning):
        await note(AddressChanged(customer="ann"), run)
    assert len(got) == 3


class Notebook:
    """Write down what is traced: name, parent, attributes. A span's context is its name: a child names its parent."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, str | int]]] = []

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str,
        attributes: Mapping[str, str | int],
        below: Below = Below.PARENT,
    ) -> NullSpan:
        del kind, below
        self.lines.append((name, parent, dict(attributes)))
        return NullSpan(name)

    def process(self, delivery: Delivery, envelope: Envelope, about: tuple[str, str], now: datetime) -> NullSpan:
        del now
        return self.span(f"process {delivery.topic}", SpanKind.CONSUMER, envelope.traceparent, dict([about]))

    def untraced(self) -> None:
        return

    def tell(self, story: Story) -> None:
        del story


async def test_what_is_published_hangs_below_the_subscriber_and_no_span_takes_a_key_for_a_saga() -> None:
    customs, notebook = Customs(), Notebook()

    async def publish(run: Run) -> None:
        await run.publish(AddressChanged(customer="ann"), key="ann")

    customs.behave["bill"] = publish
    async with (
        ground(customs) as there,
        App([customs.billing], store=there.store, transport=there.transport, tuning=TUNING, tracer=notebook),
    ):
        await there.send(moved(headers=(("traceparent", b"move"),)))
        await until(lambda: _has_sent(notebook))
    assert ("process customers.events", "move", {"saga.subscriber": "billing.bill"}) in notebook.lines
    assert ("create billing.address_changed.v1", "process customers.events", {}) in notebook.lines
    (sent,) = [line for line in notebook.lines if line[0] == "send billing.events"]
    assert (sent[1], [*sent[2]]) == ("create billing.address_changed.v1", ["messaging.message.id"])


async def _has_sent(notebook: Notebook) -> bool:
    return any(name.startswith("send") for name, *_ in notebook.lines)


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_on_kafka_and_postgresql_the_same_message_twice_is_handled_once(kafka: Kafka, database: str) -> None:
    customs = Customs()
    tries: list[int] = []

    async def once(run: Run) -> None:
        tries.append(run.attempt)
        await run.publish(AddressChanged(customer="bob"), key="bob")
        if run.attempt == 1:
            raise RuntimeError

    customs.behave["bill"] = once
    heard: list[tuple[str, str]] = []
    letters = Service("letters")

    @letters.on(AddressChanged, source="billing")
    async def write(event: AddressChanged, run: Run) -> None:
        heard.append((event.customer, run.tenant))

    url = f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."
    now = datetime.now(UTC)
    async with open_store(database) as store, open_transport(url) as transport:
        await store.migrate()
        await make_tables(store)
        there = Counter(
            customs=customs,
            app=App([customs.billing, letters], store=store, transport=transport),
            store=store,
            transport=transport,
            clock=LaterClock(),
        )
        async with there.app:
            ann = moved(at=now, headers=(("ce_tenant", b"acme"),))
            await there.send(ann, ann, moved(2, at=now, customer="bob"), ann)
            wanted = [*BOTH, ("bob", "bill"), ("bob", "greet")]
            with anyio.fail_after(60):
                while await there.billed() != wanted or len(heard) < 2:  # noqa: ASYNC110 - rows do not tell
                    await anyio.sleep(0.1)
            assert await there.waiting() == []
        assert sorted(tenant for _, tenant in heard) == ["", "acme"]
        assert {tried for tried in tries if tried > 1} == {2}
        days = await there.rows("select distinct day from saga_inbox")
        assert [row["day"] for row in days] == [now.date()]
