"""Run a batch of deliveries in one transaction, and find the way out of every kind of trouble."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import process_time
from typing import assert_never

import anyio

from saga._core.batching import BatchSize
from saga._core.participant import Meeting
from saga._core.retry import Again, GiveUp
from saga._core.rows import Snapshot
from saga._core.words import GateState, Handles
from saga._runtime.clock import Timer
from saga._runtime.context import ServiceContext
from saga._runtime.ending import end_turn
from saga._runtime.items import AsideItem, EndItem, PlainItem, StepItem
from saga._runtime.judging import judged
from saga._runtime.locking import LockWaits, let_go
from saga._runtime.pending import PendingWork
from saga._runtime.plain import give_up_plain, inbox_keys, meet_plain, put_plain_aside
from saga._runtime.setbacks import give_up, wait_alone
from saga._runtime.sets import SetTrouble, run_set
from saga._runtime.sorting import buried
from saga._runtime.steps import Trouble, meet_step
from saga._runtime.telling import is_asked, tell_batch
from saga._runtime.tracing import Held, rolled_back
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.writing import Writing, after_commit
from saga.errors import Conflict, Contended, Gone, StoreError, StoreUnavailable
from saga.ports import Claim, UnitOfWork

log = logging.getLogger("saga")

BatchItem = StepItem | EndItem | AsideItem | PlainItem

PAUSE_CAP_SECONDS = 5.0
ALONE_TRIES = 20
RECENT = 16
"""How many transactions the time an item takes is the average of."""


class BatchRunner:
    """Bring batches of one service to an end: each item is committed, or moved aside in a commit."""

    def __init__(self, context: ServiceContext, pending: PendingWork) -> None:
        """Start with batches of one; they grow while the rows can bear it."""
        self._context = context
        self._pending = pending
        self.batch_size = BatchSize(cap=context.tuning.batch_cap)
        self.item_seconds = 0.0
        self.busy_share = 1.0

    async def settle(self, items: Sequence[BatchItem]) -> None:
        """Return once every item is committed; waits as long as the database is away.

        A group that meets contention is split. An item that makes trouble runs after the rest, again and
        alone, since a neighbour's write that was rolled back may have caused it.
        """
        groups: list[list[BatchItem]] = [list(items)] if items else []
        away = 0
        contended: dict[int, int] = {}
        while groups:
            group = groups.pop()
            try:
                with Held() as held:
                    left = await self._transact(group, held)
            except Trouble as trouble:
                groups.extend(await self._after_trouble(group, trouble))
            except SetTrouble as trouble:
                groups.extend(await self._after_set(group, trouble))
            except Gone as error:
                if len(group) == 1:
                    self._drop(group[0])
                else:
                    groups.extend(await self._after_contention(group, error, 0))
            except (Contended, Conflict) as error:
                tries = contended.get(id(group[0]), 0) + (len(group) == 1)
                contended[id(group[0])] = tries
                groups.extend(await self._after_contention(group, error, tries))
            except StoreUnavailable as error:
                away += 1
                log.warning("%s: the database is away, trying again: %s", self._context.service, error)
                groups.append(group)
                await self._pause(away)
            except Exception as error:  # noqa: BLE001 - a fault of an item's or of ours, never of the partition
                groups.extend(await self._after_fault(group, error))
            else:
                away = 0
                size, handled = self.batch_size, len(group) - len(left)
                self.batch_size = size.after_cut(handled) if left else size.after_clean(handled)
                groups.extend([left] if left else [])

    async def _transact(self, items: list[BatchItem], held: Held) -> list[BatchItem]:
        """Commit as many items from the front as the time budget allows and return the rest."""
        context = self._context
        claim = self._claim(items)
        run_ids = [item.run_id for item in items if not isinstance(item, AsideItem | PlainItem)]
        inbox = inbox_keys(items) if context.definition.subscribers else ()
        timer = Timer()
        began, worked = timer.now(), process_time()
        left: list[BatchItem] = []
        async with context.store.unit(claim) as unit:
            seen = await unit.read(claim.sagas, run_ids, inbox)
            writing = Writing(now=seen.now, held=held, timer=timer, untraced=context.tracer.untraced())
            with timer.scope:
                budget_seconds = context.tuning.batch_budget_seconds * context.processor.stretch
                for position, item in enumerate(items):
                    if position and timer.now() - began > budget_seconds:
                        left = items[position:]
                        break
                    await self._one(unit, seen, writing, item)
                for together in writing.sets.values():
                    await run_set(context, unit, seen, writing, together)
            if timer.scope.cancelled_caught:
                # Whatever came after the handler that was late has not run: nothing of this may be committed.
                raise TimeoutError("a handler has let out the cancellation that its own timeout was")
            seqs = await unit.write(writing.changes())
        after_commit(context, self._pending, writing, seqs)
        seconds = timer.now() - began
        self._learn(seconds, process_time() - worked, len(items) - len(left))
        if is_asked(context.meter):
            tell_batch(context, items[: len(items) - len(left)], writing, seconds)
        return left

    def _learn(self, seconds: float, cpu_seconds: float, handled: int) -> None:
        self.item_seconds += (seconds / handled - self.item_seconds) / RECENT
        if seconds:
            self.busy_share += (min(1.0, cpu_seconds / seconds) - self.busy_share) / RECENT

    async def _one(self, unit: UnitOfWork, seen: Snapshot, writing: Writing, item: BatchItem) -> None:
        if item.row is not None:
            writing.used_rows.append(item.row)
        match item:
            case StepItem(step=step) if step.handles is Handles.BATCH:
                writing.sets.setdefault((step.saga, step.version, step.name), []).append(item)
            case StepItem():
                await meet_step(self._context, self._pending, unit, seen, writing, item)
            case AsideItem():
                if item.day is not None:
                    put_plain_aside(self._context, seen, writing, item, item.day)
                    return
                gate = seen.gates.get(item.saga_id) if item.is_parked_event else None
                if gate is not None and gate.state is GateState.CLOSED:
                    self._context.count(Meeting.TURNED_AWAY.value)
                    return
                writing.put_aside(self._context, item)
            case EndItem():
                writing.timer.rest()
                await self._end(unit, seen, writing, item)
            case PlainItem():
                writing.timer.rest()
                await meet_plain(self._context, unit, seen, writing, item)
            case _:
                assert_never(item)

    async def _end(self, unit: UnitOfWork, seen: Snapshot, writing: Writing, item: EndItem) -> None:
        await let_go(self._context, unit, writing, item.envelope.saga_id, item.outcome)
        if item.topology.plan.starter != self._context.service:
            return
        start = writing.run(item.run_id, seen)
        try:
            ended = await end_turn(self._context, unit, item, start, writing)
        except HandlerTrouble as trouble:
            raise Trouble(item, trouble) from trouble
        if ended is not None:
            writing.updates[item.run_id] = ended
            writing.ended[item.run_id] = item.outcome.ending

    def _claim(self, items: Sequence[BatchItem]) -> Claim:
        sagas = sorted({saga_id for item in items if (saga_id := _gated(item))})
        timeout = self._context.tuning.lock_timeout_seconds if len(items) > 1 else None
        return Claim(service=self._context.service, sagas=tuple(sagas), lock_timeout_seconds=timeout)

    async def _after_contention(self, group: list[BatchItem], error: Exception, tries: int) -> list[list[BatchItem]]:
        self._context.count(type(error).__name__.lower())
        self.batch_size = self.batch_size.after_contention()
        if len(group) == 1:
            item = group[0]
            if tries > ALONE_TRIES and not isinstance(item, AsideItem):
                # Alone and still contended: its own statements are at fault, and the partition goes on.
                await self._give_up_for_good(Trouble(item, _trouble(item, error)))
                return []
            await self._pause(tries)
            return [group]
        half = len(group) // 2
        return [group[half:], group[:half]]

    async def _after_fault(self, group: list[BatchItem], error: Exception) -> list[list[BatchItem]]:
        """Split until the item at fault is alone: a handler that broke its transaction, or what nobody foresaw."""
        if len(group) > 1:
            half = len(group) // 2
            return [group[half:], group[:half]]
        item = group[0]
        if isinstance(item, AsideItem):
            raise error
        trouble = _trouble(item, error)
        if not isinstance(error, StoreError):
            log.error("%s of %s went wrong inside saga", item.run_id[1], item.run_id[0], exc_info=trouble.shown)
        try:
            await self._give_up_for_good(Trouble(item, trouble))
        except Exception as failed:  # not even its failure can be written
            shown = _trouble(item, failed).shown
            log.exception("%s of %s becomes a dead letter", item.run_id[1], item.run_id[0], exc_info=shown)
            return [[buried(self._context, item, trouble)]]
        return []

    async def _after_trouble(self, group: list[BatchItem], trouble: Trouble) -> list[list[BatchItem]]:
        if len(group) > 1:
            rolled_back(trouble.span, trouble)
            self.batch_size = self.batch_size.after_contention()
            return [[trouble.item], [item for item in group if item is not trouble.item]]
        try:
            await self._give_up_for_good(trouble)
        finally:
            rolled_back(trouble.span, trouble)  # where nothing has come of it, and it is done again
        return []

    async def _after_set(self, group: list[BatchItem], trouble: SetTrouble) -> list[list[BatchItem]]:
        """Split until the item that a step cannot take in its batch is alone with it."""
        if len(trouble.items) == 1:
            return await self._after_trouble(group, Trouble(trouble.items[0], trouble.reason))
        self.batch_size = self.batch_size.after_contention()
        apart = trouble.items[len(trouble.items) // 2 :]
        return [[item for item in group if item not in apart], list(apart)]

    def _drop(self, item: BatchItem) -> None:
        """Forget an item whose row is gone: another replica, or a commit of ours without an answer, has finished it."""
        self._context.count("dropped")
        log.info("%s: a waiting delivery of saga %s is gone", self._context.service, item.row and item.row.saga_id)

    async def _give_up_for_good(self, trouble: Trouble) -> None:
        failures = 0
        while True:
            try:
                await self._give_up(trouble)
            except Gone:
                rolled_back(trouble.span, trouble)
                self._drop(trouble.item)
                return
            except (Contended, Conflict, StoreUnavailable):
                failures += 1
                await self._pause(failures)
            else:
                return

    async def _give_up(self, trouble: Trouble) -> None:
        context, item = self._context, trouble.item
        claim = self._claim([item])
        async with context.store.unit(claim) as unit:
            seen = await unit.read(claim.sagas, [item.run_id], inbox_keys([item]))
            writing = Writing(now=seen.now)
            if item.row is not None:
                writing.used_rows.append(item.row)
            verdict = await self._give_up_item(unit, seen, writing, trouble)
            seqs = await unit.write(writing.changes())
        judged(context, trouble, verdict, seen.now)
        after_commit(context, self._pending, writing, seqs)
        if is_asked(context.meter):
            tell_batch(context, [item], writing)

    async def _give_up_item(
        self, unit: UnitOfWork, seen: Snapshot, writing: Writing, trouble: Trouble
    ) -> Again | GiveUp | None:
        context, item, reason = self._context, trouble.item, trouble.reason
        if isinstance(item, EndItem):
            # Whatever keeps the starter from hearing of it: what the saga held is free.
            await let_go(context, unit, writing, item.envelope.saga_id, item.outcome)
        if isinstance(reason, LockWaits):
            assert isinstance(item, StepItem)
            await wait_alone(context, unit, seen, writing, item, reason)
            return None
        if isinstance(item, PlainItem):
            assert isinstance(reason, HandlerTrouble)
            return give_up_plain(context, seen, writing, item, reason)
        parent = trouble.span.traceparent or item.envelope.traceparent
        return give_up(context, seen, writing, item, reason, parent)

    async def _pause(self, failures: int) -> None:
        cap = self._context.tuning.contention_pause_seconds * 2.0 ** min(failures - 1, 8)
        await anyio.sleep(min(PAUSE_CAP_SECONDS, cap) * self._context.rng.random())


def _trouble(item: StepItem | EndItem | PlainItem, error: Exception) -> HandlerTrouble:
    """Return what came up around a handler, perhaps at its commit: it may quote the event all the same."""
    return HandlerTrouble(error, given=() if isinstance(item, EndItem) else (item.event,))


def _gated(item: BatchItem) -> str:
    """Return the saga whose gate decides what becomes of an item; "" when none does."""
    if isinstance(item, AsideItem):
        return item.saga_id if item.is_parked_event else ""
    return item.envelope.saga_id
