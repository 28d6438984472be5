"""Export metrics as the usual OTEL_* variables say."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from saga._runtime.metering import NullMeter
from saga.errors import SettingsError
from saga.ports.metering import Meter

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_EXTRA = "pip install 'saga-choreography[otel]'"
MOST_PORTS = 65_535
_KNOWN = ("otlp", "prometheus", "none", "")


def open_meter() -> Meter:
    """Return a meter over the program's OpenTelemetry provider, or one that keeps nothing where there is none.

    A provider set later counts from a few seconds after.
    """
    try:
        from saga.telemetry.metrics import program_meter  # noqa: PLC0415 - the core install has no opentelemetry
    except ModuleNotFoundError as error:
        if not _is_otel(error):
            raise
        return NullMeter()
    return program_meter()


def configure_metrics_from_env(service_name: str) -> Callable[[], None]:
    """Export metrics as the usual OTEL_* variables say and return what flushes and stops it, within 5 s.

    OTEL_METRICS_EXPORTER is `otlp`, `prometheus`, both with a comma, or `none`; without it, `otlp` where
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is set: what the general endpoint leads to may take traces only. Prometheus
    finds them at OTEL_EXPORTER_PROMETHEUS_HOST (127.0.0.1) and _PORT (9464). Nothing is configured when
    OTEL_SDK_DISABLED is true, or the program has set a provider of its own. OTEL_SERVICE_NAME wins over `service_name`.
    What is returned also runs at exit and may be called twice. Raises SettingsError for a missing extra, a protocol
    other than http/protobuf, an unknown exporter and an address that cannot be had.
    """
    wanted = _wanted()
    if not wanted:
        return _nothing
    try:
        return _configure(service_name, wanted)
    except ModuleNotFoundError as error:
        if not _is_otel(error):
            raise
        raise SettingsError(f"an exporter of metrics is set, but it needs the extra [otel]: {_EXTRA}") from error


def _configure(service_name: str, wanted: frozenset[str]) -> Callable[[], None]:
    from saga.telemetry.metric_export import (  # noqa: PLC0415 - the core install has no opentelemetry
        is_provided,
        otlp_reader,
        provide,
    )
    from saga.telemetry.prometheus import HOST, PORT, listen, prometheus_reader  # noqa: PLC0415

    if is_provided():
        return _nothing
    readers: list[MetricReader] = []
    stops: list[Callable[[], None]] = []
    if "otlp" in wanted:
        _check_protocol()
    if "prometheus" in wanted:
        host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or HOST
        stops.append(listen(_port(PORT), host))
        readers.append(prometheus_reader())
    if "otlp" in wanted:
        readers.append(otlp_reader())
    return provide(service_name, readers, *stops)


def _wanted() -> frozenset[str]:
    """Return the exporters that are asked for."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return frozenset()
    said = os.environ.get("OTEL_METRICS_EXPORTER", "").strip()
    names = {name.strip() for name in said.split(",")} if said else set[str]()
    if not said and _first(_ENDPOINTS[:1]):
        names = {"otlp"}
    if unknown := names.difference(_KNOWN):
        which = ", ".join(sorted(unknown))
        raise SettingsError(f"OTEL_METRICS_EXPORTER={which} cannot be used: write otlp, prometheus or none")
    # As with traces: whoever has set no endpoint is not surprised by a connection to localhost.
    return frozenset(names - {"none", ""} - (set() if _first(_ENDPOINTS) else {"otlp"}))


def _port(default: int) -> int:
    """Return the port for Prometheus; raises SettingsError."""
    said = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip() or str(default)
    if not said.isdecimal() or not 0 < int(said) <= MOST_PORTS:
        raise SettingsError(f"OTEL_EXPORTER_PROMETHEUS_PORT={said} is no port: write a number such as {default}")
    return int(said)


def _check_protocol() -> None:
    protocol = _first(_PROTOCOLS)
    if protocol not in ("", _PROTOCOL):
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} cannot be used; set {_PROTOCOL}, "
            "and the endpoint to the collector's HTTP port (usually 4318)"
        )


def _first(names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def _is_otel(error: ModuleNotFoundError) -> bool:
    return error.name is not None and error.name.partition(".")[0] == "opentelemetry"


def _nothing() -> None:
    return
