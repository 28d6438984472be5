"""Say what a trace of the payment example has to look like, whoever has received it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.telemetry.tracereader import Trace

START = "orders: create order.placed.v1"
STOCK = (START, "inventory: process orders.events", "inventory: create stock.reserved.v1")
AUTHORIZED = (
    *STOCK,
    "payment: process inventory.events",
    "payment: call payment.authorize",
    "payment: create payment.authorized.v1",
)
CAPTURING = (*AUTHORIZED, "payment: process payment.events", "payment: call payment.capture")
CAPTURED = (*CAPTURING, "payment: create payment.captured.v1")
OUTCOME = ("coordinator: create saga.outcome", "orders: process saga.outcomes")
FORWARD_EDGES = {("orders", "inventory"), ("inventory", "payment")}


def assert_one(trace: Trace) -> None:
    """Hold it to be one tree from the start of the saga, with the saga's ID everywhere and one span for the whole."""
    assert [f"{span.service}: {span.name}" for span in trace.roots] == [START]
    assert trace.orphans == []
    assert len({span.attributes["saga.id"] for span in trace.spans}) == 1
    (whole,) = trace.named("saga checkout")
    assert trace.way(whole) == (START, "coordinator: saga checkout")


def totals(trace: Trace) -> Mapping[str, Any]:
    (whole,) = trace.named("saga checkout")
    return {name: str(whole.attributes[f"saga.{name}"]) for name in ("ending", "steps", "retries", "undone")}


def assert_completed(trace: Trace) -> None:
    assert_one(trace)
    assert {
        (*CAPTURED, "shipping: process payment.events", "shipping: create order.shipped.v1"),
        (*CAPTURED, "inventory: process payment.events"),
        (START, *OUTCOME),
    } <= trace.ways
    assert trace.errors == []
    assert trace.named("undo ") + trace.named("compensate ") == []
    assert totals(trace) == {"ending": "completed", "steps": "6", "retries": "0", "undone": "0"}
    assert trace.edges >= {*FORWARD_EDGES, ("payment", "shipping"), ("coordinator", "orders")}
    (made,) = trace.named("create stock.reserved.v1")
    (sent,) = trace.named("send inventory.events")
    (handled,) = trace.named("process inventory.events")
    assert made.attributes["messaging.destination.name"] == "inventory.events"
    ids = {span.attributes["messaging.message.id"] for span in (made, sent, handled)}
    assert ids == {f"{made.attributes['saga.id']}/inventory.reserve_stock"}


def assert_compensated(trace: Trace) -> None:
    """Hold it to go back below what has refused; nothing of it is an error."""
    assert_one(trace)
    back = (*CAPTURING, "payment: create payment.declined.v1", "coordinator: undo checkout")
    undo = (*back, "coordinator: create saga.undo")
    assert {
        (*back, "coordinator: create saga.close", "shipping: process shipping.commands"),
        (*undo, "payment: process payment.commands", "payment: compensate payment.authorize"),
        (*undo, "inventory: process inventory.commands", "inventory: compensate inventory.reserve_stock"),
        (*back, *OUTCOME),
    } <= trace.ways
    assert {span.attributes["saga.direction"] for span in trace.named("compensate ")} == {"back"}
    assert [span.attributes["saga.refusal"] for span in trace.named("call payment.capture")] == ["payment.declined.v1"]
    assert trace.errors == []
    assert totals(trace) == {"ending": "compensated", "steps": "3", "retries": "0", "undone": "3"}
    assert trace.edges >= {*FORWARD_EDGES, ("payment", "coordinator"), ("coordinator", "inventory")}


def assert_failed(trace: Trace) -> None:
    """Hold only the last attempt of the step that failed to be an error."""
    assert_one(trace)
    assert {(span.service, span.name) for span in trace.errors} == {("payment", "call payment.authorize")}
    calls = sorted(trace.named("call payment.authorize"), key=lambda span: span.began_us)
    acting = [span for span in calls if span.attributes["saga.purpose"] == "act"]
    assert [(span.is_error, list(span.events)) for span in acting] == [
        (False, ["tried again"]),
        (False, ["tried again"]),
        (True, []),
    ]
    assert totals(trace)["ending"] == "compensated"
