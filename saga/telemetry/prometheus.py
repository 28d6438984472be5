"""Let Prometheus come by for the metrics: the extra `prometheus`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from saga._core.metrics import METRICS, Metric, MetricKind
from saga.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader

PORT: Final = 9464
HOST: Final = "127.0.0.1"
EXTRA: Final = "pip install 'saga-choreography[prometheus]'"

_SUFFIXES: Final = {
    MetricKind.COUNTER: ("_total",),
    MetricKind.GAUGE: ("",),
    MetricKind.HISTOGRAM: ("_bucket", "_count", "_sum"),
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def prometheus_names(metric: Metric) -> tuple[str, ...]:
    """Return the names under which Prometheus keeps a metric: dots are underscores, the unit is its end."""
    unit = "_seconds" if metric.unit == "s" else ""
    name = re.sub(r"[^a-zA-Z0-9:]+", "_", metric.name)
    return tuple(f"{name}{unit}{suffix}" for suffix in _SUFFIXES[metric.kind])


def prometheus_label(label: str) -> str:
    """Return the name under which Prometheus keeps a label."""
    return re.sub(r"[^a-zA-Z0-9]+", "_", label)


ALL_NAMES: Final = frozenset(name for metric in METRICS for name in prometheus_names(metric))
"""Every name of ours that Prometheus can be asked for."""


def prometheus_reader() -> MetricReader:
    """Return the reader that a MeterProvider needs for this; raises SettingsError without the extra."""
    try:
        from opentelemetry.exporter.prometheus import (  # noqa: PLC0415 - an extra
            PrometheusMetricReader,
        )
    except ModuleNotFoundError as error:
        raise SettingsError(f"metrics for Prometheus need the extra [prometheus]: {EXTRA}") from error
    return PrometheusMetricReader(scope_info_enabled=False)


def serve_prometheus(port: int = PORT, host: str = HOST) -> Callable[[], None]:
    """Answer GET /metrics from a thread of its own, on the loopback interface unless told otherwise.

    Sets the program's MeterProvider where there is none; one of the program's own needs `prometheus_reader()`. Returns
    what stops it. Raises SettingsError without the extra and for an address that cannot be had.
    """
    from saga.telemetry.metric_export import is_provided, provide  # noqa: PLC0415 - the core install has no opentelemetry

    reader = None if is_provided() else prometheus_reader()
    stop_serving = listen(port, host)
    if reader is None:
        return stop_serving
    return provide("saga", [reader], stop_serving)


def listen(port: int, host: str) -> Callable[[], None]:
    """Answer GET /metrics with what the process has registered, and return what stops it; raises SettingsError."""
    try:
        from prometheus_client import start_http_server  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SettingsError(f"metrics for Prometheus need the extra [prometheus]: {EXTRA}") from error
    try:
        server, thread = start_http_server(port, addr=host)
    except OSError as error:
        raise SettingsError(f"metrics cannot be served on {host}:{port}: {error.strerror or error}") from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1.0)

    return stop


def metrics_app() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an ASGI app that answers every GET with the metrics of the process: `app.mount("/metrics", …)`.

    Who may read them is the surrounding app's to say. Raises SettingsError without the extra.
    """
    try:
        from prometheus_client import REGISTRY  # noqa: PLC0415 - an extra
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(f"metrics for Prometheus need the extra [prometheus]: {EXTRA}") from error

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        if scope["type"] != "http":
            raise NotImplementedError(f"metrics are read over http, not {scope['type']}")
        status, kind, body = 405, "text/plain; charset=utf-8", b"only GET\n"
        if scope["method"] in ("GET", "HEAD"):
            accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
            encode, kind = choose_encoder(accept.decode("latin-1"))
            status, body = 200, encode(REGISTRY)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return answer
