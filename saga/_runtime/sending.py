"""Turn what the coordinator has decided to send into outbox rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from saga._core import emit
from saga._core.bodies import Close, Settled, Undo, kind_of
from saga._core.effects import Effect, Send, SendClose, SendUndo, SettleChild, Tell
from saga._core.emit import COORDINATOR, About
from saga._core.frozen import builder, replace
from saga._core.ids import child_id_of
from saga._core.instance import Instance, kept_until
from saga._core.plan import Topology
from saga._core.rows import OutboxRow
from saga._runtime.bursts import context_of
from saga._runtime.tracing import BACK
from saga.ports import SpanKind, Tracer

_about = builder(About)


def sent(
    tracer: Tracer, topology: Topology, instance: Instance, tenant: str, effects: Iterable[Effect], now: datetime
) -> tuple[OutboxRow, ...]:
    """Return the rows of what is sent about a saga, each created in a span of its own."""
    return tuple([_row(tracer, topology, instance, tenant, effect, now) for effect in effects])


def _row(
    tracer: Tracer, topology: Topology, instance: Instance, tenant: str, effect: Effect, now: datetime
) -> OutboxRow:
    attributes = {"saga.id": instance.saga_id, "saga.name": topology.plan.saga}
    with tracer.span(_span_name(effect), SpanKind.PRODUCER, context_of(instance), attributes) as span:
        about = _about(
            saga_id=instance.saga_id,
            plan=topology.plan.hash,
            tenant=tenant,
            expires_at=kept_until(instance),
            now=now,
            traceparent=span.traceparent,
            lane=instance.lane,
        )
        match effect:
            case Tell(outcome=outcome):
                span.set("saga.ending", outcome.ending.value)
                return emit.outcome(outcome, about=about)
            case SendClose(service=service):
                return emit.command(Close(), service=service, about=about)
            case SendUndo(key=key):
                span.set("saga.step", key.step)
                span.set("saga.direction", BACK)
                return emit.command(Undo(step=key.step, branch=key.branch), service=key.service, about=about)
            case Send(service=service, command=command):
                return emit.command(command, service=service, about=about)
            case SettleChild(key=key):
                child = child_id_of(topology.steps[key.step].child, tenant, instance.saga_id, key)
                return emit.report(Settled(), service=COORDINATOR, about=replace(about, saga_id=child))
            case _:
                assert_never(effect)


def _span_name(effect: Effect) -> str:
    match effect:
        case SendClose():
            return "create saga.close"
        case SendUndo():
            return "create saga.undo"
        case Send(command=command):
            return f"create saga.{kind_of(command)}"
        case SettleChild():
            return "create saga.settled"
        case Tell():
            return "create saga.outcome"
        case _:
            assert_never(effect)
