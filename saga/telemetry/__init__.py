"""Trace with OpenTelemetry where it is installed; only this package imports it."""

from __future__ import annotations

import os
from collections.abc import Callable

from saga._runtime.tracing import NullTracer
from saga.errors import SettingsError
from saga.ports import Tracer
from saga.telemetry.environment import configure_metrics_from_env, open_meter

__all__ = ["NullTracer", "configure_from_env", "open_meter", "open_tracer"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_EXTRA = "pip install 'saga-choreography[otel]'"


def open_tracer() -> Tracer:
    """Return a tracer over the program's OpenTelemetry provider, or one that records nothing where there is none.

    A provider set later counts from a tenth of a second after.
    """
    try:
        from saga.telemetry.otel import OtelTracer  # noqa: PLC0415 - the core install has no opentelemetry
    except ModuleNotFoundError as error:
        if not _is_otel(error):
            raise
        return NullTracer()
    return OtelTracer()


def configure_from_env(service_name: str) -> Callable[[], None]:
    """Export traces and metrics as the usual OTEL_* variables say; return what flushes and stops that, within 5 s each.

    Call it once when a process starts, before its app comes up; what is returned also runs at exit. A
    `TracerProvider` or `MeterProvider` that the program has set stays as it is, and nothing is configured where no
    variable asks for it. OTEL_SERVICE_NAME wins over `service_name`. What cannot be sent is said in the log of `saga`,
    once a minute. Raises SettingsError for a missing extra, a protocol other than http/protobuf, an unknown exporter
    and an address that cannot be had.
    """
    stops = (configure_otlp_from_env(service_name), configure_metrics_from_env(service_name))

    def stop() -> None:
        for each in stops:
            each()

    return stop


def configure_otlp_from_env(service_name: str) -> Callable[[], None]:
    """Export spans as the usual OTEL_* variables say and return what flushes and stops it, within 5 s.

    Nothing is configured when no endpoint is set, OTEL_SDK_DISABLED is true, OTEL_TRACES_EXPORTER names
    no otlp, or the program has set a provider of its own. OTEL_SERVICE_NAME wins over `service_name`.
    What is returned also runs at exit and may be called twice. Raises SettingsError for a missing
    extra and for a protocol other than http/protobuf.
    """
    if not _wanted():
        return _nothing
    protocol = _first(_PROTOCOLS)
    if protocol not in ("", _PROTOCOL):
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} cannot be used; set {_PROTOCOL}, "
            "and the endpoint to the collector's HTTP port (usually 4318)"
        )
    try:
        from saga.telemetry.exporting import export_otlp  # noqa: PLC0415 - the core install has no opentelemetry

        return export_otlp(service_name)
    except ModuleNotFoundError as error:
        if not _is_otel(error):
            raise
        raise SettingsError(f"an OTLP endpoint is set, but exporting needs the extra [otel]: {_EXTRA}") from error


def _wanted() -> bool:
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporters = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return not disabled and "otlp" in exporters and _first(_ENDPOINTS) != ""


def _first(names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def _is_otel(error: ModuleNotFoundError) -> bool:
    return error.name is not None and error.name.partition(".")[0] == "opentelemetry"


def _nothing() -> None:
    return
