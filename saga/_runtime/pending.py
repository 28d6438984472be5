"""Own the outside work of one service in this process: take it, lease it, bound it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from saga._core.rows import Changes, RunId, RunRow
from saga._core.words import Effects
from saga._runtime.calls import Caller, dependency_of
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import is_asked_to_stop
from saga.errors import Conflict, Contended, SagaError, StoreError
from saga.ports import Claim

log = logging.getLogger("saga")

GIVE_BACK_TRIES = 3
SHORTEST_PAUSE_SECONDS = 0.2


class PendingWork:
    """Own the outside calls of one service in this process.

    Every call belongs to a run row whose intent is committed. A row taken here is leased; its
    revision is the fence: an answer counts only if nobody has changed the row since. Whatever a dead
    process leaves behind is taken over when its lease has passed. Nothing waits while it is leased: what
    cannot start at once is given back, and comes due again about when its dependency gets to it.
    """

    def __init__(self, context: ServiceContext) -> None:
        """Start with no calls under way."""
        self._context = context
        self._tasks: TaskGroup | None = None
        self._tokens = _Tokens(context)
        self._caller = Caller(context, self._called)
        self._draining = False
        self._idle = anyio.Event()

    # --- taking work on --------------------------------------------------------------------------------

    def intent(self, run: RunRow, now: datetime) -> RunRow:
        """Return the row to commit before the call: leased to this process if it has room, else free to take."""
        run = replace(run, attempt=0)
        if self._tasks is None or self._draining or not self._tokens.promise(run):
            return replace(run, pending_at=now, owner="")
        lease = timedelta(seconds=self._context.lease_seconds)
        return replace(run, pending_at=now + lease, owner=self._context.owner)

    def take_on(self, run: RunRow) -> None:
        """Start the work of a leased row whose lease is committed, or give it back; does not block."""
        if self._tasks is None:
            return  # going down: the lease will pass and somebody else takes the run over
        if not self._start(self._tasks, run):
            self._tasks.start_soon(self._give_back, [run], name=f"give back {run.step}")

    async def run(self) -> None:
        """Take over what is due until cancelled; calls under way end with it."""
        context = self._context
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
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
        if self._draining or free <= 0:
            return
        taken = await context.store.take_runs(context.service, context.owner, free, context.lease_seconds)
        if len(taken) < free:
            self._tokens.behind.clear()
        surplus = [run for run in taken if not self._start(tasks, run)]
        if surplus:
            await self._give_back(surplus)
        if len(taken) == free:
            context.pending_alarm.ring()
        elif self._tokens.awaits_rows():
            context.pending_alarm.ring(SHORTEST_PAUSE_SECONDS)

    # --- a piece of work ---------------------------------------------------------------------------------

    def _start(self, tasks: TaskGroup, run: RunRow) -> bool:
        if not self._tokens.start(run, promised_only=self._draining):
            return False
        tasks.start_soon(self._work, run, name=f"call {run.step}")
        return True

    def _called(self, run: RunRow) -> None:
        if self._tokens.called(run):
            self._context.pending_alarm.ring()

    async def _work(self, run: RunRow) -> None:
        context = self._context
        try:
            await self._caller.perform(run)
        except SagaError as error:
            log.warning("%s of %s is asked again: %s", run.step, run.saga_id, error)
        except Exception:  # the top of a piece of work: its row stays leased and is taken over
            log.exception("%s of %s went wrong inside saga; it is asked again", run.step, run.saga_id)
        except anyio.get_cancelled_exc_class():
            await anyio.lowlevel.checkpoint_if_cancelled()
            if is_asked_to_stop():
                raise
            log.exception("%s of %s met a cancellation nobody asked for; it is asked again", run.step, run.saga_id)
        finally:
            self._tokens.ended(run)
            if not self._tokens.working:
                self._idle.set()
            context.pending_alarm.ring()

    async def _give_back(self, runs: Sequence[RunRow]) -> None:
        """Free leased rows that were not called, by compare-and-set; where that fails their lease passes."""
        context = self._context
        taken = {_id(run): run for run in runs}
        pauses = {key: 0.0 if self._draining else self._tokens.pause_seconds(run) for key, run in taken.items()}
        claim = Claim(service=context.service, sagas=tuple(sorted({run.saga_id for run in runs})))
        for _ in range(GIVE_BACK_TRIES):
            try:
                async with context.store.unit(claim) as unit:
                    seen = await unit.read(claim.sagas, sorted(taken))
                    freed = tuple(
                        replace(run, owner="", pending_at=seen.now + timedelta(seconds=pauses[key]))
                        for key, run in sorted(seen.runs.items())
                        if key in taken and run.revision == taken[key].revision
                    )
                    if freed:
                        await unit.write(Changes(update_runs=freed))
            except (Contended, Conflict):
                continue
            except Exception as error:  # noqa: BLE001 - nothing is lost
                log.warning("%s: %d runs wait for their lease to pass: %s", context.service, len(runs), error)
            else:
                context.count("given_back")
            return


class _Tokens:
    """Count the work under way, all together and for each dependency; a token is free or not, nobody waits for one.

    A token is promised to a row that is about to be committed. A promise that is not kept, since its
    transaction rolled back, counts for half the margin of the lease; after that it is too late to call anyway.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._sizes: dict[str, int] = {}
        steps = context.definition.steps
        undos = [step.compensation for step in steps if step.compensation is not None]
        for dependency in [step.dependency for step in steps] + [undo.dependency for undo in undos]:
            if dependency is not None:
                self._sizes.setdefault(dependency.name, dependency.concurrency)
        # Work without a dependency may be due while every dependency is busy.
        self._needs_no_token = not self._sizes or any(undo.effects is Effects.LOCAL for undo in undos)
        self._promised: dict[RunId, tuple[str, float]] = {}
        self._calling: dict[tuple[RunId, int], tuple[str, float]] = {}
        self._seconds: dict[str, float] = {}
        self._turns: dict[str, float] = {}
        self.working = 0
        self.behind: set[str] = set()
        """Dependencies with rows in the database that wait for a token: new runs queue up behind them."""

    def promise(self, run: RunRow) -> bool:
        """Keep a token for a row that is about to be committed; return whether there is one."""
        now = anyio.current_time()
        self._promised.pop(_id(run), None)
        while self._promised:
            first = next(iter(self._promised))
            if now - self._promised[first][1] < self._context.lease_seconds:
                break
            del self._promised[first]
        name = dependency_of(self._context, run)
        if name in self.behind or not self._has_room(name):
            self.behind.add(name)
            return False
        self._promised[_id(run)] = (name, now)
        return True

    def start(self, run: RunRow, *, promised_only: bool) -> bool:
        """Take the token of a leased row: the promised one, or one that is free; return whether it may be called."""
        name = dependency_of(self._context, run)
        promised = self._promised.pop(_id(run), None) if run.revision == 1 else None
        if promised is not None and not self._is_kept(promised[1]):
            return False
        if promised is None and (promised_only or not self._has_room(name)):
            self.behind.add(name)
            return False
        self.working += 1
        if name:
            self._calling[_id(run), run.revision] = (name, anyio.current_time())
        return True

    def called(self, run: RunRow) -> bool:
        """Give the dependency's token back once the call is over; return whether there was one."""
        name, began = self._calling.pop((_id(run), run.revision), ("", 0.0))
        if name:
            took = anyio.current_time() - began
            self._seconds[name] = (7 * self._seconds.get(name, took) + took) / 8
        return bool(name)

    def ended(self, run: RunRow) -> None:
        """Count a piece of work out."""
        self.called(run)
        self.working -= 1

    def free(self) -> int:
        """Return how many rows may be taken: no more than can start, as far as that is known before they are read."""
        used = self._used()
        free = self._context.tuning.calls_in_flight - self.working - self._kept()
        if self._needs_no_token:
            return free
        return min(free, sum(size - used[name] for name, size in self._sizes.items()))

    def pause_seconds(self, run: RunRow) -> float:
        """Return when to look at a row again that found its dependency busy.

        The rows given back come due one after another, twice as fast as the dependency is known to take
        them: it does not run dry, and few are taken in vain.
        """
        now = anyio.current_time()
        name = dependency_of(self._context, run)
        step = self._seconds.get(name, 1.0) / self._sizes.get(name, 1) / 2
        turn = max(now, self._turns.get(name, now)) + step
        self._turns[name] = min(turn, now + self._context.tuning.lease_margin_seconds)
        return max(SHORTEST_PAUSE_SECONDS, self._turns[name] - now) * (0.5 + self._context.rng.random())

    def awaits_rows(self) -> bool:
        """Return whether a dependency is free while rows given back for it are about to come due."""
        now, used = anyio.current_time(), self._used()
        return any(turn > now and used[name] < self._sizes.get(name, 0) for name, turn in self._turns.items())

    def _has_room(self, name: str) -> bool:
        if self.working + self._kept() >= self._context.tuning.calls_in_flight:
            return False
        return not name or self._used()[name] < self._sizes[name]

    def _used(self) -> Counter[str]:
        used = Counter(name for name, _ in self._calling.values())
        used.update(name for name, at in self._promised.values() if self._is_kept(at))
        return used

    def _kept(self) -> int:
        return sum(self._is_kept(at) for _, at in self._promised.values())

    def _is_kept(self, promised_at: float) -> bool:
        return anyio.current_time() - promised_at < self._context.tuning.lease_margin_seconds / 2


def _id(run: RunRow) -> RunId:
    return (run.saga_id, run.step, run.branch)
