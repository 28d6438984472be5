"""The payment example in a real Jaeger, read back through its query API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.telemetry.shape import assert_compensated, assert_completed, assert_failed
from tests.telemetry.shop import Played, play, traced_shop
from tests.telemetry.tracereader import Trace, edges_in_jaeger, found_in_jaeger
from tests.testbed.jaeger import LocalJaeger
from tests.testbed.services import Jaeger, Kafka
from transports.memory import MemoryTransport

pytestmark = [pytest.mark.anyio, pytest.mark.jaeger]

TAIL = Path(__file__).parents[2] / "compose" / "jaeger-tail-sampling.yaml"
GATEWAY_DOWN = "examples.payment.gateway.GatewayDown"
FOUND_SECONDS = 20.0


def of_saga(query: str, played: Played) -> Trace:
    """Return the one trace that Jaeger finds by the saga's ID."""
    (trace,) = found_in_jaeger(query, "orders", {"saga.id": played.saga_id})
    return trace


@pytest.mark.kafka
async def test_sagas_over_kafka_are_found_by_their_id_and_are_one_trace_each(
    tmp_path: Path, jaeger: Jaeger, kafka: Kafka
) -> None:
    transport = f"kafka://{kafka.bootstrap}?prefix=traced-{time.monotonic_ns()}."
    async with traced_shop(tmp_path, jaeger.otlp, transport) as gateway:
        completed = await play(gateway, "all-well")
        compensated = await play(gateway, "declined-late")
    assert_completed(of_saga(jaeger.query, completed))
    assert_compensated(of_saga(jaeger.query, compensated))


async def test_the_dependencies_show_who_causes_whose_work(tmp_path: Path, jaeger: Jaeger) -> None:
    async with traced_shop(tmp_path, jaeger.otlp, MemoryTransport()) as gateway:
        await play(gateway, "all-well")
        await play(gateway, "declined-late")
    edges = edges_in_jaeger(jaeger.query, round(time.time() * 1000) + 1000)
    assert edges >= {
        ("orders", "inventory"),
        ("inventory", "payment"),
        ("payment", "shipping"),
        ("payment", "coordinator"),
        ("coordinator", "orders"),
        ("coordinator", "inventory"),
        ("coordinator", "payment"),
    }


async def test_jaeger_marks_the_step_that_failed_and_nothing_else(tmp_path: Path, jaeger: Jaeger) -> None:
    async with traced_shop(tmp_path, jaeger.otlp, MemoryTransport()) as gateway:
        failed = await play(gateway, "gateway-down")
        refused = await play(gateway, "declined-late")
    assert_failed(of_saga(jaeger.query, failed))
    saga_id = failed.saga_id
    (by_error,) = found_in_jaeger(jaeger.query, "payment", {"error.type": GATEWAY_DOWN, "saga.id": saga_id})
    assert by_error.errors
    assert found_in_jaeger(jaeger.query, "payment", {"error.type": GATEWAY_DOWN, "saga.id": refused.saga_id}) == []


class TailSampling(LocalJaeger):
    """Jaeger with the configuration that compose/ offers, deciding after a second and keeping nothing else."""

    def __init__(self) -> None:
        super().__init__()
        usual: dict[str, Any] = yaml.safe_load(self._config.read_text())
        ours: dict[str, Any] = yaml.safe_load(TAIL.read_text())
        ours["extensions"] = usual["extensions"]
        ours["receivers"] = usual["receivers"]
        ours["service"]["telemetry"] = usual["service"]["telemetry"]
        ours["processors"]["tail_sampling"]["decision_wait"] = "1s"
        ours["processors"]["tail_sampling"]["policies"][-1]["probabilistic"] = {"sampling_percentage": 0}
        self._config.write_text(yaml.safe_dump(ours))


@pytest.fixture
def tail_sampling(jaeger: Jaeger) -> Iterator[TailSampling]:
    del jaeger  # asked for because it skips where there is none
    with closing(TailSampling()) as server:
        server.start()
        yield server


def until(found: Callable[[], list[Trace]]) -> list[Trace]:
    """Ask until Jaeger has decided."""
    deadline = time.monotonic() + FOUND_SECONDS
    while not (traces := found()):
        assert time.monotonic() < deadline, "nothing was kept"
        time.sleep(0.1)
    return traces


async def test_tail_sampling_keeps_what_was_undone_whole_and_nothing_of_the_rest(
    tmp_path: Path, tail_sampling: TailSampling
) -> None:
    async with traced_shop(tmp_path, tail_sampling.otlp, MemoryTransport()) as gateway:
        completed = await play(gateway, "all-well")
        undone = await play(gateway, "declined-late")
    (kept,) = until(lambda: found_in_jaeger(tail_sampling.query, "orders", {"saga.id": undone.saga_id}))
    assert_compensated(kept)
    assert found_in_jaeger(tail_sampling.query, "orders", {"saga.id": completed.saga_id}) == []
