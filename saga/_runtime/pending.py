"""Own the outside work of one service in this process: take it, lease it, bound it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from saga._core.breaker import CallOutcome
from saga._core.doubt import as_before
from saga._core.rows import Changes, RunRow, TakenRun
from saga._runtime.beating import Heart, Hold
from saga._runtime.calls import Caller
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import is_asked_to_stop
from saga._runtime.tokens import Tokens, run_id
from saga._runtime.trouble import said_of, unquoted
from saga.errors import Conflict, Contended, SagaError, StoreError
from saga.ports import Claim

log = logging.getLogger("saga")

GIVE_BACK_TRIES = 3


class PendingWork:
    """Own the outside calls of one service in this process.

    Every call belongs to a run row whose intent is committed. A row taken here is leased; its
    revision is the fence: an answer counts only if nobody has changed the row since. A heart beats for
    what is in hand; whatever a dead process leaves behind is taken over when its lease has passed.
    Nothing waits while it is leased: what cannot start at once is given back, and comes due again about
    when its dependency gets to it.
    """

    def __init__(self, context: ServiceContext) -> None:
        """Start with no calls under way."""
        self._context = context
        self._tasks: TaskGroup | None = None
        self._tokens = Tokens(context)
        self._caller = Caller(context, self._called)
        self._heart = Heart(context)
        self._draining = False
        self._idle = anyio.Event()

    # --- taking work on --------------------------------------------------------------------------------

    def intent(self, run: RunRow, now: datetime) -> RunRow:
        """Return the row to commit before the call: leased to this process if it has room, else free to take."""
        run = replace(run, attempt=0)
        if run.revision or self._tasks is None or self._draining or not self._tokens.promise(run):
            held = timedelta(seconds=self._tokens.held_seconds(run))
            return replace(run, pending_at=now + held, owner="")
        lease = timedelta(seconds=self._context.lease_seconds)
        return replace(run, pending_at=now + lease, owner=self._context.owner, called_at=now, first_called_at=now)

    def take_on(self, run: RunRow) -> None:
        """Start the work of a leased row whose lease is committed, or give it back; does not block."""
        if self._tasks is None:
            return  # going down: the lease will pass and somebody else takes the run over
        hold = Hold(TakenRun(run=run), anyio.current_time())
        if not self._start(self._tasks, hold):
            self._tasks.start_soon(self._give_back, [hold], name=f"give back {run.step}")

    async def run(self) -> None:
        """Take over what is due until cancelled; calls under way end with it."""
        context = self._context
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._heart.run, name=f"{context.service}: heartbeats")
            try:
                while True:
                    try:
                        await self._take(tasks)
                    except StoreError as error:
                        # Calls under way go on: they wait for the database by themselves.
                        log.warning("%s: pending work cannot be looked for: %s", context.service, error)
                    await context.pending_alarm.wait(context.tuning.pending_poll_seconds)
            finally:
                self._tasks = None

    async def drain(self, timeout_seconds: float) -> None:
        """Take nothing more on and wait for calls under way, up to the budget; the rest is resolved later."""
        self._draining = True
        with anyio.move_on_after(timeout_seconds):
            while self._tokens.working:
                self._idle = anyio.Event()
                await self._idle.wait()

    async def _take(self, tasks: TaskGroup) -> None:
        context = self._context
        free = self._tokens.free()
        if self._draining:
            return
        if free <= 0:
            self._look_again()
            return
        since = anyio.current_time()
        taken = await context.store.take_runs(context.service, context.owner, free, context.lease_seconds)
        holds = [Hold(each, since) for each in taken]
        for hold in holds:
            self._say_where_from(hold)
        if len(taken) < free:
            self._tokens.behind.clear()
        surplus = [hold for hold in holds if not self._start(tasks, hold)]
        if surplus:
            await self._give_back(surplus)
        if len(taken) == free:
            context.pending_alarm.ring()
        else:
            self._look_again()

    def _look_again(self) -> None:
        pause = self._tokens.look_again_seconds()
        if pause is not None:
            self._context.pending_alarm.ring(pause)

    # --- a piece of work ---------------------------------------------------------------------------------

    def _start(self, tasks: TaskGroup, hold: Hold) -> bool:
        if not self._tokens.start(hold.run, promised_only=self._draining):
            return False
        self._heart.hold(hold)
        tasks.start_soon(self._work, hold, name=f"call {hold.run.step}")
        return True

    def _say_where_from(self, hold: Hold) -> None:
        run, owner = hold.run, hold.taken.owner
        if owner not in ("", self._context.owner):
            log.warning("%s of %s is taken over from %s", run.step, run.saga_id, owner)
            self._context.count("taken_over")

    def _called(self, run: RunRow, outcome: CallOutcome | None) -> None:
        if self._tokens.called(run, outcome):
            self._context.pending_alarm.ring()

    async def _work(self, hold: Hold) -> None:
        context, run = self._context, hold.run
        try:
            if not self._heart.is_ours(hold):
                context.count("lost")  # this process stood still: its call could come after the proof that it has not
            elif not self._caller.knows(run):
                context.count("pending_parked")
                await self._give_back([hold], context.lease_seconds)  # a replica that knows the plan takes it
            else:
                await self._caller.perform(hold)
        except SagaError as error:
            log.warning("%s of %s is asked again: %s", run.step, run.saga_id, error)
        except Exception as error:  # the top of a piece of work: its row stays leased and is taken over
            wrong = "%s of %s went wrong inside saga; it is asked again: %s"
            log.error(wrong, run.step, run.saga_id, said_of(error), exc_info=unquoted(error))  # noqa: TRY400 - no rows
        except anyio.get_cancelled_exc_class() as error:
            await anyio.lowlevel.checkpoint_if_cancelled()
            if is_asked_to_stop():
                raise
            stray = "%s of %s met a cancellation nobody asked for; it is asked again"
            log.error(stray, run.step, run.saga_id, exc_info=unquoted(error))  # noqa: TRY400 - no rows
        finally:
            self._heart.let_go(hold)
            self._tokens.ended(run)
            if not self._tokens.working:
                self._idle.set()
            context.pending_alarm.ring()

    async def _give_back(self, holds: Sequence[Hold], pause_seconds: float | None = None) -> None:
        """Free leased rows that were not called, by compare-and-set; where that fails their lease passes."""
        context = self._context
        taken = {run_id(hold.run): hold.taken for hold in holds}
        pauses = {key: self._pause_seconds(each.run, pause_seconds) for key, each in taken.items()}
        claim = Claim(service=context.service, sagas=tuple(sorted({hold.run.saga_id for hold in holds})))
        for _ in range(GIVE_BACK_TRIES):
            try:
                async with context.store.unit(claim) as unit:
                    seen = await unit.read(claim.sagas, sorted(taken))
                    freed = tuple(
                        replace(
                            as_before(taken[key], run),
                            owner=taken[key].owner,
                            pending_at=seen.now + timedelta(seconds=pauses[key]),
                        )
                        for key, run in sorted(seen.runs.items())
                        if key in taken and run.revision == taken[key].run.revision
                    )
                    if freed:
                        await unit.write(Changes(update_runs=freed))
            except (Contended, Conflict):
                continue
            except Exception as error:  # noqa: BLE001 - nothing is lost
                log.warning("%s: %d runs wait for their lease to pass: %s", context.service, len(holds), said_of(error))
            else:
                context.count("given_back")
            return

    def _pause_seconds(self, run: RunRow, wanted: float | None) -> float:
        if wanted is not None:
            return wanted
        return 0.0 if self._draining else self._tokens.pause_seconds(run)
