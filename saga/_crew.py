"""Hold what works in a running app: participants, a coordinator, relays, and the objects users call them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import anyio
from anyio.abc import TaskGroup

from outbox.inboxes import Inboxes, InboxPruner
from outbox.relay import Relay
from saga._core.declare import Service
from saga._core.definition import ServiceDefinition
from saga._core.limits import DEFAULT_LIMITS
from saga._core.receive import Receive
from saga._core.start import Start
from saga._keeping import Keeping, leave
from saga._runtime.capping import RowCapWatch
from saga._runtime.context import ServiceContext, Tuning
from saga._runtime.coordinator import CoordinatorShell, CoordinatorTuning
from saga._runtime.fleet import Fleet, FleetJudge
from saga._runtime.participant import Participant
from saga._runtime.planbook import PlanBook
from saga._runtime.receiver import EventReceiver
from saga._runtime.sealed_store import SealedStore
from saga._runtime.sealed_transport import SealedTransport
from saga._runtime.sealing import Sealing
from saga._runtime.starter import SagaStarter
from saga._runtime.supervise import supervised
from saga.desk import SagaDesk
from saga.ports import CoordinationStore, ParticipantStore, Store, Tracer, Transport
from transports.memory import MemoryTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Say where a crew works: what all of its members share."""

    transport: Transport
    book: PlanBook
    tracer: Tracer
    rng: Random
    owner: str
    slot: str
    fleet: Fleet
    keeping: Keeping = field(default_factory=Keeping)
    caps: RowCapWatch = field(default_factory=RowCapWatch)
    sealing: Sealing | None = None


@dataclass(slots=True, kw_only=True)
class Crew:
    """Work until stopped; made anew each time its app comes up."""

    post: Post
    participants: list[Participant] = field(default_factory=list[Participant])
    contexts: dict[str, ServiceContext] = field(default_factory=dict[str, ServiceContext])
    shell: CoordinatorShell | None = None
    desk: partial[SagaDesk] | None = None
    relays: list[Relay] = field(default_factory=list[Relay])
    bound: list[tuple[Start[Any], SagaStarter]] = field(default_factory=list[tuple[Start[Any], SagaStarter]])
    receiving: list[tuple[Receive[Any], EventReceiver]] = field(
        default_factory=list[tuple[Receive[Any], EventReceiver]]
    )

    def man_services(
        self,
        services: Sequence[Service],
        definitions: Sequence[ServiceDefinition],
        store: Store,
        relay: Relay,
        tuning: Tuning,
    ) -> None:
        """Add a participant for each service, and let its starts and received events go to it."""
        post = self.post
        declared: Mapping[str, Service] = {service.name: service for service in services}
        refusals = {cls.wire_type: cls for d in definitions for step in d.steps for cls in step.refuses}
        hand_over, expect = post.keeping.hand_over(relay), post.keeping.expect(relay)
        transport, limits = post.transport, DEFAULT_LIMITS
        kept: ParticipantStore = store
        if post.sealing is not None:
            kept = SealedStore(store, post.sealing, hand_over=hand_over, expect=expect)
            transport, limits = SealedTransport(transport, post.sealing), post.sealing.limits
            hand_over = expect = leave  # the store does it, with rows as they are stored
        for definition in definitions:
            context = ServiceContext(
                definition=definition,
                store=kept,
                hand_over=hand_over,
                expect=expect,
                limits=limits,
                plans=post.book,
                tracer=post.tracer,
                rng=post.rng,
                owner=post.owner,
                tuning=tuning,
                refusals=refusals,
                fleet=post.fleet,
                caps=post.caps,
            )
            self.contexts[definition.name] = context
            self.participants.append(Participant(context, transport, post.slot))
            self._bind(declared[definition.name], context)

    def _bind(self, service: Service, context: ServiceContext) -> None:
        starter, receiver = SagaStarter(context), EventReceiver(context)
        for start in service.declared.starts:
            start.bind(starter)
            self.post.fleet.listen_for(start)
            self.bound.append((start, starter))
        for receive in service.declared.receives:
            receive.bind(receiver)
            self.receiving.append((receive, receiver))

    def man_coordinator(self, store: CoordinationStore, relay: Relay, tuning: CoordinatorTuning | None) -> None:
        """Add the coordinator, and the desk from which people speak to it."""
        post = self.post
        post.fleet.judge = FleetJudge()
        self.desk = partial(SagaDesk, store, hand_over=post.keeping.hand_over(relay))
        self.shell = CoordinatorShell(
            store=store,
            transport=post.transport,
            plans=post.book,
            hand_over=post.keeping.hand_over(relay),
            tracer=post.tracer,
            rng=post.rng,
            slot=post.slot,
            tuning=tuning,
        )

    def start(self, tasks: TaskGroup, store: Store | None) -> None:
        """Start everybody's tasks."""
        self._declare_groups()
        for relay in self.relays:
            tasks.start_soon(supervised, "relay", relay.run, self.post.rng)
        subscribing = [context for context in self.contexts.values() if context.definition.subscribers]
        if isinstance(store, Inboxes) and subscribing:
            pruner = InboxPruner(store, inbox_days=subscribing[0].tuning.inbox_days)
            tasks.start_soon(supervised, "inbox", pruner.run, self.post.rng)
        for participant in self.participants:
            tasks.start_soon(participant.run)
        if self.shell is not None:
            tasks.start_soon(self.shell.run)

    def _declare_groups(self) -> None:
        # The memory transport acknowledges only what every group has committed; it must know them beforehand.
        if isinstance(self.post.transport, MemoryTransport):
            for participant in self.participants:
                self.post.transport.declare(participant.group)
            if self.shell is not None:
                self.post.transport.declare(self.shell.group)

    async def stop(self, drain_seconds: float) -> None:
        """Take nothing more on, and finish what is in hand within the budget."""
        for start, starter in self.bound:
            start.unbind(starter)
        for receive, receiver in self.receiving:
            receive.unbind(receiver)
        for participant in self.participants:
            participant.stop()
        if self.shell is not None:
            self.shell.stop()
        with anyio.move_on_after(drain_seconds, shield=True):
            for participant in self.participants:
                await participant.stopped.wait()
            if self.shell is not None:
                await self.shell.stopped.wait()
            for relay in self.relays:
                await relay.drain(drain_seconds / 2)
        self.bound.clear()
        self.receiving.clear()
        self.desk = None
