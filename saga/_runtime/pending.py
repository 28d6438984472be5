"""Own the outside work of one service in this process: take it, lease it, bound it."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

import anyio
from anyio.abc import TaskGroup

from saga._core.rows import RunRow
from saga._runtime.calls import Caller
from saga._runtime.context import ServiceContext
from saga.errors import SagaError, StoreError

log = logging.getLogger("saga")


class PendingWork:
    """Own the outside calls of one service in this process.

    Every call belongs to a run row whose intent is committed. A row taken here is leased; its
    revision is the fence: an answer counts only if nobody has changed the row since. Whatever a dead
    process leaves behind is taken over when its lease has passed.
    """

    def __init__(self, context: ServiceContext) -> None:
        """Start with no calls under way."""
        self._context = context
        self._tasks: TaskGroup | None = None
        self._in_flight = 0
        self._caller = Caller(context)
        self._idle = anyio.Event()

    # --- taking work on --------------------------------------------------------------------------------

    def intent(self, run: RunRow, now: datetime) -> RunRow:
        """Return the row to commit before the call: leased to this process if it has room, else free to take."""
        run = replace(run, attempt=0)
        if self._tasks is None or self._in_flight >= self._context.tuning.calls_in_flight:
            return replace(run, pending_at=now, owner="")
        lease = timedelta(seconds=self._context.lease_seconds)
        return replace(run, pending_at=now + lease, owner=self._context.owner)

    def take_on(self, run: RunRow) -> None:
        """Start the work of a leased row whose lease is committed; does not block."""
        if self._tasks is None:
            return  # going down: the lease will pass and somebody else takes the run over
        self._in_flight += 1
        self._tasks.start_soon(self._work, run, name=f"call {run.step}")

    async def run(self) -> None:
        """Take over what is due until cancelled; calls under way end with it."""
        context = self._context
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                while True:
                    try:
                        await self._take()
                    except StoreError as error:
                        # Calls under way go on: they wait for the database by themselves.
                        log.warning("%s: pending work cannot be looked for: %s", context.service, error)
                    await context.pending_alarm.wait(context.tuning.pending_poll_seconds)
            finally:
                self._tasks = None

    async def drain(self, timeout_seconds: float) -> None:
        """Wait for calls under way, up to the budget; what is not answered by then is resolved later."""
        with anyio.move_on_after(timeout_seconds):
            while self._in_flight:
                self._idle = anyio.Event()
                await self._idle.wait()

    async def _take(self) -> None:
        context = self._context
        free = context.tuning.calls_in_flight - self._in_flight
        if free <= 0:
            return
        taken = await context.store.take_runs(context.service, context.owner, free, context.lease_seconds)
        for run in taken:
            self.take_on(run)
        if len(taken) == free:
            context.pending_alarm.ring()

    async def _work(self, run: RunRow) -> None:
        context = self._context
        try:
            await self._caller.perform(run)
        except SagaError as error:
            log.warning("%s of %s is asked again: %s", run.step, run.saga_id, error)
        except Exception:  # the top of a piece of work: its row stays leased and is taken over
            log.exception("%s of %s went wrong inside saga; it is asked again", run.step, run.saga_id)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
            context.pending_alarm.ring()
