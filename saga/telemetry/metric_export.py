"""Give the program a MeterProvider that exports: over OTLP, for Prometheus to come by, or both."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final
from uuid import uuid4

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from saga.telemetry.quiet import quiet

FLUSH_SECONDS: Final = 5.0


def otlp_reader() -> MetricReader:
    """Return what sends over OTLP every OTEL_METRIC_EXPORT_INTERVAL milliseconds."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415 - the SDK alone may be there
        OTLPMetricExporter,
    )

    quiet("metric")
    return PeriodicExportingMetricReader(OTLPMetricExporter())


def provide(service_name: str, readers: list[MetricReader], *and_stop: Callable[[], None]) -> Callable[[], None]:
    """Set the program's provider with these readers and return what flushes and stops it, once, within 5 s."""
    resource = Resource.create(_named(service_name))
    provider = MeterProvider(readers, resource, shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    stop = _bounded(provider.shutdown, *and_stop)
    atexit.register(stop)
    return stop


def is_provided() -> bool:
    """Return whether the program has a provider of its own."""
    return isinstance(metrics.get_meter_provider(), MeterProvider)


def _named(service_name: str) -> dict[str, str]:
    """Return the names of this process that the environment does not say; replicas must differ in one."""
    said = {each.partition("=")[0].strip() for each in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")}
    if os.environ.get("OTEL_SERVICE_NAME", ""):
        said.add("service.name")
    names = {"service.name": service_name, "service.instance.id": str(uuid4())}
    return {name: value for name, value in names.items() if name not in said}


def _bounded(*shut_down: Callable[[], None]) -> Callable[[], None]:
    """Return what shuts down once and waits at most FLUSH_SECONDS: with nobody listening the SDK waits longer.

    The thread that does it exists from the beginning, as none may be started while the interpreter exits.
    """
    asked = threading.Event()

    def wait_and_shut_down() -> None:
        asked.wait()
        with ExitStack() as stack:
            for each in shut_down:
                stack.callback(each)

    thread = threading.Thread(target=wait_and_shut_down, name="saga-metrics-shutdown", daemon=True)
    thread.start()

    def stop() -> None:
        asked.set()
        thread.join(FLUSH_SECONDS)

    return stop
