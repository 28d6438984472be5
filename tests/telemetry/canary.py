"""Send a marked value through a saga in every way there is, and gather everything that is written of it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Annotated, Any
from uuid import uuid4

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from outbox.urls import open_store
from saga import NOTHING, PII, Dependency, Ended, Event, Permanent, Refusal, Retry, Run, Saga, Secret, Service, Start
from saga.app import App, Coordinator, Tuning
from saga.ports import Claim, Store
from saga.telemetry.logs import JsonFormatter, TextFormatter
from saga.telemetry.metrics import OtelMeter
from saga.telemetry.otel import OtelTracer

CANARY = "canary-7f3a91"
"""The value of every marked field; whatever is printed must not have it in it."""
TUNING = Tuning(fetch_timeout_seconds=0.05, commit_every_seconds=0.0, waiting_poll_seconds=0.5)
TWICE = Retry(attempts=2, base_seconds=0.01, cap_seconds=0.01)
_NUMBERS = count(1)


class Person(BaseModel):
    """Be a model of somebody else's, which hides nothing."""

    street: str


class Joined(Event, name="member.joined", version=1):
    """Be the start; `how` tells the handlers how to behave."""

    how: str
    name: Annotated[str, PII] = CANARY
    card: Annotated[str | None, Secret] = CANARY
    home: Annotated[Person, PII] = Person(street=CANARY)


class Checked(Event, name="member.checked", version=1):
    """Be what the local step makes."""

    how: str
    card: Annotated[str, Secret] = CANARY


class Charged(Event, name="member.charged", version=1):
    """Be what the call outside makes."""

    receipt: Annotated[str, Secret] = CANARY


class Unwanted(Refusal, name="member.unwanted", version=1):
    """Be a refusal with somebody's name in it."""

    name: Annotated[str, PII] = CANARY


class Newsletter(Event, name="member.news", version=1):
    """Be a plain event."""

    address: Annotated[str, PII] = CANARY


WAYS = (
    "well",
    "refused",
    "raises",
    "raises from",
    "raises with a note",
    "raises a misfit",
    "raises a group",
    "fails for good",
    "breaks its transaction",
    "the database quotes it",
    "outside raises",
    "outside refuses",
    "undo raises",
    "end raises",
    "subscriber raises",
)
"""How a saga may go; each of them is one start."""


def quoting(event: Any) -> str:
    """Return a text as somebody writes it who does not think of logs."""
    return f"cannot work with {event.card}: {event!r}, {event.model_dump()}"


async def misbehave(joined: Joined, run: Run) -> None:
    """Raise as `how` says, with the value in the text."""
    match joined.how:
        case "raises" | "fails for good" if run.attempt == 1 or joined.how == "fails for good":
            raise (Permanent if joined.how == "fails for good" else ConnectionError)(quoting(joined))
        case "raises from" if run.attempt == 1:
            try:
                dict[str, str]()[joined.name]
            except KeyError as error:
                error.add_note(f"while looking for {joined.name}")
                raise RuntimeError(f"nobody at {joined.home.street}") from error
        case "raises a misfit" if run.attempt == 1:
            Person.model_validate({"street": [joined.name]})
        case "raises a group" if run.attempt == 1:
            raise ExceptionGroup(f"for {joined.name}", [ValueError(joined.card), TypeError("other")])
        case "breaks its transaction":
            await run.db.execute("rollback")
        case "the database quotes it" if run.attempt == 1:
            await run.db.execute(f'delete from "{joined.name}"')
        case "its commit fails" if run.attempt == 1:  # on PostgreSQL
            await run.db.execute("create table member (name text unique deferrable initially deferred)")
            await run.db.execute("insert into member values ($1), ($1)", joined.name)
        case "raises with a note" if run.attempt == 1:
            plain = ValueError("no")
            plain.add_note(f"while looking for {joined.name}")
            raise plain
        case _:
            pass


