# pyright: reportPrivateUsage=false
"""What was held open until it is known what came of it ends also where that cannot be stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import anyio
import pytest
import trio.testing
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from outbox.sqlite import SqliteStore
from outbox.urls import open_coordination_store
from saga import NOTHING, Dependency, Event, Refusal, Retry, Run, Saga, Service
from saga.app import App, Coordinator, SagaHandle
from saga.errors import StoreError
from saga.ports import UnitOfWork
from saga.telemetry.otel import OtelTracer
from tests.runtime.world import VirtualClock

pytestmark = pytest.mark.anyio
_NUMBERS = count(1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Wanted(Event, name="held.wanted", version=1):
    number: int


class Done(Event, name="held.done", version=1):
    number: int


class No(Refusal, name="held.no", version=1):
    """Be a no after it was done."""


class Odd(Exception):
    """Be what a step raises."""


class Broken(Exception):
    """Be what nobody expects of a database."""


class BreakableStore(SqliteStore):
    """Be a database whose next transaction does not begin when a handler has asked for that."""

    breaks: Exception | None = None

    @asynccontextmanager
    async def _unit(self, service: str) -> AsyncGenerator[UnitOfWork]:
        breaks, self.breaks = self.breaks, None
        if breaks is not None:
            raise breaks
        async with super()._unit(service) as unit:
            yield unit


@dataclass
class Shop:
    external: bool
    fails: str
    breaks: Exception
    at: int
    store: BreakableStore = field(init=False)
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    calls: int = 0

    def trouble(self, where: str) -> None:
        if where == self.fails:
            self.calls += 1
            if self.calls == self.at:
                self.store.breaks = self.breaks
            if self.calls <= self.at:
                raise Odd

    async def play(self) -> str:
        saga, shop = Saga("held", version=1), Service("shop")
        begin = shop.starts(saga, Wanted)
        calls = Dependency("gateway") if self.external else None
        retry = Retry(attempts=5, base_seconds=0.01)

        @shop.step(saga, calls=calls, retry=retry)
        async def act(wanted: Wanted, run: Run) -> Done:
            del run
            self.trouble("act")
            return Done(number=wanted.number)

        @act.compensation(retry=retry)
        async def take_back(done: Done, run: Run) -> None:
            del done, run
            self.trouble("take_back")

        @shop.step(saga, compensation=NOTHING)
        async def refuse(done: Done, run: Run) -> No | None:
            del done, run
            return No()

        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        number, clock = next(_NUMBERS), VirtualClock()
        self.store = BreakableStore(":memory:", name=f"held-{number}", clock=clock)
        coordination = open_coordination_store(f"sqlite:///:memory:?name=held-{number}", clock=clock)
        async with self.store, coordination:
            app = App(
                [shop],
                store=self.store,
                transport="memory://",
                coordinator=Coordinator(store=coordination),
                tracer=OtelTracer(provider),
            )
            with anyio.fail_after(3600):
                async with app:
                    handle: SagaHandle = await begin(Wanted(number=1))
                    return (await handle.outcome(3000)).ending

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


def events(span: ReadableSpan) -> list[tuple[str, object]]:
    return [(event.name, (event.attributes or {}).get("error.type")) for event in span.events]


ODD = f"{__name__}.Odd"


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("breaks", [Broken("?"), StoreError("?")], ids=["unexpected", "store"])
@pytest.mark.parametrize(
    ("external", "fails", "name"),
    [
        (True, "act", "call shop.act"),
        (True, "take_back", "compensate shop.act"),
        (False, "take_back", "compensate shop.act"),
        (False, "act", "process shop.events"),
    ],
)
async def test_an_attempt_whose_failure_cannot_be_stored_has_a_span_with_its_error(
    external: bool,
    fails: str,
    name: str,
    breaks: Exception,
    at: int,
) -> None:
    shop = Shop(external=external, fails=fails, breaks=breaks, at=at)
    assert await shop.play() == "compensated"
    assert shop.calls > at
    told = [event for span in shop.spans(name) for event in events(span)]
    assert [error for _, error in told].count(ODD) == at, told
    if name != "process shop.events":
        assert len(shop.spans(name)) == shop.calls
