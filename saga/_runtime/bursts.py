"""Choose the trace in which the coordinator goes on with a saga: one for each burst of work, and one way back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from saga._core.bodies import RunReported
from saga._core.frozen import replace
from saga._core.instance import ENDED, Instance, Phase
from saga._core.plan import Topology
from saga._core.story import LONG_WAIT, Story, followed, is_sampled, last_heard, story_of
from saga._core.words import RunStatus
from saga._runtime.tracing import BACK
from saga.ports import Below, SpanKind, Tracer

if TYPE_CHECKING:
    from saga._runtime.folding import Told

_WATCHING = frozenset({Phase.RUNNING, Phase.READY})
_UNDOING = frozenset({Phase.ASKING, Phase.CLOSING, Phase.COMPENSATED})
_AT_FAULT = frozenset({RunStatus.REFUSED, RunStatus.FAILED})


def context_of(instance: Instance) -> str:
    """Return the context below which the coordinator speaks of a saga."""
    return instance.burst or instance.traceparent


def heard_in(instance: Instance, heard: str) -> Instance:
    """Return an instance that goes on in the trace of what was heard of it last; of the first context it keeps note."""
    if not instance.traceparent:
        return replace(instance, traceparent=heard)
    return replace(instance, burst=heard) if followed(context_of(instance), heard) else instance


def gone_on(
    tracer: Tracer, topology: Topology, before: Instance, instance: Instance, told: Sequence[Told], now: datetime
) -> Instance:
    """Return an instance about which something is going to be sent, with the context that this hangs below.

    The way back has a span of its own, below what is to blame for it. After a long wait it is a new trace.
    """
    begins = instance.phase in _UNDOING and before.phase in _WATCHING
    context = (_blamed(told) if begins else "") or context_of(instance)
    since = told[-1][0].time if told else last_heard(before)
    below = Below.LINK if now - since > LONG_WAIT else Below.PARENT
    if begins and not is_sampled(context):
        below = Below.FAILED
    if below is Below.PARENT and not begins:
        return instance
    name = f"{'undo' if instance.phase in _UNDOING else 'continue'} {topology.plan.saga}"
    attributes: dict[str, str | int] = {"saga.id": instance.saga_id, "saga.name": topology.plan.saga}
    if instance.phase in _UNDOING:
        attributes["saga.direction"] = BACK
        attributes["saga.cause"] = instance.cause.value if instance.cause is not None else ""
    with tracer.span(name, SpanKind.INTERNAL, context, attributes, below) as span:
        return replace(instance, burst=span.traceparent)


def ended_story(topology: Topology, before: Instance, instance: Instance) -> Story | None:
    """Return what is told of a saga that has just ended, None for any other and where nobody traces."""
    if not instance.traceparent or instance.phase not in ENDED or before.phase in ENDED:
        return None
    return story_of(topology, instance)


def _blamed(told: Sequence[Told]) -> str:
    """Return the context of the record for which a saga is undone, of the last one where it is none of these."""
    for envelope, report, _ in told:
        if isinstance(report, RunReported) and report.fact.status in _AT_FAULT:
            return envelope.traceparent
    return told[-1][0].traceparent if told else ""