@dataclass
class Club:
    """Hold the declarations: desk -> checks (local) -> bank (outside), and who reads the news."""

    services: tuple[Service, ...] = field(init=False)
    join: Start[Joined] = field(init=False)

    def __post_init__(self) -> None:  # noqa: C901 - one function for each step
        club = Saga("club", version=1, timeout=timedelta(minutes=1))
        desk, checks, bank = map(Service, ("desk", "checks", "bank"))
        self.services, self.join = (desk, checks, bank), desk.starts(club, Joined)

        @checks.step(club, retry=TWICE)
        async def check(joined: Joined, run: Run) -> Checked | Unwanted:
            await misbehave(joined, run)
            if joined.how == "refused":
                return Unwanted(name=joined.name)
            if joined.how == "subscriber raises":
                await run.publish(Newsletter(address=joined.name), key="k")
            return Checked(how=joined.how, card=CANARY)

        @check.compensation(retry=TWICE)
        async def uncheck(checked: Checked, run: Run) -> None:
            if checked.how == "undo raises":
                raise ValueError(quoting(checked))

        @bank.step(club, calls=Dependency("gateway"), compensation=NOTHING, retry=TWICE)
        async def charge(checked: Checked, run: Run) -> Charged | Unwanted:
            if checked.how == "outside raises":
                raise ConnectionError(quoting(checked))
            return Unwanted() if checked.how in ("outside refuses", "undo raises") else Charged()

        @desk.on(Newsletter, source=checks, retry=TWICE)
        async def read_news(news: Newsletter, run: Run) -> None:
            raise LookupError(f"{news.address} is unknown: {news.model_dump_json()}")

        @desk.on_end(club)
        async def settle(end: Ended, run: Run) -> None:
            start = end.start
            if isinstance(start, Joined) and start.how == "end raises":
                raise OSError(quoting(start))


class Heard(logging.Handler):
    """Gather every line as text and as JSON."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._formatters = (logging.Formatter("%(message)s"), TextFormatter(), JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        for formatter in self._formatters:
            # A formatter keeps the traceback that it has made in the record, for the next one.
            record.exc_text = None
            self.lines.append(formatter.format(record))


@dataclass
class Watched:
    """Be an app whose every word is heard."""

    app: App
    store: Store
    club: Club
    heard: Heard
    spans: InMemorySpanExporter
    metrics: InMemoryMetricReader
    raised: list[BaseException] = field(default_factory=list[BaseException])

    async def errors(self) -> list[str]:
        """Return what stands in the error columns, which the console and the command line show."""
        found: list[str] = []
        async with self.store.unit(Claim(service="desk", sagas=())) as unit:
            for table in ("saga_run", "saga_delivery"):
                found += [str(row["error"]) for row in await unit.db.fetch(f"select error from {table}")]
        return found

    def said(self) -> dict[str, list[str]]:
        """Return everything that was said, by where."""
        return {
            "log": list(self.heard.lines),
            "span": [_span_text(span) for span in self.spans.get_finished_spans()],
            "metric": [str(self.metrics.get_metrics_data())],
            "exception": ["".join(traceback.format_exception(error)) for error in self.raised],
        }


def _span_text(span: Any) -> str:
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    return f"{span.name} {dict(span.attributes or {})} {events} {span.status.description}"


def leaks(said: Iterable[str]) -> list[str]:
    """Return what has the value in it."""
    return [text for text in said if CANARY in text]


@asynccontextmanager
async def watched(store: str = "", **options: Any) -> AsyncGenerator[Watched]:
    """Run a club and hear all of it; `store` is a URL, by default SQLite in memory."""
    address = store or f"sqlite:///:memory:?name=canary{next(_NUMBERS)}-{uuid4().hex[:6]}"
    spans, reader, heard, club = InMemorySpanExporter(), InMemoryMetricReader(), Heard(), Club()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    metering = MeterProvider([reader], shutdown_on_exit=False)
    root = logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    try:
        async with open_store(address) as opened:
            app = App(
                club.services,
                store=opened,
                transport="memory://",
                coordinator=Coordinator(store=address),
                tuning=TUNING,
                tracer=OtelTracer(tracing),
                meter=OtelMeter(metering),
                **options,
            )
            async with app:
                yield Watched(app=app, store=opened, club=club, heard=heard, spans=spans, metrics=reader)
    finally:
        root.removeHandler(heard)
        root.setLevel(level)
