"""Keep no metrics; or gather those of a batch, and tell them together."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from saga._core.envelope import Message
from saga._core.measuring import Reading, thinned
from saga._core.metrics import SENDING, SENT, Labels, Metric
from saga.ports import Publisher
from saga.ports.metering import Meter


class NullMeter:
    """Keep nothing."""

    is_on = False

    def add(self, metric: Metric, labels: Labels, count: int) -> None:
        """Do nothing."""

    def record(self, metric: Metric, labels: Labels, values: Sequence[float]) -> None:
        """Do nothing."""

    def hold(self, owner: object, readings: Sequence[Reading]) -> None:
        """Do nothing."""


class MeasuredPublisher:
    """Count what is sent, by topic, and what a batch takes."""

    def __init__(self, publisher: Publisher, meter: Meter, broker: str) -> None:
        """Publish through `publisher`; `broker` is the name that OpenTelemetry has for it."""
        self._publisher = publisher
        self._meter = meter
        self._broker = broker

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        """Send a batch; see the port."""
        if not self._meter.is_on or not messages:
            return await self._publisher.publish(messages)
        began = perf_counter()
        results = await self._publisher.publish(messages)
        tally = Tally()
        for message, error in zip(messages, results, strict=True):
            tally.add(SENT, self._broker, "send", message.topic, "" if error is None else type(error).__name__)
        tally.record(SENDING, self._broker, "send", value=perf_counter() - began)
        tally.tell(self._meter)
        return results


class Tally:
    """Gather counts and values until they are told, each label set once."""

    def __init__(self) -> None:
        """Gather nothing yet."""
        self._counts: dict[tuple[Metric, Labels], int] = {}
        self._values: dict[tuple[Metric, Labels], list[float]] = {}

    def add(self, metric: Metric, *labels: str, count: int = 1) -> None:
        """Add to a counter."""
        key = (metric, labels)
        self._counts[key] = self._counts.get(key, 0) + count

    def record(self, metric: Metric, *labels: str, value: float) -> None:
        """Add a value to a histogram; where there are many of a batch, some stand for all (`thinned`)."""
        self._values.setdefault((metric, labels), []).append(value)

    def tell(self, meter: Meter) -> None:
        """Tell what was gathered, and begin anew."""
        counts, self._counts = self._counts, {}
        values, self._values = self._values, {}
        for (metric, labels), count in counts.items():
            meter.add(metric, labels, count)
        for (metric, labels), several in values.items():
            meter.record(metric, labels, thinned(several))
