"""The export configures the process it runs in, so each test has processes of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from saga.errors import SettingsError
from saga.telemetry import configure_otlp_from_env, exporting
from tests.telemetry.receiver import receiving

PROGRAM = """
import sys
from saga.ports import SpanKind
from saga.telemetry import configure_otlp_from_env, open_tracer

stop = configure_otlp_from_env(sys.argv[1])
tracer, told = open_tracer(), sys.argv[2]
kinds = {"create": SpanKind.PRODUCER, "process": SpanKind.CONSUMER}
for name in sys.argv[3:]:
    with tracer.span(name, kinds[name.partition(" ")[0]], told, {"saga.id": "s1"}) as span:
        told = span.traceparent
print(told)
"""


def run(*arguments: str, program: str = PROGRAM, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_three_processes_export_one_trace() -> None:
    with receiving() as receiver:
        endpoint = receiver.endpoint
        told = run("orders", "", "create order.placed.v1", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        told = run(
            "inventory",
            told,
            "process orders.events",
            "create stock.reserved.v1",
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        )
        run("payment", told, "process inventory.events", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{endpoint}/v1/traces")
    chain = [
        receiver.span(name)
        for name in (
            "create order.placed.v1",
            "process orders.events",
            "create stock.reserved.v1",
            "process inventory.events",
        )
    ]
    assert [span.service for span in chain] == ["orders", "inventory", "inventory", "payment"]
    assert [span.parent_id for span in chain] == [b"", *(span.span_id for span in chain[:-1])]
    assert len({span.trace_id for span in chain}) == 1
    assert {span.attributes["saga.id"] for span in chain} == {"s1"}
    assert set(receiver.paths) == {"/v1/traces"}


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SERVICE_NAME": "named"}, {"OTEL_RESOURCE_ATTRIBUTES": "team=a,service.name=named"}],
)
def test_the_environment_names_the_service(variables: dict[str, str]) -> None:
    with receiving() as receiver:
        run("orders", "", "create a.v1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **variables)
    assert receiver.span("create a.v1").service == "named"


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_SAMPLER": "always_off"}],
)
def test_the_environment_turns_the_export_off(variables: dict[str, str]) -> None:
    with receiving() as receiver:
        run("orders", "", "create a.v1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, **variables)
    assert receiver.paths == []


def test_without_an_endpoint_nothing_is_configured_and_nothing_connects() -> None:
    program = """
import socket, sys
def refuse(*args): raise AssertionError("connects")
socket.socket.connect = refuse
import threading
from saga.ports import SpanKind
from saga.telemetry import configure_otlp_from_env, open_tracer
stop = configure_otlp_from_env("orders")
with open_tracer().span("create a.v1", SpanKind.PRODUCER, "", {}): pass
stop()
from opentelemetry import trace
print(type(trace.get_tracer_provider()).__name__, threading.active_count(), "opentelemetry.sdk" in sys.modules)
"""
    assert run(program=program) == "ProxyTracerProvider 1 False"


def test_a_provider_of_the_programs_own_stays() -> None:
    program = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from saga.telemetry import configure_otlp_from_env
own = TracerProvider(); trace.set_tracer_provider(own)
configure_otlp_from_env("orders")()
print(trace.get_tracer_provider() is own)
"""
    assert run(program=program, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") == "True"


def test_stopping_is_bounded_when_the_receiver_never_answers() -> None:
    program = """
import os, sys, time
from saga.ports import SpanKind
from saga.telemetry import configure_otlp_from_env, exporting, open_tracer
exporting.FLUSH_SECONDS = 0.3
stop = configure_otlp_from_env("orders")
with open_tracer().span("create a.v1", SpanKind.PRODUCER, "", {}): pass
before = time.monotonic()
stop()
print(time.monotonic() - before, flush=True)
os._exit(0)
"""
    assert exporting.FLUSH_SECONDS == 5
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert 0.2 < float(run(program=program, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)) < 3


def test_stopping_twice_and_at_exit_exports_once() -> None:
    with receiving() as receiver:
        endpoint = receiver.endpoint
        run("orders", "", "create a.v1", program=PROGRAM + "stop(); stop()", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert len(receiver.paths) == 1


def test_another_protocol_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SettingsError, match="set http/protobuf"):
        configure_otlp_from_env("orders")


def test_an_endpoint_without_the_extra_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"saga-choreography\[otel\]"):
        configure_otlp_from_env("orders")
