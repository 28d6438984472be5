"""Be the coordinator: read the run records, decide, write instances, commands and cursor in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random

import anyio

from saga._core.bodies import Report
from saga._core.cloudevents import decode
from saga._core.envelope import Delivery, Envelope
from saga._core.limits import Limits, check_depth
from saga._core.planning import plan_from_json
from saga._core.records import decode_report
from saga._core.rows import CoordinatorChanges, Cursor, DeliveryRow, InstanceRow, OutboxRow
from saga._core.topics import RUNS
from saga._core.words import REPORT_KINDS, Reason
from saga._runtime.folding import Folder, Told
from saga._runtime.observing import Observer
from saga._runtime.pacing import tell_paces
from saga._runtime.planbook import PlanBook
from saga._runtime.supervise import supervised
from saga.errors import Conflict, Contended, Revoked, StoreUnavailable, TransportUnavailable, Undecodable
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

log = logging.getLogger("saga")

GROUP = "saga-coordinator"
PLANS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorTuning:
    """Hold the numbers the coordinator runs with.

    `tick_seconds` is how often the end of each partition is compared with the position; a deadline
    fires at most that long after it is due and everything before it has been read.
    """

    batch_cap: int = 500
    tick_seconds: float = 0.2
    due_cap: int = 200
    drain_seconds: float = 10.0


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
    ) -> None:
        """Serve `plans`; `slot` makes the group membership static."""
        self._store = store
        self._transport = transport
        self._plans = plans
        self._hand_over = hand_over
        self._rng = rng
        self._slot = slot
        self._tuning = tuning or CoordinatorTuning()
        self._folder = Folder(plans, tracer)
        self._limits = Limits()
        self._busy = anyio.Lock()
        self._untold = False
        self._cursors: dict[int, Cursor | None] = {}
        self._observer = Observer()
        self._looked_for: dict[str, float] = {}
        self._stopping = anyio.Event()
        self.stopped = anyio.Event()
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

    def stop(self) -> None:
        """Ask the coordinator to finish its batch and return from `run`; does not block."""
        self._stopping.set()

    # --- the loop -----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        self._cursors.clear()
        async with self._transport.subscribe(
            self.group, on_assigned=self._assigned, on_revoked=self._give_back
        ) as subscription:
            next_tick = anyio.current_time()
            while not self._stopping.is_set():
                timeout = max(0.0, next_tick - anyio.current_time())
                deliveries = await subscription.fetch(self._tuning.batch_cap, timeout)
                async with self._busy:
                    if deliveries:
                        await self._take(subscription, deliveries)
                    if anyio.current_time() >= next_tick:
                        await self._tick(subscription)
                        next_tick = anyio.current_time() + self._tuning.tick_seconds

    async def _assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        stored = await self._store.cursors([place.partition for place in partitions])
        self._cursors.update({place.partition: stored.get(place.partition) for place in partitions})
        self._observer.forget(place.partition for place in partitions)
        self._untold = True
        return {place: stored[place.partition].position for place in partitions if place.partition in stored}

    async def _give_back(self, partitions: frozenset[TopicPartition]) -> None:
        with anyio.move_on_after(self._tuning.drain_seconds):
            async with self._busy:
                pass
        for place in partitions:
            self._cursors.pop(place.partition, None)

    async def _take(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        mine = [delivery for delivery in deliveries if delivery.partition in self._cursors]
        positions = {delivery.partition: delivery.offset + 1 for delivery in mine}
        await self._write(subscription, self._sort(mine), positions)
        # The positions that count are in the database; this tells the broker's lag monitors, and the
        # memory transport that the records have taken effect.
        await self._tell(subscription, {TopicPartition(topic=RUNS, partition=p): at for p, at in positions.items()})

    async def _tell(self, subscription: Subscription, places: Mapping[TopicPartition, int]) -> None:
        try:
            await subscription.commit(places)
        except (Revoked, TransportUnavailable) as error:
            log.info("coordinator: position not told to the broker: %s", error)

    async def _tick(self, subscription: Subscription) -> None:
        """Learn up to when everything has been read, and let due times fire against that."""
        if self._untold:
            # Whoever had these partitions before may have stored more than it told: its publishers still wait.
            self._untold = False
            await self._tell(subscription, subscription.positions())
        now = await self._store.now()
        ends = await subscription.end_offsets()
        self._observer.look(now, {place.partition: end for place, end in ends.items()}, _reading(subscription))
        if self._observer.news(self._cursors):
            await self._write(subscription, _Work(), {})
        due = await self._store.due(sorted(self._cursors), self._tuning.due_cap)
        if due:
            await self._write(subscription, _Work(due=tuple(due)), {})

    # --- records ----------------------------------------------------------------------------------------------

    def _sort(self, deliveries: Iterable[Delivery]) -> _Work:
        work = _Work()
        for delivery in deliveries:
            try:
                envelope, report = _read(delivery, self._limits)
            except Undecodable as error:
                self._count("dead")
                work.dead.append(_dead(delivery, str(error)))
                continue
            work.reports.setdefault(envelope.saga_id, []).append((envelope, report, delivery.partition))
        return work

    async def _write(self, subscription: Subscription, work: _Work, positions: Mapping[int, int]) -> None:
        """Decide and store until it fits what is stored.

        Raises Conflict when another replica has moved a cursor: reading starts over from the stored ones.
        """
        failures = 0
        while True:
            try:
                changes = await self._decide(subscription, work, positions)
                seqs = await self._store.write(changes)
            except Conflict:
                self._count("conflict")
                await self._check_mine()
            except (Contended, StoreUnavailable) as error:
                failures += 1
                log.warning("coordinator: the database is away, trying again: %s", error)
                await anyio.sleep(min(5.0, 0.05 * 2.0 ** min(failures, 8)) * self._rng.random())
            else:
                self._cursors.update({new.partition: new for _, new in changes.cursors})
                self._hand_over([replace(row, seq=s) for row, s in zip(changes.outbox, seqs, strict=True)])
                return

    async def _decide(
        self, subscription: Subscription, work: _Work, positions: Mapping[int, int]
    ) -> CoordinatorChanges:
        ids = [*work.reports, *(row.saga_id for row in work.due)]
        stored: Mapping[str, InstanceRow] = await self._store.load(ids) if ids else {}
        await self._learn_plans(work, stored)
        now = await self._store.now()
        instances: list[InstanceRow] = []
        outbox: list[OutboxRow] = []
        for saga_id in dict.fromkeys(ids):
            inputs = [*work.reports.get(saga_id, ())]
            due = any(row.saga_id == saga_id for row in work.due)
            folded = self._folder.fold(saga_id, stored.get(saga_id), inputs, now, due=due)
            if folded is not None:
                instances.append(folded.row)
                outbox.extend(folded.outbox)
        cursors = self._observer.cursors(self._cursors, positions, _reading(subscription))
        return CoordinatorChanges(
            instances=tuple(instances), outbox=tuple(outbox), cursors=cursors, dead=tuple(work.dead)
        )

    async def _learn_plans(self, work: _Work, stored: Mapping[str, InstanceRow]) -> None:
        """Look for plans unknown here where another coordinator has stored them before it published them."""
        named = {envelope.plan for told in work.reports.values() for envelope, _, _ in told}
        named |= {row.plan for row in stored.values()}
        now = anyio.current_time()
        missed = {one for one in named if one and self._plans.topology(one) is None}
        if all(now - self._looked_for.get(one, -PLANS_SECONDS) < PLANS_SECONDS for one in missed):
            return
        for row in await self._store.put_plans(()):
            self._plans.learn(plan_from_json(row.body))
        self._looked_for = {one: now for one in missed if self._plans.topology(one) is None}

    async def _check_mine(self) -> None:
        """Raise Conflict unless the stored cursors are the ones held here."""
        stored = await self._store.cursors(sorted(self._cursors))
        for partition, cursor in self._cursors.items():
            found = stored.get(partition)
            if (found and found.position) != (cursor and cursor.position):
                msg = f"partition {partition} of {RUNS} was moved on by another coordinator; starting over from there"
                raise Conflict(msg)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


@dataclass(slots=True, kw_only=True)
class _Work:
    reports: dict[str, list[Told]] = field(default_factory=dict[str, list[Told]])
    due: tuple[InstanceRow, ...] = ()
    dead: list[DeliveryRow] = field(default_factory=list[DeliveryRow])


def _dead(delivery: Delivery, reason: str) -> DeliveryRow:
    return DeliveryRow(
        service=GROUP,
        saga_id="",
        due_at=datetime.now(UTC),
        reason=Reason.DEAD,
        error=reason[:500],
        raw=delivery,
    )


def _reading(subscription: Subscription) -> dict[int, int]:
    return {place.partition: at for place, at in subscription.positions().items()}


def _read(delivery: Delivery, limits: Limits) -> tuple[Envelope, Report]:
    envelope = decode(delivery, limits)
    if envelope.kind not in REPORT_KINDS or not envelope.saga_id:
        msg = f"a {envelope.kind.value} does not belong on {RUNS}"
        raise Undecodable(msg)
    if envelope.expires_at is None:
        msg = f"a {envelope.kind.value} without an expiry time"
        raise Undecodable(msg)
    check_depth(envelope.payload, limits.depth)
    return envelope, decode_report(envelope.kind, envelope.payload)
