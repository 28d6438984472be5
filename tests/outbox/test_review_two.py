"""Hold what a second review found of the way out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from saga import Event
from saga._core.envelope import Message
from saga._core.plain import plain_row
from saga._core.relay import messages_of
from saga.errors import TooLarge
from saga.testing.virtual import VirtualClock
from tests.outbox.test_shards import Bench, Flaky, Line, Topic, running
from transports.kafka.publisher import record_bytes
from transports.kafka.settings import KafkaSettings

pytestmark = pytest.mark.anyio

_numbers = count(1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.fixture
async def bench() -> AsyncGenerator[Bench]:
    name = f"review{next(_numbers)}"
    async with Flaky(":memory:", name=name, clock=VirtualClock()) as store:
        await store.migrate()
        yield Bench(store, Topic(), name)


class Whole(Line):
    """Refuse one message for itself, as Kafka's publisher does with one that is too large."""

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        found = list(await super().publish(messages[1:] if self._is_first(messages) else messages))
        return [TooLarge("one of them"), *found] if self._is_first(messages) else found

    def _is_first(self, messages: Sequence[Message]) -> bool:
        return int(dict(messages[0].headers)["ce_sequence"]) == 1


async def test_what_follows_a_refused_event_of_its_key_is_not_published_over_and_over(bench: Bench) -> None:
    relay = bench.relay(Whole(bench.topic))
    async with running(relay):
        relay.hand_over(await bench.commit("a", "a"))
        await anyio.sleep(600)
    assert bench.topic.of("a").count(2) <= 1


class Long(Event, name="review.long", version=1):
    text: str


def test_what_may_be_written_fits_through_the_publisher() -> None:
    event = Long(text="x" * (1024 * 1024 - len('{"text":""}')))
    try:
        row = plain_row(
            event,
            message_id="m",
            source_service="orders",
            topic="orders.events",
            key="k",
            now=datetime(2026, 1, 1, tzinfo=UTC),
            traceparent="",
        )
    except TooLarge:
        return
    (message,) = messages_of(row)
    assert record_bytes(message) <= KafkaSettings().max_message_bytes
