"""The payment example, its four services and the coordinator each with a name of its own, as a collector gets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler

from saga.telemetry.sampling import SagaSampler
from tests.telemetry.picture import svg_of
from tests.telemetry.receiver import receiving
from tests.telemetry.shape import assert_compensated, assert_completed, assert_failed
from tests.telemetry.shop import COORDINATOR, Played, play, traced_shop
from tests.telemetry.tracereader import Trace, received
from transports.memory import MemoryTransport

pytestmark = pytest.mark.anyio


async def traced(folder: Path, name: str, sampler: Callable[[], Sampler] | None = None) -> tuple[Played, list[Trace]]:
    options = {"sampler": sampler} if sampler is not None else {}
    with receiving() as receiver:
        async with traced_shop(folder, receiver.endpoint, MemoryTransport(), **options) as gateway:
            played = await play(gateway, name)
        assert {span.attributes.get("saga.id") for span in receiver.spans} == {played.saga_id}
    return played, received(receiver.spans, played.saga_id)


async def test_a_completed_saga(tmp_path: Path) -> None:
    _, (trace,) = await traced(tmp_path, "all-well")
    assert_completed(trace)


async def test_a_compensated_saga(tmp_path: Path) -> None:
    _, (trace,) = await traced(tmp_path, "declined-late")
    assert_compensated(trace)
    drawn = ET.fromstring(svg_of(trace))
    words = {" ".join("".join(text.itertext()).split()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"coordinator undo checkout", "payment compensate payment.authorize"} <= words


async def test_a_saga_with_a_step_that_failed(tmp_path: Path) -> None:
    _, (trace,) = await traced(tmp_path, "gateway-down")
    assert_failed(trace)


async def test_attempts_of_a_call_are_events(tmp_path: Path) -> None:
    _, (trace,) = await traced(tmp_path, "gateway-flaky")
    assert trace.errors == []
    retried = [span for span in trace.named("call payment.") if "tried again" in span.events]
    assert len(retried) >= 2


async def test_a_saga_that_completes_is_recorded_nowhere_if_its_start_is_not(tmp_path: Path) -> None:
    with receiving() as receiver:
        sampler = lambda: SagaSampler(ParentBased(ALWAYS_OFF))  # noqa: E731
        async with traced_shop(tmp_path, receiver.endpoint, MemoryTransport(), sampler) as gateway:
            await play(gateway, "all-well")
    assert receiver.spans == []


async def test_the_way_back_is_recorded_even_where_the_way_forward_was_not(tmp_path: Path) -> None:
    _, (trace,) = await traced(tmp_path, "declined-late", lambda: SagaSampler(ParentBased(ALWAYS_OFF)))
    (root,) = trace.roots
    assert (root.service, root.name, trace.orphans) == (COORDINATOR, "undo checkout", [])
    assert {span.name for span in trace.named("compensate ")} == {
        "compensate inventory.reserve_stock",
        "compensate payment.authorize",
    }
    (whole,) = trace.named("saga checkout")
    told = [span for span in trace.named("run ") if span.parent_id == whole.span_id]
    assert {(span.name, span.attributes["saga.status"]) for span in told} == {
        ("run orders.start", "done"),
        ("run orders.write_order", "done"),
        ("run inventory.reserve_stock", "done"),
        ("run payment.authorize", "done"),
        ("run payment.capture", "refused"),
    }


async def test_no_more_failed_sagas_are_recorded_than_allowed(tmp_path: Path) -> None:
    with receiving() as receiver:
        sampler = lambda: SagaSampler(ParentBased(ALWAYS_OFF), failed_per_second=0)  # noqa: E731
        async with traced_shop(tmp_path, receiver.endpoint, MemoryTransport(), sampler) as gateway:
            await play(gateway, "declined-late")
    assert receiver.spans == []
