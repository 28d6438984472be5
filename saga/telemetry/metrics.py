"""Keep metrics through the OpenTelemetry API: nothing is kept where the program has no MeterProvider."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Final

from opentelemetry import metrics

from saga._core.measuring import Reading
from saga._core.metrics import METRICS, Labels, Metric, MetricKind, buckets_of

LOOK_EVERY_SECONDS: Final = 1.0
_NOBODY: Final = ("_ProxyMeterProvider", "NoOpMeterProvider")
"""What the API hands out where nobody has set a provider; its class is not public."""


class OtelMeter:
    """Keep metrics at an OpenTelemetry provider: the one given, else the program's own, once it has one."""

    def __init__(self, provider: metrics.MeterProvider | None = None) -> None:
        """Make no instrument yet."""
        self._provider = provider
        self._is_on = provider is not None
        self._looks_again_at = inf if provider is not None else -inf
        self._counters: dict[Metric, metrics.Counter] = {}
        self._histograms: dict[Metric, metrics.Histogram] = {}
        self._gauges: list[metrics.ObservableGauge] = []
        self._held: Mapping[int, Sequence[Reading]] = {}

    @property
    def is_on(self) -> bool:
        """Return whether there is a provider by now; looked up once a second."""
        if not self._is_on and time.monotonic() >= self._looks_again_at:
            self._looks_again_at = time.monotonic() + LOOK_EVERY_SECONDS
            self._is_on = type(metrics.get_meter_provider()).__name__ not in _NOBODY
        return self._is_on

    def add(self, metric: Metric, labels: Labels, count: int) -> None:
        """Add to a counter."""
        self._make()
        self._counters[metric].add(count, _attributes(metric.labels, labels))

    def record(self, metric: Metric, labels: Labels, values: Sequence[float]) -> None:
        """Add values to a histogram."""
        self._make()
        histogram, attributes = self._histograms[metric], _attributes(metric.labels, labels)
        for value in values:
            histogram.record(value, attributes)

    def hold(self, owner: object, readings: Sequence[Reading]) -> None:
        """Let gauges read this from now on; the exporter's thread sees the whole of it or nothing."""
        others = {key: held for key, held in self._held.items() if key != id(owner)}
        self._held = {**others, id(owner): tuple(readings)} if readings else others
        if readings:
            self._make()

    def _make(self) -> None:
        """Make all instruments, once: before there was a provider they would have been for nobody."""
        if self._counters:
            return
        meter = metrics.get_meter("saga", _version(), self._provider)
        for metric in METRICS:
            match metric.kind:
                case MetricKind.COUNTER:
                    self._counters[metric] = meter.create_counter(metric.name, metric.unit, metric.text)
                case MetricKind.HISTOGRAM:
                    self._histograms[metric] = meter.create_histogram(
                        metric.name, metric.unit, metric.text, explicit_bucket_boundaries_advisory=buckets_of(metric)
                    )
                case MetricKind.GAUGE:
                    callbacks = [self._reader(metric)]
                    gauge = meter.create_observable_gauge(metric.name, callbacks, metric.unit, metric.text)
                    self._gauges.append(gauge)

    def _reader(self, metric: Metric) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
        def read(options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
            del options
            found: dict[Labels, float] = {}
            for held in self._held.values():
                for reading in held:
                    if reading.metric is metric:
                        found[reading.labels] = max(reading.value, found.get(reading.labels, reading.value))
            return [metrics.Observation(value, _attributes(metric.labels, labels)) for labels, value in found.items()]

        return read


@cache
def program_meter() -> OtelMeter:
    """Return the meter over the program's own provider; one for all apps, as an instrument is made once."""
    return OtelMeter()


@lru_cache(maxsize=4096)
def _attributes(names: tuple[str, ...], values: Labels) -> Mapping[str, str]:
    return {name: value for name, value in zip(names, values, strict=True) if value}


@cache
def _version() -> str:
    try:
        return version("saga-choreography")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return ""
