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
from saga._core.emit import COORDINATOR
from saga._core.limits import DEFAULT_LIMITS
from saga._core.receive import Receive
from saga._core.start import Start
from saga._core.topics import BREAKERS, MANIFESTS, PLANS
from saga._keeping import Keeping, leave
from saga._opening import broker_of
from saga._runtime.capping import RowCapWatch
from saga._runtime.context import ServiceContext, Tuning
from saga._runtime.coordinator import CoordinatorShell
from saga._runtime.coordinator_tuning import CoordinatorTuning
from saga._runtime.drift import Announcer, DriftTuning, DriftWatch
from saga._runtime.fleet import Fleet, FleetJudge
from saga._runtime.gauging import Gauges, Reader
from saga._runtime.given import classes_of
from saga._runtime.metering import MeasuredPublisher, NullMeter
from saga._runtime.participant import Participant
from saga._runtime.planbook import PlanBook
from saga._runtime.processor import Processor
from saga._runtime.receiver import EventReceiver
from saga._runtime.sealed_store import SealedStore
from saga._runtime.sealed_transport import SealedTransport
from saga._runtime.sealing import Sealing
from saga._runtime.starter import SagaStarter
from saga._runtime.supervise import supervised
from saga.desk import SagaDesk
from saga.ports import CoordinationStore, ParticipantStore, Publisher, Store, Tracer, Transport
from saga.ports.metering import Meter
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
    meter: Meter = field(default_factory=NullMeter)
    processor: Processor = field(default_factory=Processor)

    @property
    def broker(self) -> str:
        """Return the name that OpenTelemetry has, or would have, for what carries the messages."""
        return broker_of(self.transport)


@dataclass(slots=True, kw_only=True)
class Crew:
    """Work until stopped; made anew each time its app comes up."""

    post: Post
    participants: list[Participant] = field(default_factory=list[Participant])
    contexts: dict[str, ServiceContext] = field(default_factory=dict[str, ServiceContext])
    shell: CoordinatorShell | None = None
    gauges: Gauges | None = None
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
        publisher: Publisher,
        tuning: Tuning,
    ) -> None:
        """Add a participant for each service and a relay, and let starts and received events go to them."""
        post = self.post
        publisher = MeasuredPublisher(publisher, post.meter, post.broker)
        relay = Relay(store, publisher, owner=post.owner, keyed=store)
        self.relays.append(relay)
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
                processor=post.processor,
                meter=post.meter,
                broker=post.broker,
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

    def starter_of(self, start: Start[Any]) -> SagaStarter | None:
        """Return who serves a start here, None for nobody."""
        return next((starter for bound, starter in self.bound if bound is start), None)

    def man_coordinator(self, store: CoordinationStore, publisher: Publisher, tuning: CoordinatorTuning | None) -> None:
        """Add the coordinator with a relay, and the desk from which people speak to it."""
        post = self.post
        publisher = MeasuredPublisher(publisher, post.meter, post.broker)
        relay = Relay(store, publisher, owner=post.owner)
        self.relays.append(relay)
        post.fleet.judge = FleetJudge()
        events = classes_of(context.definition for context in self.contexts.values())
        self.desk = partial(SagaDesk, store, hand_over=post.keeping.hand_over(relay), events=events)
        self.shell = CoordinatorShell(
            store=store,
            transport=post.transport,
            plans=post.book,
            hand_over=post.keeping.hand_over(relay),
            tracer=post.tracer,
            rng=post.rng,
            slot=post.slot,
            tuning=tuning,
            meter=post.meter,
            processor=post.processor,
        )

    def start(self, tasks: TaskGroup, store: Store | None, coordination: CoordinationStore | None) -> None:
        """Start everybody's tasks."""
        self._declare_groups()
        self.measure(tasks, store, coordination)
        for relay in self.relays:
            tasks.start_soon(supervised, "relay", relay.run, self.post.rng)
        subscribing = [context for context in self.contexts.values() if context.definition.subscribers]
        if isinstance(store, Inboxes) and subscribing:
            pruner = InboxPruner(store, inbox_days=subscribing[0].tuning.inbox_days)
            tasks.start_soon(supervised, "inbox", pruner.run, self.post.rng)
        if self.post.sealing is not None and self.post.sealing.ages:
            tasks.start_soon(supervised, "blobs", self.post.sealing.prune, self.post.rng)
        for participant in self.participants:
            tasks.start_soon(participant.run)
        if self.shell is not None:
            tasks.start_soon(self.shell.run)

    def confer(
        self, tasks: TaskGroup, publisher: Publisher, announcer: Announcer, drift: DriftTuning | None
    ) -> DriftWatch | None:
        """Start what the processes of a fleet tell each other beside their sagas; return the coordinator's watch."""
        post, rng, watch = self.post, self.post.rng, None
        tasks.start_soon(supervised, f"announce on {MANIFESTS}", announcer.run, rng)
        if self.shell is not None:
            shell = self.shell
            tasks.start_soon(supervised, f"tell paces on {PLANS}", lambda: shell.tell_paces(publisher), rng)
            watch = DriftWatch(post.transport, post.book.plans, drift)
            tasks.start_soon(supervised, f"watch {MANIFESTS}", watch.run, rng)
        if post.fleet.is_needed:
            tasks.start_soon(supervised, f"follow {BREAKERS}", lambda: post.fleet.follow(post.transport), rng)
            tasks.start_soon(supervised, f"speak on {BREAKERS}", lambda: post.fleet.speak(publisher), rng)
        return watch

    def measure(self, tasks: TaskGroup, *stores: Store | CoordinationStore | None) -> None:
        """Start the task that reads the gauges, where metrics may be kept."""
        if isinstance(self.post.meter, NullMeter):
            return
        readers: dict[str, Reader] = {each.group.name: each for each in self.participants}
        if self.shell is not None:
            readers[COORDINATOR] = self.shell
        contexts, plans = tuple(self.contexts.values()), self.post.book.plans
        gauges = self.gauges = Gauges(self.post.meter, contexts=contexts, readers=readers, stores=stores, plans=plans)
        tasks.start_soon(supervised, "metrics", gauges.run, self.post.rng)

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
