"""A saga that waits for long is several traces, each linked to the one before; time here is virtual."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from itertools import count

import anyio
import pytest
import trio.testing
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from outbox.urls import open_coordination_store, open_store
from saga import NOTHING, Ending, Event, Refusal, Run, Saga, Service
from saga.app import App, Coordinator
from saga.telemetry.otel import OtelTracer
from saga.telemetry.sampling import SagaSampler
from tests.runtime.world import TUNING, VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


NUMBERS = count(1)
WAIT = timedelta(minutes=5)


class Rented(Event, name="rental.asked", version=1):
    days: int


class Handed(Event, name="rental.handed_out", version=1):
    days: int


class Returned(Event, name="bicycle.returned", version=1):
    pass


class Lost(Refusal, name="rental.lost", version=1):
    pass


class How(StrEnum):
    ASKED = "asked"
    BROUGHT = "brought"


class Rental:
    """Hand a bicycle out, and ask for it later or wait until it comes."""

    def __init__(self, ending: How) -> None:
        self.desk, self.yard = Service("desk"), Service("yard")
        saga = Saga("rental", version=1, timeout=2 * WAIT)
        self.rent = self.desk.starts(saga, Rented)

        @self.yard.step(saga)
        async def hand_out(asked: Rented, run: Run) -> Handed:
            return Handed(days=asked.days)

        @hand_out.compensation
        async def take_back(handed: Handed, run: Run) -> None:
            pass

        if ending is How.ASKED:

            @self.desk.step(saga, delay=WAIT, compensation=NOTHING)
            async def ask_back(handed: Handed, run: Run) -> Lost | None:
                return Lost() if handed.days > 2 else None

        else:
            self.bring = self.desk.receives(saga, Returned)

            @self.desk.join(saga, compensation=NOTHING)
            async def take_in(handed: Handed, returned: Returned, run: Run) -> None:
                pass


async def traces_of(
    rental: Rental, ending: Ending, *, days: int = 1, brought: bool = False
) -> dict[str, list[ReadableSpan]]:
    """Run a rental and return its traces by the names of their roots."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.sampler = SagaSampler(provider.sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    address, clock = f"sqlite:///:memory:?name=long{next(NUMBERS)}", VirtualClock()
    async with (
        open_store(address, clock=clock) as store,
        open_coordination_store(address, clock=clock) as coordination,
        MemoryTransport() as transport,
    ):
        await store.migrate()
        app = App(
            (rental.desk, rental.yard),
            store=store,
            transport=transport,
            coordinator=Coordinator(store=coordination),
            tuning=TUNING,
            tracer=OtelTracer(provider),
        )
        async with app:
            handle = await rental.rent(Rented(days=days))
            if brought:
                await anyio.sleep(WAIT.total_seconds())
                await rental.bring(Returned(), saga_id=handle.saga_id)
            ended = await handle.outcome(timeout_seconds=3600)
    assert ended.ending is ending
    traces: dict[int, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        assert (span.attributes or {}).get("saga.id") == handle.saga_id, span.name
        traces.setdefault(trace_id(span), []).append(span)
    assert len({root(spans).name for spans in traces.values()}) == len(traces)
    return {root(spans).name: spans for spans in traces.values()}


def trace_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def root(spans: list[ReadableSpan]) -> ReadableSpan:
    (found,) = [span for span in spans if span.parent is None]
    return found


def links(spans: list[ReadableSpan]) -> set[int]:
    return {link.context.trace_id for span in spans for link in span.links}


def named(spans: list[ReadableSpan], start: str) -> set[str]:
    return {span.name for span in spans if span.name.startswith(start)}


FIRST, WHOLE = "create rental.asked.v1", "saga rental"


async def test_what_follows_a_delay_is_a_trace_of_its_own_and_so_is_the_whole() -> None:
    traces = await traces_of(Rental(How.ASKED), Ending.COMPLETED)
    assert set(traces) == {FIRST, "process yard.events", WHOLE}
    first, later, whole = traces[FIRST], traces["process yard.events"], traces[WHOLE]
    assert links(first) == set()
    assert links(later) == {trace_id(first[0])}
    assert links(whole) == {trace_id(first[0]), trace_id(later[0])}
    assert named(later, "create ") >= {"create saga.outcome"}
    (span,) = whole
    assert (span.end_time or 0) - (span.start_time or 0) >= WAIT.total_seconds() * 1e9
    assert (span.attributes or {})["saga.duration_ms"] == ((span.end_time or 0) - (span.start_time or 0)) // 10**6


async def test_the_way_back_is_in_the_trace_of_what_was_refused() -> None:
    traces = await traces_of(Rental(How.ASKED), Ending.COMPENSATED, days=3)
    assert set(traces) == {FIRST, "process yard.events", WHOLE}
    assert named(traces["process yard.events"], "compensate ") == {"compensate yard.hand_out"}
    assert named(traces[FIRST], "compensate ") == set()


async def test_a_deadline_long_after_the_last_step_begins_a_trace() -> None:
    traces = await traces_of(Rental(How.BROUGHT), Ending.COMPENSATED)
    assert set(traces) == {FIRST, "undo rental", WHOLE}
    back = traces["undo rental"]
    assert links(back) == {trace_id(traces[FIRST][0])}
    assert named(back, "compensate ") == {"compensate yard.hand_out"}
    assert (root(back).attributes or {})["saga.cause"] == "deadline"
    assert links(traces[WHOLE]) == {trace_id(traces[FIRST][0]), trace_id(back[0])}


async def test_an_event_from_outside_has_a_trace_of_its_own_that_points_to_what_has_waited_for_it() -> None:
    traces = await traces_of(Rental(How.BROUGHT), Ending.COMPLETED, brought=True)
    brought = "create bicycle.returned.v1"
    assert set(traces) == {FIRST, brought, WHOLE}
    assert links(traces[brought]) == {trace_id(traces[FIRST][0])}
    assert "create saga.outcome" in named(traces[brought], "create ")
