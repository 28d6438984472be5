"""The export configures the process it runs in, so each test has a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anyio
import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from saga.errors import SettingsError
from saga.telemetry import metric_export
from saga.telemetry.environment import configure_metrics_from_env
from saga.telemetry.prometheus import metrics_app

PROGRAM = """
import sys
from saga._core.metrics import STARTED
from saga.telemetry import configure_metrics_from_env, open_meter

stop = configure_metrics_from_env("orders")
meter = open_meter()
if meter.is_on:
    meter.add(STARTED, ("trip",), 3)
"""
AND_READ = """
import urllib.request
port = sys.argv[1]
with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
    print(answer.read().decode())
"""


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, ExportMetricsServiceRequest]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((self.path, ExportMetricsServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        del format, args


@contextmanager
def receiving() -> Generator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def run(program: str, *arguments: str, **variables: str) -> str:
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


def test_metrics_go_out_over_otlp_when_the_process_ends() -> None:
    with receiving() as receiver:
        run(PROGRAM, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{receiver.endpoint}/v1/metrics")
    ((path, request),) = receiver.requests
    assert path == "/v1/metrics"
    (resource,) = request.resource_metrics
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "orders"
    assert len(names["service.instance.id"]) == 36
    (metric,) = resource.scope_metrics[0].metrics
    assert (metric.name, metric.sum.data_points[0].as_int) == ("saga.started", 3)


def test_the_environment_names_the_process() -> None:
    with receiving() as receiver:
        run(
            PROGRAM,
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{receiver.endpoint}/v1/metrics",
            OTEL_RESOURCE_ATTRIBUTES="service.instance.id=pod-7,service.name=named",
        )
    attributes = receiver.requests[0][1].resource_metrics[0].resource.attributes
    names = {each.key: each.value.string_value for each in attributes}
    assert (names["service.name"], names["service.instance.id"]) == ("named", "pod-7")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "{}"},  # it may lead to a Jaeger
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "{}", "OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "{}", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_METRICS_EXPORTER": "otlp"},  # and no endpoint
    ],
)
def test_nothing_is_configured_and_nothing_goes_out(variables: dict[str, str]) -> None:
    program = PROGRAM + "print(meter.is_on)"
    with receiving() as receiver:
        given = {name: value.format(receiver.endpoint) for name, value in variables.items()}
        assert run(program, **given) == "False"
    assert receiver.requests == []


def test_the_general_endpoint_does_where_the_exporter_is_named() -> None:
    with receiving() as receiver:
        run(PROGRAM, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_METRICS_EXPORTER="otlp")
    assert [path for path, _ in receiver.requests] == ["/v1/metrics"]


def test_prometheus_finds_them_on_the_loopback_interface_alone() -> None:
    port = str(free_port())
    program = PROGRAM + AND_READ + "import socket; print(open('/proc/net/tcp').read())"
    said = run(program, port, OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=port)
    assert 'saga_started_total{saga_name="trip"} 3.0' in said
    assert 'target_info{service_instance_id="' in said
    listening = [line.split()[1] for line in said.splitlines() if f":{int(port):04X} 00000000:0000 0A" in line]
    assert listening == [f"0100007F:{int(port):04X}"]


def test_both_exporters_may_be_asked_for() -> None:
    port = str(free_port())
    with receiving() as receiver:
        said = run(
            PROGRAM + AND_READ,
            port,
            OTEL_METRICS_EXPORTER="otlp, prometheus",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_PROMETHEUS_PORT=port,
        )
    assert "saga_started_total" in said
    assert len(receiver.requests) == 1


def test_metrics_are_served_by_one_call_and_no_longer_once_it_is_stopped() -> None:
    program = """
import sys, urllib.request, urllib.error
from saga._core.metrics import STARTED
from saga.telemetry import open_meter
from saga.telemetry.prometheus import serve_prometheus
stop = serve_prometheus(int(sys.argv[1]))
open_meter().add(STARTED, ("trip",), 3)
address = f"http://127.0.0.1:{sys.argv[1]}/metrics"
print(urllib.request.urlopen(address).read().decode().count("saga_started_total{"))
stop()
try:
    urllib.request.urlopen(address)
except urllib.error.URLError as error:
    print(type(error.reason).__name__)
"""
    assert run(program, str(free_port())).split() == ["1", "ConnectionRefusedError"]


def test_a_provider_of_the_programs_own_stays() -> None:
    program = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from saga.telemetry import configure_metrics_from_env, open_meter
own = MeterProvider(); metrics.set_meter_provider(own)
configure_metrics_from_env("orders")()
print(metrics.get_meter_provider() is own, open_meter().is_on)
"""
    assert run(program, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://127.0.0.1:9") == "True True"


def test_stopping_is_bounded_when_the_receiver_never_answers() -> None:
    program = (
        PROGRAM.replace("import sys", "import os, sys, time\nfrom saga.telemetry import metric_export")
        + """
metric_export.FLUSH_SECONDS = 0.3
before = time.monotonic()
stop(); stop()
print(time.monotonic() - before, flush=True)
os._exit(0)
"""
    )
    assert metric_export.FLUSH_SECONDS == 5
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}/v1/metrics"
        assert 0.2 < float(run(program, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=endpoint)) < 3


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"OTEL_METRICS_EXPORTER": "statsd"}, "write otlp, prometheus or none"),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "set http/protobuf",
        ),
        ({"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "ninety"}, "is no port"),
        ({"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "99999"}, "is no port"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    variables: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=sentence):
        configure_metrics_from_env("orders")


def test_an_address_that_is_taken_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        said = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": port},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stderr
    assert f"metrics cannot be served on 127.0.0.1:{port}" in said


@pytest.mark.parametrize(
    ("module", "variables", "extra"),
    [
        ("opentelemetry.exporter.prometheus", {"OTEL_METRICS_EXPORTER": "prometheus"}, "prometheus"),
        (
            "opentelemetry.exporter.otlp.proto.http.metric_exporter",
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318/v1/metrics"},
            "otel",
        ),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    module: str, variables: dict[str, str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingsError, match=rf"pip install 'saga-choreography\[{extra}\]'"):
        configure_metrics_from_env("orders")


@pytest.mark.anyio
async def test_an_asgi_app_answers_with_what_the_process_has_registered() -> None:
    transport = httpx.ASGITransport(app=metrics_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        with anyio.fail_after(10):
            found = await client.get("/metrics")
            assert (found.status_code, "python_info" in found.text) == (200, True)
            assert found.headers["content-type"].startswith("text/plain")
            assert (await client.head("/metrics")).content == b""
            assert (await client.post("/metrics")).status_code == 405
