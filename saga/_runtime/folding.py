"""Fold what a batch says about one saga into its instance, and turn effects into outbox rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest

from saga._core.adding import added
from saga._core.bodies import Report, RunFact, RunReported, Settled
from saga._core.budget import History, learned
from saga._core.by_hand import aimed
from saga._core.closure import only_received
from saga._core.coordinator import Due, decide
from saga._core.effects import Effect
from saga._core.envelope import Envelope
from saga._core.frozen import builder, changer, replace
from saga._core.instance import Instance, freed, new_instance
from saga._core.learning import learn, learn_unplanned, only_adds
from saga._core.plan import Topology
from saga._core.rows import InstanceRow, OutboxRow
from saga._core.stored_instance import instance_of, instance_row, state_of
from saga._core.story import Story, followed
from saga._core.verbs import Verb
from saga._core.words import Cause, Kind, Priority, StepKind
from saga._runtime.bursts import context_of, ended_story, gone_on, heard_in
from saga._runtime.planbook import PlanBook
from saga._runtime.sending import sent
from saga.errors import VerbRefused
from saga.ports import Tracer

log = logging.getLogger("saga")

LOOK_AGAIN = timedelta(minutes=1)
"""How long a saga whose plan is not known waits until it is asked for again."""

_NO_HISTORY = History()
_stated = changer(InstanceRow, "state")

Told = tuple[Envelope, Report, int]
"""A report, the envelope it came in, and the partition it was read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Hold the row to store for one saga and what is to be sent with it; `was` is the phase stored before, if any.

    The `state` of the row `bare` may be left empty: many a one is never stored. `story` is what to tell of the saga in
    traces once it is stored.
    """

    bare: InstanceRow
    instance: Instance
    outbox: tuple[OutboxRow, ...]
    was: str = ""
    story: Story | None = None

    @property
    def row(self) -> InstanceRow:
        """Return the row as it is stored; each time its state is written anew."""
        return self.bare if self.bare.state else _stated(self.bare, state=state_of(self.instance))


_folded = builder(Folded)


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
        instance, effects = _decided(topology, _primed(before, told, inside), told, now, due=due)
        if instance.attempts_alarm and not before.attempts_alarm:
            limit = topology.plan.attempts
            log.warning("saga %s has taken %d attempts, %d are allowed", saga_id, instance.attempts_alarm, limit)
        if stored is not None and instance == before and not effects:
            return None
        if effects and instance.traceparent:
            instance = gone_on(self._tracer, topology, before, instance, told, now)
        history = self.histories.get(plan_hash, _NO_HISTORY)
        self.histories[plan_hash] = learned(topology, history, before, instance, now)
        tenant = inside.tenant if inside else stored.tenant if stored else told[0][0].tenant
        partition = stored.partition if stored is not None else told[0][2]
        revision = stored.revision if stored is not None else 0
        row = _instance(topology, instance, tenant=tenant, partition=partition, revision=revision)
        was = stored.phase if stored is not None else ""
        outbox = sent(self._tracer, topology, instance, tenant, effects, now)
        story = ended_story(topology, before, instance)
        return _folded(bare=row, instance=instance, outbox=outbox, was=was, story=story)

    def add(self, saga_id: str, known: Folded | None, told: Sequence[Told], now: datetime) -> Folded | None:
        """Return what to write for a saga of which runs are reported and at most its end follows.

        It is what `fold` comes to, which has to look where None is returned. `known` is what is known of the saga; one
        of which nothing is begins.
        """
        first = told[0][0]
        plan_hash = known.bare.plan if known is not None else first.plan
        topology = self._plans.topology(plan_hash)
        before = known.instance if known is not None else _begun(topology, saga_id, first, now)
        if topology is None or before is None or (known is not None and not before.runs):
            return None
        if _is_heard_elsewhere(before, told):
            return None
        facts: list[RunFact] = []
        for envelope, report, _ in told:
            if type(report) is not RunReported or envelope.plan != plan_hash or envelope.lane is not before.lane:
                return None
            facts.append(report.fact)
        decision = added(topology, before, facts, now)
        if decision is None:
            return None
        instance, effects = decision.instance, decision.effects
        if effects and instance.traceparent:
            instance = gone_on(self._tracer, topology, before, instance, told, now)
        history = self.histories.get(plan_hash, _NO_HISTORY)
        self.histories[plan_hash] = learned(topology, history, before, instance, now)
        if known is not None and not effects:
            return _folded(bare=known.bare, instance=instance, outbox=(), was=known.was)
        tenant, partition, revision, was = first.tenant, told[0][2], 0, ""
        if known is not None:
            row, was = known.bare, known.was
            tenant, partition, revision = row.tenant, row.partition, row.revision
        row = _instance(topology, instance, tenant=tenant, partition=partition, revision=revision)
        outbox = sent(self._tracer, topology, instance, tenant, effects, now)
        story = ended_story(topology, before, instance)
        return _folded(bare=row, instance=instance, outbox=outbox, was=was, story=story)

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
            return Folded(bare=stored, instance=before, outbox=(), was=stored.phase), verbs
        if effects and instance.traceparent:
            instance = gone_on(self._tracer, topology, before, instance, (), now)
        row = _instance(topology, instance, tenant=stored.tenant, partition=stored.partition, revision=stored.revision)
        outbox = sent(self._tracer, topology, instance, stored.tenant, effects, now)
        return Folded(bare=row, instance=instance, outbox=outbox, was=stored.phase), verbs

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
            state=b"",
        )
        return Folded(bare=row, instance=instance, outbox=(), was=stored.phase if stored is not None else "")


def _decided(
    topology: Topology, instance: Instance, told: Sequence[Told], now: datetime, *, due: bool
) -> tuple[Instance, list[Effect]]:
    """Return the saga once it has heard everything, one after another, and what follows."""
    effects: list[Effect] = []
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
    return instance, effects


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


def _instance(topology: Topology, instance: Instance, *, tenant: str, partition: int, revision: int) -> InstanceRow:
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
        state=b"",
    )


def _begun(topology: Topology | None, saga_id: str, first: Envelope, now: datetime) -> Instance | None:
    """Return a saga that begins with the record of its start, None where that is not what comes first."""
    if topology is None or first.kind is not Kind.RUN or first.step != topology.plan.start or _past(first, now):
        return None
    fresh = new_instance(saga_id, first.expires_at or now)
    return replace(fresh, traceparent=first.traceparent, lane=first.lane)


def _is_heard_elsewhere(instance: Instance, told: Sequence[Told]) -> bool:
    """Return whether a saga goes on in another trace than before."""
    heard = told[-1][0].traceparent or told[0][0].traceparent
    return heard != "" and (not instance.traceparent or followed(context_of(instance), heard))


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
