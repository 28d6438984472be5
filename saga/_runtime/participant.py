"""Be one service at work: read its topics, run batches, obey commands, look after what waits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import anyio

from saga._core.batching import pause_after, split, worth_a_transaction
from saga._core.envelope import Delivery
from saga._core.rows import DeliveryRow
from saga._core.topics import OUTCOMES, commands_topic, events_topic, in_lane, is_urgent
from saga._core.words import Priority, Takes
from saga._runtime.batch import BatchItem, BatchRunner
from saga._runtime.clock import loop_clock
from saga._runtime.commands import CommandRunner
from saga._runtime.context import ServiceContext
from saga._runtime.items import CommandItem, Item
from saga._runtime.pending import PendingWork
from saga._runtime.presence import Presence
from saga._runtime.sorting import buried, items_of
from saga._runtime.supervise import supervised
from saga._runtime.telling import tell_read
from saga._runtime.trouble import said_of, unquoted
from saga.errors import Revoked, TransportUnavailable
from saga.ports import GroupSpec, Subscription, TopicPartition, Transport

log = logging.getLogger("saga")

WAITING_PAGE = 16


class Participant:
    """Run one service of this process until cancelled.

    Deliveries are handled in batches, one after another; each is finished, or a row, before its
    offset moves. Offsets are committed in the background of the work, at most every 100 ms.
    """

    def __init__(self, context: ServiceContext, transport: Transport, slot: str) -> None:
        """Serve `context`; `slot` makes the group membership static."""
        self._context = context
        self._transport = transport
        self._slot = slot
        self.pending = PendingWork(context)
        self._batches = BatchRunner(context, self.pending)
        self._commands = CommandRunner(context)
        self._busy = anyio.Lock(fast_acquire=True)
        self._finished: dict[TopicPartition, int] = {}
        self._revoked: frozenset[TopicPartition] = frozenset()
        self._committed_at = 0.0
        self._stopping = anyio.Event()
        self.stopped = anyio.Event()
        self.presence = Presence()

    @property
    def group(self) -> GroupSpec:
        """Return the consumer group of this service: the events it reacts to, its commands, the outcomes."""
        topics = topics_of(self._context)
        first = frozenset(topic for topic in topics if is_urgent(topic))
        return GroupSpec(name=self._context.service, slot=self._slot, topics=topics, first=first)

    async def run(self) -> None:
        """Work until cancelled; every loop is restarted after errors that retrying can mend."""
        rng = self._context.rng
        name = self._context.service
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(supervised, f"{name}: outside calls", self.pending.run, rng)
                tasks.start_soon(supervised, f"{name}: waiting deliveries", self._waiting, rng)
                await supervised(f"{name}: intake", self._intake, rng)
                await self.pending.drain(self._context.tuning.drain_seconds)
                tasks.cancel_scope.cancel()
        finally:
            self.stopped.set()

    async def offsets(self) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """Return where each partition it reads ends, and where it is; both empty while it reads none."""
        if not self.presence.is_there:
            return {}, {}
        return await self._subscription.end_offsets(), self._subscription.positions()

    def stop(self) -> None:
        """Ask the participant to finish what it has in hand and return from `run`; does not block."""
        self._stopping.set()
        self._context.waiting_alarm.ring()

    # --- the log -------------------------------------------------------------------------------------------

    async def _intake(self) -> None:
        while not self._stopping.is_set():
            await self._read(self.group)

    async def _read(self, group: GroupSpec) -> None:
        """Read the group's topics until stopped, or until a new plan takes an event from elsewhere."""
        known = len(self._context.plans.plans())
        self._finished.clear()
        async with (
            self._transport.subscribe(group, on_assigned=self._assigned, on_revoked=self._give_back) as subscription,
            self.presence,
        ):
            self._subscription = subscription
            while not self._stopping.is_set():
                limit = max(self._batches.batch_size.size, 1) * self._context.store.transactions_at_once
                timeout = self._context.tuning.fetch_timeout_seconds
                if self._finished:
                    timeout = min(timeout, self._context.tuning.commit_every_seconds)
                deliveries = await subscription.fetch(limit, timeout)
                if deliveries:
                    await self._take(subscription, deliveries, limit)
                else:
                    await self._commit(subscription)
                if len(self._context.plans.plans()) != known:
                    known = len(self._context.plans.plans())
                    if self.group != group:
                        break
            await self._commit(subscription, at_once=True)

    async def _take(self, subscription: Subscription, deliveries: Sequence[Delivery], limit: int) -> None:
        async with self._context.processor.turn() as waited:
            if waited and len(deliveries) < limit:
                deliveries = [*deliveries, *await subscription.fetch(limit - len(deliveries), 0.0)]
            now = loop_clock()
            began = now()
            async with self._busy:
                mine = [d for d in deliveries if _place(d) not in self._revoked] if self._revoked else deliveries
                tell_read(self._context, mine)
                await self.handle([(delivery, None) for delivery in mine])
                reached = {(delivery.topic, delivery.partition): delivery.offset + 1 for delivery in mine}
                for (topic, partition), offset in reached.items():
                    self._finished[TopicPartition(topic=topic, partition=partition)] = offset
        await self._commit(subscription)
        if len(deliveries) < limit:
            await anyio.sleep(pause_after(now() - began))

    async def _assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._revoked -= partitions
        return {}

    async def _give_back(self, partitions: frozenset[TopicPartition]) -> None:
        """Finish the batch in hand within the budget, commit what is finished, and forget the partitions."""
        self._revoked |= partitions
        with anyio.move_on_after(self._context.tuning.drain_seconds):
            async with self._busy:
                finished = {place: at for place, at in self._finished.items() if place in partitions}
                if finished:
                    try:
                        await self._subscription.commit(finished)
                    except (Revoked, TransportUnavailable) as error:
                        log.info("%s: offsets not committed on revoke: %s", self._context.service, error)
        for place in partitions:
            self._finished.pop(place, None)

    async def _commit(self, subscription: Subscription, *, at_once: bool = False) -> None:
        if not self._finished:
            return
        now = anyio.current_time()
        if not at_once and now - self._committed_at < self._context.tuning.commit_every_seconds:
            return
        finished, self._finished = self._finished, {}
        self._committed_at = now
        try:
            await subscription.commit(finished)
        except Revoked as error:
            log.info("%s: offsets not committed: %s", self._context.service, error)
        except TransportUnavailable as error:
            log.warning("%s: offsets not committed, the next commit covers them: %s", self._context.service, error)
            self._finished = {**finished, **self._finished}

    # --- rows that wait --------------------------------------------------------------------------------------

    async def _waiting(self) -> None:
        context = self._context
        while not self._stopping.is_set():
            limit = min(context.tuning.batch_cap, max(WAITING_PAGE, self._batches.batch_size.size))
            rows = await context.store.take_deliveries(context.service, limit, context.tuning.waiting_lease_seconds)
            if rows:
                await self.handle([(row.raw, row) for row in rows])
            if len(rows) == limit:
                continue
            # Jitter: of two replicas whose code differs none is for ever the first to find what the other parked.
            await context.waiting_alarm.wait(context.tuning.waiting_poll_seconds * (0.5 + context.rng.random() / 2))

    # --- handling ----------------------------------------------------------------------------------------------

    async def handle(self, deliveries: Sequence[tuple[Delivery, DeliveryRow | None]]) -> None:
        """Finish deliveries, those of urgent sagas first: events and outcomes in batches, then commands one by one."""
        urgent = {topic for topic in {delivery.topic for delivery, _ in deliveries} if is_urgent(topic)}
        if urgent:
            await self._handle([each for each in deliveries if each[0].topic in urgent])
            deliveries = [each for each in deliveries if each[0].topic not in urgent]
        if deliveries:
            await self._handle(deliveries)

    async def _handle(self, deliveries: Sequence[tuple[Delivery, DeliveryRow | None]]) -> None:
        name = self._context.service
        context = self._context
        items: list[Item] = []
        for delivery, row in deliveries:
            items += items_of(context, delivery, row)
        commands = [item for item in items if isinstance(item, CommandItem)]
        await self._settle([item for item in items if not isinstance(item, CommandItem)])
        for command in commands:
            try:
                await self._commands.obey(command)
            except Exception as error:  # never a fault of the partition: it goes on
                letter = "%s: a command for saga %s becomes a dead letter: %s"
                told, shows = said_of(error), unquoted(error)
                log.error(letter, name, command.envelope.saga_id, told, exc_info=shows)  # noqa: TRY400 - no rows
                await self._batches.settle([buried(self._context, command, error)])

    async def _settle(self, batch: Sequence[BatchItem]) -> None:
        """Bring a batch to an end, in transactions side by side when there is enough for several."""
        keys = [item.delivery.key for item in batch]
        runner = self._batches
        worth = worth_a_transaction(runner.item_seconds, runner.busy_share)
        groups = split(keys, max(runner.batch_size.size, 1), self._context.store.transactions_at_once, worth)
        if len(groups) == 1:
            await self._batches.settle(batch)
            return
        async with anyio.create_task_group() as tasks:
            for group in groups:
                tasks.start_soon(self._batches.settle, [batch[place] for place in group])


def _place(delivery: Delivery) -> TopicPartition:
    return TopicPartition(topic=delivery.topic, partition=delivery.partition)


def topics_of(context: ServiceContext) -> tuple[str, ...]:
    """Return the topics a service reads: of every service whose events it reacts to, its commands, the outcomes."""
    found = {commands_topic(context.service)}
    if context.definition.starts or context.definition.locks:
        found.add(OUTCOMES)
    mine = {(s.saga, s.version, s.name) for s in context.definition.steps}
    for plan in context.plans.plans():
        topology = context.plans.topology(plan.hash)
        assert topology is not None
        # By the plan and not by the code: an open saga may still carry an older version of what a step takes.
        taken = (step.inputs for step in plan.steps if (plan.saga, plan.version, step.name) in mine)
        for each in {each for inputs in taken for each in inputs}:
            found |= {events_topic(source) for source in topology.sources[each.event]}
            if each.takes is Takes.EVERY:  # an empty fan-out is told to whoever gathers it
                found |= {events_topic(source) for source in topology.sources[topology.scopes[each.event]]}
    lanes = {in_lane(topic, lane) for topic in found for lane in Priority}
    return tuple(sorted(lanes | {subscriber.topic for subscriber in context.definition.subscribers}))
