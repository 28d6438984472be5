"""Be the coordinator: read the run records, decide, write instances, commands and cursor in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import Random

import anyio

from saga._core.batching import pause_after
from saga._core.envelope import Delivery
from saga._core.rows import InstanceRow, OutboxRow
from saga._core.topics import RUNS
from saga._runtime.coordinator_tuning import CoordinatorTuning
from saga._runtime.deciding import Decider
from saga._runtime.folding import Folded, Folder
from saga._runtime.holding import is_pressing
from saga._runtime.metering import NullMeter
from saga._runtime.observing import Observer
from saga._runtime.pacing import tell_paces
from saga._runtime.planbook import PlanBook
from saga._runtime.presence import Presence
from saga._runtime.processor import Processor
from saga._runtime.reading import work_of
from saga._runtime.storing import InstanceWriter, reading_of
from saga._runtime.supervise import supervised
from saga._runtime.telling import is_asked, tell_sagas
from saga.errors import Conflict, Contended, Revoked, StoreUnavailable, TransportUnavailable
from saga.ports import (
    CoordinatorStore,
    GroupSpec,
    Positions,
    Publisher,
    Subscription,
    TopicPartition,
    Tracer,
    Transport,
)
from saga.ports.metering import Meter

log = logging.getLogger("saga")

GROUP = "saga-coordinator"
TELL_SECONDS = 0.1
"""How far apart the broker is told of positions at least: those that count are in the database."""
BEHIND_SECONDS = 0.1
"""How soon it is looked again for what is due in a partition that has not been read up to then."""
WAKE_SECONDS = 0.2
"""How long a wait for records lasts at most, so that a stop is soon seen."""


class CoordinatorShell:
    """Run one coordinator replica until stopped; any replica may handle any saga.

    Positions live in the database next to the instances and move with them; two replicas that both
    believe to own a partition are told apart by compare-and-set.
    """

    def __init__(
        self,
        *,
        store: CoordinatorStore,
        transport: Transport,
        plans: PlanBook,
        hand_over: Callable[[Sequence[OutboxRow]], None],
        tracer: Tracer,
        rng: Random,
        slot: str,
        tuning: CoordinatorTuning | None = None,
        meter: Meter | None = None,
        processor: Processor | None = None,
    ) -> None:
        """Serve `plans`; `slot` makes the group membership static."""
        self._meter = meter or NullMeter()
        self._processor = processor or Processor()
        self._store = store
        self._transport = transport
        self._hand_over = hand_over
        self._rng = rng
        self._slot = slot
        self._tuning = tuning or CoordinatorTuning()
        self._tracer = tracer
        self._folder = Folder(plans, tracer)
        self._decider = Decider(store, plans, self._folder)
        self._busy = anyio.Lock(fast_acquire=True)
        self._untold = False
        self._to_tell: dict[TopicPartition, int] = {}
        self._tell_at_seconds = 0.0
        self._tick_at_seconds = 0.0
        self._observer = Observer()
        self._writer = InstanceWriter(
            store=store,
            decider=self._decider,
            observer=self._observer,
            rng=rng,
            count=self._count,
            stored=self._stored,
        )
        self._stopping = anyio.Event()
        self.stopped = anyio.Event()
        self.presence = Presence()
        self.counts: dict[str, int] = {}

    @property
    def group(self) -> GroupSpec:
        """Return the coordinators' consumer group."""
        return GroupSpec(name=GROUP, slot=self._slot, topics=(RUNS,), positions=Positions.SUBSCRIBER)

    async def run(self) -> None:
        """Work until stopped; raises PositionLost when records are gone that were never read."""
        try:
            await supervised("coordinator", self._work, self._rng)
        finally:
            self.stopped.set()

    async def tell_paces(self, publisher: Publisher) -> None:
        """Tell the services how quick the steps of each plan are, until cancelled."""
        await tell_paces(publisher, self._folder.histories)

    async def offsets(self) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """Return where each partition it reads ends, and where it is; both empty while it reads none."""
        if not self.presence.is_there:
            return {}, {}
        return await self._subscription.end_offsets(), self._subscription.positions()

    def stop(self) -> None:
        """Ask the coordinator to finish its batch and return from `run`; does not block."""
        self._stopping.set()

    # --- the loop -----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        self._writer.cursors.clear()
        self._decider.known.clear()
        self._writer.held.clear()
        self._to_tell.clear()
        async with (
            self._transport.subscribe(
                self.group, on_assigned=self._assigned, on_revoked=self._give_back
            ) as subscription,
            self.presence,
        ):
            self._subscription = subscription
            self._tick_at_seconds = anyio.current_time()
            while not self._stopping.is_set():
                deliveries = await subscription.fetch(self._tuning.batch_cap, self._wait_seconds())
                if not deliveries:
                    await self._go_on(subscription, ())
                    continue
                async with self._processor.turn() as waited:
                    if waited and (more := self._tuning.batch_cap - len(deliveries)):
                        deliveries = [*deliveries, *await subscription.fetch(more, 0.0)]
                    began = anyio.current_time()
                    await self._go_on(subscription, deliveries)
                if len(deliveries) < self._tuning.batch_cap:
                    await anyio.sleep(pause_after(anyio.current_time() - began))
            async with self._busy:
                await self._writer.write(subscription)
            await self._tell_now(subscription)

    async def _go_on(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        async with self._busy:
            at_seconds = anyio.current_time()
            if deliveries:
                await self._take(subscription, deliveries, at_seconds)
            if self._writer.held.is_due(at_seconds):
                await self._writer.write(subscription)
            if self._to_tell and at_seconds >= self._tell_at_seconds:
                await self._tell_now(subscription)
            if at_seconds >= self._tick_at_seconds:
                await self._tick(subscription)

    def _wait_seconds(self) -> float:
        until = min(self._tick_at_seconds, self._tell_at_seconds) if self._to_tell else self._tick_at_seconds
        until = min(until, self._writer.held.until_seconds)
        return min(WAKE_SECONDS, max(0.0, until - anyio.current_time()))

    async def _assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        stored = await self._store.cursors([place.partition for place in partitions])
        self._writer.cursors.update({place.partition: stored.get(place.partition) for place in partitions})
        self._observer.forget(place.partition for place in partitions)
        self._decider.known.clear_stored()
        for place in partitions:
            self._writer.held.positions.pop(place.partition, None)
        self._untold = True
        return {place: stored[place.partition].position for place in partitions if place.partition in stored}

    async def _give_back(self, partitions: frozenset[TopicPartition]) -> None:
        """Finish the batch in hand and store what is held, within the budget; what is left the next owner reads."""
        try:
            with anyio.move_on_after(self._tuning.drain_seconds):
                async with self._busy:
                    await self._writer.write(None)
        except Conflict as error:
            log.info("coordinator: not stored on revoke: %s", error)
        finally:
            for place in partitions:
                self._writer.cursors.pop(place.partition, None)
                self._to_tell.pop(place, None)

    async def _take(self, subscription: Subscription, deliveries: Sequence[Delivery], at_seconds: float) -> None:
        mine = [delivery for delivery in deliveries if delivery.partition in self._writer.cursors]
        positions = {delivery.partition: delivery.offset + 1 for delivery in mine}
        work = work_of(mine, GROUP)
        self._count("dead", len(work.dead))
        self._writer.held.add(work, positions, at_seconds)
        try:
            folded = await self._decider.decide(work, 1)
        except (Contended, StoreUnavailable) as error:
            log.warning("coordinator: the database is away, trying again: %s", error)
            self._decider.known.clear()
            await self._writer.write(subscription, again=1)
            return
        self._writer.held.take(folded)
        self._decider.known.hold(folded)
        now = self._decider.reckoning.now(at_seconds)
        pressing = [each.instance.saga_id for each in folded if now is None or is_pressing(each, now)]
        if pressing:
            await self._writer.write(subscription, pressing if self._writer.held.rest(pressing) else ())

    async def _tell_now(self, subscription: Subscription) -> None:
        places = dict(self._to_tell)
        self._to_tell.clear()
        self._tell_at_seconds = anyio.current_time() + TELL_SECONDS
        await self._tell(subscription, places)

    async def _tell(self, subscription: Subscription, places: Mapping[TopicPartition, int]) -> None:
        try:
            if places:
                await subscription.commit(places)
        except (Revoked, TransportUnavailable) as error:
            log.info("coordinator: position not told to the broker: %s", error)

    # --- time ---------------------------------------------------------------------------------------------

    async def _tick(self, subscription: Subscription) -> None:
        """Let what is due fire, and find out when to look again."""
        if self._untold:
            # Whoever had these partitions before may have stored more than it told: its publishers still wait.
            self._untold = False
            # What is merely held has not taken effect.
            held, read = self._writer.held.positions, subscription.positions()
            await self._tell(subscription, {place: at for place, at in read.items() if place.partition not in held})
        now = await self._store.now()
        self._decider.reckoning.read(now, anyio.current_time())
        due = await self._store.next_due(sorted(self._writer.cursors))
        pause = self._tuning.tick_seconds
        if due is not None and due <= now:
            fired = await self._fire(subscription, now)
            full = fired == self._tuning.due_cap
            due = None if full else await self._store.next_due(sorted(self._writer.cursors))
            pause = 0.0 if full else min(pause, BEHIND_SECONDS) if due is not None and due <= now else pause
        self._tick_at_seconds = anyio.current_time() + pause
        if due is not None and due > now:
            self._look_at(due)

    async def _fire(self, subscription: Subscription, now: datetime) -> int:
        """Learn up to when everything has been read, let due times fire against that, and return how many did."""
        await self._writer.write(subscription)
        ends = await subscription.end_offsets()
        self._observer.look(now, {place.partition: end for place, end in ends.items()}, reading_of(subscription))
        if self._observer.news(self._writer.cursors):
            await self._writer.write(subscription)
        due = await self._store.due(sorted(self._writer.cursors), self._tuning.due_cap)
        if due:
            await self._writer.write(subscription, due=due)
        return len(due)

    def _look_in_time(self, written: Sequence[InstanceRow]) -> None:
        """Tick when the first of what was just stored is due, if that is before the next tick."""
        first = min((row.due_at for row in written if row.due_at is not None), default=None)
        if first is not None:
            self._look_at(first)

    def _look_at(self, due: datetime) -> None:
        at_seconds = self._decider.reckoning.seconds_at(due)
        if at_seconds is not None:
            self._tick_at_seconds = min(self._tick_at_seconds, at_seconds)

    # --- records ----------------------------------------------------------------------------------------------

    def _stored(self, folded: Sequence[Folded], outbox: Sequence[OutboxRow], positions: Mapping[int, int]) -> None:
        """Act on what has just been stored."""
        if is_asked(self._meter):
            tell_sagas(self._meter, folded)
        for each in folded:
            if each.story is not None:
                self._tracer.tell(each.story)
        self._look_in_time([each.bare for each in folded])
        self._hand_over(outbox)
        # The positions that count are in the database; this tells the broker's lag monitors, and the
        # memory transport that the records have taken effect.
        self._to_tell.update({TopicPartition(topic=RUNS, partition=p): at for p, at in positions.items()})

    def _count(self, what: str, more: int = 1) -> None:
        if more:
            self.counts[what] = self.counts.get(what, 0) + more
