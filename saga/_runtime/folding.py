"""Fold what a batch says about one saga into its instance, and turn effects into outbox rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import assert_never

from saga._core import emit
from saga._core.bodies import Close, Report, Settled, Undo, kind_of
from saga._core.budget import History, learned
from saga._core.by_hand import aimed
from saga._core.closure import only_received
from saga._core.coordinator import Due, decide
from saga._core.effects import Effect, Send, SendClose, SendUndo, SettleChild, Tell
from saga._core.emit import COORDINATOR, About
from saga._core.envelope import Envelope
from saga._core.frozen import replace
from saga._core.ids import child_id_of
from saga._core.instance import Instance, freed, instance_of, instance_row, kept_until, new_instance
from saga._core.learning import learn, learn_unplanned, only_adds
from saga._core.plan import Topology
from saga._core.rows import InstanceRow, OutboxRow
from saga._core.story import Story
from saga._core.verbs import Verb
from saga._core.words import Cause, Kind, Priority, StepKind
from saga._runtime.bursts import context_of, ended_story, gone_on, heard_in
from saga._runtime.planbook import PlanBook
from saga._runtime.tracing import BACK
from saga.errors import VerbRefused
from saga.ports import SpanKind, Tracer

log = logging.getLogger("saga")

LOOK_AGAIN = timedelta(minutes=1)
"""How long a saga whose plan is not known waits until it is asked for again."""

Told = tuple[Envelope, Report, int]
"""A report, the envelope it came in, and the partition it was read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Hold the row to store for one saga and what is to be sent with it; `was` is the phase stored before, if any.

    `story` is what to tell of it in traces once it is stored.
    """

    row: InstanceRow
    instance: Instance
    outbox: tuple[OutboxRow, ...]
    was: str = ""
    story: Story | None = None


class Folder:
    """Apply `decide` to everything a batch holds for a saga."""

    def __init__(self, plans: PlanBook, tracer: Tracer) -> None:
        """Know the plans."""
        self._plans = plans
        self._tracer = tracer
        self.histories: dict[str, History] = {}

    def fold(
        self,
        saga_id: str,
        stored: InstanceRow | None,
        told: Sequence[Told],
        now: datetime,
        *,
        due: bool,
        known: Instance | None = None,
    ) -> Folded | None:
        """Return what to write for one saga, None when nothing follows; `known` is the instance in `stored`.

        A record for an unknown saga past its expiry is dropped: its saga was pruned long ago.
        """
        if stored is None and _is_over(saga_id, told, now):
            return None
        plan_hash = stored.plan if stored is not None else told[0][0].plan
        before = known or (instance_of(stored) if stored is not None else _new(saga_id, told, now))
        topology = self._plans.topology(plan_hash)
        inside = _first_inside(topology, before, told)
        if inside is not None and inside.plan != plan_hash:
            plan_hash, topology = inside.plan, self._plans.topology(inside.plan)
        if topology is None:
            return self._unplanned(before, stored, told, plan_hash, now)
        instance, effects = _primed(before, told, inside), list[Effect]()
        for (_, report, _), then in zip_longest(told, told[1:]):
            if then is not None and all(only_adds(topology, instance, each) for each in (report, then[1])):
                instance = learn(topology, instance, report)
                continue
            decision = decide(topology, instance, report, now)
            instance = decision.instance
            effects.extend(decision.effects)
        if due:
            decision = decide(topology, instance, Due(), now)
            instance = decision.instance
            effects.extend(decision.effects)
        if instance.attempts_alarm and not before.attempts_alarm:
            limit = topology.plan.attempts
            log.warning("saga %s has taken %d attempts, %d are allowed", saga_id, instance.attempts_alarm, limit)
        if stored is not None and instance == before and not effects:
            return None
        if effects and instance.traceparent:
            instance = gone_on(self._tracer, topology, before, instance, told, now)
        history = self.histories.get(plan_hash, History())
        self.histories[plan_hash] = learned(topology, history, before, instance, now)
        tenant = inside.tenant if inside else stored.tenant if stored else told[0][0].tenant
        partition = stored.partition if stored is not None else told[0][2]
        revision = stored.revision if stored is not None else 0
        row = self._instance(topology, instance, tenant=tenant, partition=partition, revision=revision)
        was = stored.phase if stored is not None else ""
        outbox = self._rows(topology, instance, tenant, effects, now)
        story = ended_story(topology, before, instance)
        return Folded(row=row, instance=instance, outbox=outbox, was=was, story=story)

    def act(self, stored: InstanceRow, verb: Verb, now: datetime) -> tuple[Folded, tuple[Verb, ...]]:
        """Return what to write once a person has spoken, and the verb for each run it stands for; raises VerbRefused.

        The row is the stored one, unchanged, when there is nothing to write.
        """
        topology = self._plans.topology(stored.plan)
        if topology is None:
            msg = f"saga {stored.saga_id} runs under plan {stored.plan[:12]}, which its coordinator does not know"
            raise VerbRefused(f"{msg}: add its file to the plans folder")
        before = instance_of(stored)
        verbs = aimed(topology, before, verb)
        instance, effects = before, list[Effect]()
        for each in verbs:
            decision = decide(topology, instance, each, now)
            instance = decision.instance
            effects.extend(decision.effects)
        if instance == before and not effects:
            return Folded(row=stored, instance=before, outbox=(), was=stored.phase), verbs
        if effects and instance.traceparent:
            instance = gone_on(self._tracer, topology, before, instance, (), now)
        row = self._instance(
            topology, instance, tenant=stored.tenant, partition=stored.partition, revision=stored.revision
        )
        outbox = self._rows(topology, instance, stored.tenant, effects, now)
        return Folded(row=row, instance=instance, outbox=outbox, was=stored.phase), verbs

    def _instance(
        self, topology: Topology, instance: Instance, *, tenant: str, partition: int, revision: int
    ) -> InstanceRow:
        plan = topology.plan
        return instance_row(
            instance,
            saga=plan.saga,
            version=plan.version,
            plan=plan.hash,
            tenant=tenant,
            partition=partition,
            revision=revision,
            started_at=instance.expires_at - topology.lifetime,
        )

    def _unplanned(
        self, before: Instance, stored: InstanceRow | None, told: Sequence[Told], plan_hash: str, now: datetime
    ) -> Folded | None:
        """Keep a saga whose plan nobody here knows where a person can see it, and look again from time to time."""
        log.error("saga %s runs under plan %s, which this coordinator does not know", before.saga_id, plan_hash)
        instance = learn_unplanned(before, [report for _, report, _ in told], plan_hash, now + LOOK_AGAIN)
        if stored is not None and instance == before:
            return None
        row = instance_row(
            instance,
            saga="",
            version=0,
            plan=plan_hash,
            tenant=stored.tenant if stored is not None else told[0][0].tenant,
            partition=stored.partition if stored is not None else told[0][2],
            revision=stored.revision if stored is not None else 0,
            started_at=None,
        )
        return Folded(row=row, instance=instance, outbox=(), was=stored.phase if stored is not None else "")

    def _rows(
        self, topology: Topology, instance: Instance, tenant: str, effects: Iterable[Effect], now: datetime
    ) -> tuple[OutboxRow, ...]:
        return tuple(self._row(topology, instance, tenant, effect, now) for effect in effects)

    def _row(self, topology: Topology, instance: Instance, tenant: str, effect: Effect, now: datetime) -> OutboxRow:
        attributes = {"saga.id": instance.saga_id, "saga.name": topology.plan.saga}
        with self._tracer.span(_span_name(effect), SpanKind.PRODUCER, context_of(instance), attributes) as span:
            about = About(
                saga_id=instance.saga_id,
                plan=topology.plan.hash,
                tenant=tenant,
                expires_at=kept_until(instance),
                now=now,
                traceparent=span.traceparent,
                lane=instance.lane,
            )
            match effect:
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
                case Tell(outcome=outcome):
                    span.set("saga.ending", outcome.ending.value)
                    return emit.outcome(outcome, about=about)
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


def _is_over(saga_id: str, told: Sequence[Told], now: datetime) -> bool:
    """Return whether nothing follows from what is said of a saga that is not stored."""
    if all(isinstance(report, Settled) for _, report, _ in told):
        return True
    if all(_past(envelope, now) for envelope, _, _ in told):
        log.info("a record of unknown saga %s came after its expiry and is dropped", saga_id)
        return True
    return False


def _past(envelope: Envelope, now: datetime) -> bool:
    return envelope.expires_at is not None and now >= envelope.expires_at


def _new(saga_id: str, told: Sequence[Told], now: datetime) -> Instance:
    return new_instance(saga_id, told[0][0].expires_at or now)


def _first_inside(topology: Topology | None, instance: Instance, told: Sequence[Told]) -> Envelope | None:
    """Return the first record of the saga's own, None once one is known.

    An event from outside may come before the start; then it has guessed plan, tenant and expiry of the saga.
    """
    if topology is None or (instance.runs and not only_received(topology, instance)):
        return None
    for envelope, _, _ in told:
        step = topology.steps.get(envelope.step)
        if envelope.kind is Kind.RUN and (step is None or step.kind is not StepKind.RECEIVE):
            return envelope
    return None


def _primed(instance: Instance, told: Sequence[Told], inside: Envelope | None) -> Instance:
    """Remember the context of the first record, so that commands hang below the saga's trace, and its real expiry."""
    if told and (heard := told[-1 if instance.traceparent else 0][0].traceparent):
        instance = heard_in(instance, heard)
    if instance.lane is Priority.NORMAL and any(envelope.lane is Priority.URGENT for envelope, _, _ in told):
        instance = replace(instance, lane=Priority.URGENT)
    if inside is None or inside.expires_at is None:
        return instance
    if instance.expires_at != inside.expires_at:
        instance = replace(instance, expires_at=inside.expires_at)
    # It was shown as never started; now it has its time before it.
    return replace(freed(instance), told=None) if instance.stuck is Cause.OVERDUE else instance
