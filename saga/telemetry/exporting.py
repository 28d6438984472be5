"""Export spans over OTLP with the OpenTelemetry SDK."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Final

from opentelemetry import trace

FLUSH_SECONDS: Final = 5.0
_NOTHING: Final = frozenset(("always_off", "parentbased_always_off"))


def export_otlp(service_name: str) -> Callable[[], None]:
    """Set a global provider with an OTLP exporter, unless there is a provider; returns what stops it."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - the API alone may be installed
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    from saga.telemetry.quiet import quiet  # noqa: PLC0415
    from saga.telemetry.sampling import SagaSampler  # noqa: PLC0415

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _stop_nothing
    resource = Resource.create({} if _named_by_env() else {"service.name": service_name})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    if os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() not in _NOTHING:
        provider.sampler = SagaSampler(provider.sampler)
    quiet("trace")
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    stop = _bounded(provider.shutdown)
    atexit.register(stop)
    return stop


def _named_by_env() -> bool:
    attributes = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    keys = [attribute.partition("=")[0].strip() for attribute in attributes]
    return os.environ.get("OTEL_SERVICE_NAME", "") != "" or "service.name" in keys


def _bounded(shut_down: Callable[[], None]) -> Callable[[], None]:
    """Return what shuts down once and waits at most FLUSH_SECONDS: with nobody listening the SDK waits longer.

    The thread that does it exists from the beginning, as none may be started while the interpreter exits.
    """
    asked = threading.Event()

    def wait_and_shut_down() -> None:
        asked.wait()
        shut_down()

    thread = threading.Thread(target=wait_and_shut_down, name="saga-otlp-shutdown", daemon=True)
    thread.start()

    def stop() -> None:
        asked.set()
        thread.join(FLUSH_SECONDS)

    return stop


def _stop_nothing() -> None:
    return
