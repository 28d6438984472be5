from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request

from tests.testbed.broker import cache
from tests.testbed.server import LOOPBACK, LocalServer, ServerFailed, free_port

OTLP_VARIABLE = "SAGA_TEST_JAEGER_OTLP"
OTLP_PORT = 4318


def binary() -> str | None:
    """Return Jaeger's program, from the cache or the path."""
    return shutil.which("jaeger", path=str(cache())) or shutil.which("jaeger")


def jaeger_answers(url: str) -> bool:
    """Tell whether an HTTP server answers well."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class LocalJaeger(LocalServer):
    """Jaeger 2, storing in memory: `otlp` takes traces over HTTP, `query` is the base of its query API."""

    name = "jaeger"

    def __init__(self) -> None:
        super().__init__()
        program = binary()
        if program is None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise ServerFailed(f"no jaeger program on the path or in {cache()}")
        ports = [free_port() for _ in range(4)]
        otlp, query, grpc, health = (f"{LOOPBACK}:{port}" for port in ports)
        self.otlp, self.query, self._health = f"http://{otlp}", f"http://{query}", f"http://{health}/status"
        self._program = program
        self._config = self.scratch / "config.json"
        self._config.write_text(json.dumps(configuration(otlp, query, grpc, health)))

    def command(self) -> list[str]:
        return [self._program, "--config", str(self._config)]

    def ready(self) -> bool:
        return jaeger_answers(self._health)


def configuration(otlp: str, query: str, grpc: str, health: str) -> dict[str, object]:
    """Return a configuration that listens on loopback only and stores spans without waiting for a batch."""
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
        "extensions": {
            "healthcheckv2": {"use_v2": True, "http": {"endpoint": health}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": query},
                "grpc": {"endpoint": grpc},
            },
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 100_000}}}},
        },
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": otlp}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
    }
