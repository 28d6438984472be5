"""What is said when nothing listens where telemetry is sent to: the SDK says it for every attempt."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from saga.telemetry.quiet import Quieter, cause_of
from tests.telemetry.receiver import receiving
from tests.telemetry.test_export import run
from tests.telemetry.test_metrics_export import receiving as receiving_metrics

PROGRAM = """
import logging, os, sys, threading
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
from saga._core.metrics import STARTED
from saga.ports import SpanKind
from saga.telemetry import configure_from_env, open_meter, open_tracer, quiet

heard = {"trace": threading.Semaphore(0), "metric": threading.Semaphore(0)}
class Heard(quiet.Quieter):
    def filter(self, record):
        goes_on = super().filter(record)
        heard[self._kind].release()
        return goes_on
quiet.Quieter = Heard

configure_from_env("orders")
with open_tracer().span("create a.v1", SpanKind.PRODUCER, "", {}):
    open_meter().add(STARTED, ("trip",), 1)
for each in heard.values():
    for _ in range(int(sys.argv[1])):
        assert each.acquire(timeout=30)
sys.stdout.flush()
os._exit(0)  # nobody is there to be flushed to
"""
BOTH = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_METRIC_EXPORT_INTERVAL": "20"}
NOBODY = "Failed to establish a new connection: [Errno 111] Connection refused"


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def record(template: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("opentelemetry", logging.WARNING, "here", 1, template, arguments, None)


TRANSIENT = "Transient error %s encountered while exporting %s batch, retrying in %.2fs."
GIVEN_UP = "Failed to export %s batch due to timeout, max retries or shutdown."
FAILED = "Failed to export %s batch code: %s, reason: %s"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quieter(clock: Clock) -> Quieter:
    return Quieter("trace", "http://jaeger:4318/v1/traces", interval_seconds=60, clock=clock)


def test_one_cause_is_told_once_a_minute(quieter: Quieter, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    refused = record(TRANSIENT, ConnectionError(NOBODY), "spans", 1.0)
    for second in range(61):
        clock.at = second
        assert not quieter.filter(record(GIVEN_UP, "spans") if second % 5 == 4 else refused)
    first, again = caplog.messages
    assert first == (
        "traces do not reach http://jaeger:4318/v1/traces: [Errno 111] Connection refused. Is a collector there? "
        "Set OTEL_EXPORTER_OTLP_ENDPOINT to its HTTP port (usually 4318), or OTEL_TRACES_EXPORTER=none"
    )
    assert again == f"{first} (59 more like it)"


def test_another_cause_is_told_at_once(quieter: Quieter, caplog: pytest.LogCaptureFixture) -> None:
    quieter.filter(record(TRANSIENT, ConnectionError(NOBODY), "spans", 1.0))
    quieter.filter(record(FAILED, "spans", 404, "Not Found"))
    quieter.filter(record(FAILED, "spans", 401, "Unauthorized"))
    assert [line.partition("v1/traces: ")[2].partition(" or ")[0] for line in caplog.messages[1:]] == [
        "404 Not Found. It takes no traces there: set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to where it does,",
        "401 Unauthorized. Set OTEL_EXPORTER_OTLP_HEADERS to what it asks for",
    ]


def test_what_is_not_about_sending_goes_on(quieter: Quieter, caplog: pytest.LogCaptureFixture) -> None:
    assert quieter.filter(record("Failed to encode span batch: %s", ValueError("no")))
    assert caplog.messages == []
    assert not quieter.filter(record(GIVEN_UP, "spans"))  # and no attempt has said why
    assert "max retries or shutdown. Is a collector there?" in caplog.text


@pytest.mark.parametrize(
    ("found", "cause"),
    [
        (record(TRANSIENT, ConnectionError(NOBODY), "spans", 1.0), "[Errno 111] Connection refused"),
        (record(TRANSIENT, "Service Unavailable", "spans", 1.0), "Service Unavailable"),
        (record(FAILED, "spans", 400, "Bad Request"), "400 Bad Request"),
        (
            record(FAILED, "spans", None, OSError("[Errno -2] Name or service not known")),
            "[Errno -2] Name or service not known",
        ),
        (record(FAILED, "spans", None, RuntimeError("broken")), "RuntimeError: broken"),
        (record(GIVEN_UP, "spans"), ""),
        (record("Shutdown in progress, aborting retry."), ""),
    ],
)
def test_the_cause_is_the_innermost_that_is_said(found: logging.LogRecord, cause: str) -> None:
    assert cause_of(found) == cause


def test_an_address_where_nothing_listens_makes_one_line_each() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://user:secret@127.0.0.1:{server.getsockname()[1]}"
    said = run("3", program=PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **BOTH)
    traces, metrics = sorted(said.splitlines(), reverse=True)
    assert traces.startswith("saga: traces do not reach http://127.0.0.1:")
    assert metrics.startswith("saga: metrics do not reach http://127.0.0.1:")
    assert "Connection refused" in traces
    assert "secret" not in said


class _NotFound(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        del format, args


@contextmanager
def refusing() -> Generator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NotFound) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_what_a_collector_does_not_take_is_said_with_its_status() -> None:
    with refusing() as endpoint:
        said = run("1", program=PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **BOTH)
    assert [("404 Not Found" in line, "It takes no" in line) for line in said.splitlines()] == [(True, True)] * 2


def test_one_call_configures_what_the_program_has_not() -> None:
    program = """
from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from saga.telemetry import configure_from_env
own = TracerProvider(); trace.set_tracer_provider(own)
stop = configure_from_env("orders")
print(trace.get_tracer_provider() is own, type(metrics.get_meter_provider()).__module__)
stop(); stop()
"""
    with receiving() as receiver:
        said = run(program=program, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_METRICS_EXPORTER="otlp")
    assert said.split() == ["True", "opentelemetry.sdk.metrics._internal"]
    assert run(program=program).split() == ["True", "opentelemetry.metrics._internal"]


def test_one_call_sends_traces_and_metrics_until_the_process_ends() -> None:
    program = """
from saga._core.metrics import STARTED
from saga.ports import SpanKind
from saga.telemetry import configure_from_env, open_meter, open_tracer
configure_from_env("orders")
with open_tracer().span("create a.v1", SpanKind.PRODUCER, "", {}):
    open_meter().add(STARTED, ("trip",), 1)
"""
    with receiving() as receiver, receiving_metrics() as others:
        endpoints = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.endpoint}/v1/traces",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{others.endpoint}/v1/metrics",
        }
        run(program=program, **endpoints)
    assert receiver.span("create a.v1").service == "orders"
    assert [path for path, _ in others.requests] == ["/v1/metrics"]
