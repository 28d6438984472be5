"""Keep the outside work in hand leased while it lasts, and see whose heart has stopped."""

from __future__ import annotations

import logging

import anyio

from saga._core.rows import RunId, RunRow, TakenRun
from saga._runtime.context import ServiceContext
from saga.errors import StoreError

log = logging.getLogger("saga")


class Hold:
    """Be a leased run in the hands of this process; `since` is when it was last certain to be ours, in loop time.

    `call` surrounds the user's call alone: a run that turns out to be lost has its call cancelled, since its answer
    could commit nothing. What is being stored is not cancelled: the revision decides about that.
    """

    def __init__(self, taken: TakenRun, since: float) -> None:
        """Hold a run that was taken, or whose intent was committed, no earlier than `since`."""
        self.taken = taken
        self.since = since
        self.lost = False
        self.call = anyio.CancelScope()

    @property
    def run(self) -> RunRow:
        """Return the row as it was taken."""
        return self.taken.run

    def lose(self) -> None:
        """Give the run up: somebody else has it."""
        self.lost = True
        self.call.cancel()


class Heart:
    """Beat for all runs in hand: one statement a beat moves their leases on.

    A lease lasts three beats. Whoever has missed two is named in the log, once for each run; after three the run
    is taken over. While the database is away calls go on: the first beat that gets through says what is lost.
    """

    def __init__(self, context: ServiceContext) -> None:
        """Hold nothing yet."""
        self._context = context
        self._holds: dict[tuple[RunId, int], Hold] = {}
        self._silent: frozenset[tuple[RunId, str]] = frozenset()

    def hold(self, hold: Hold) -> None:
        """Beat for a run from now on."""
        run = hold.run
        name = (run.saga_id, run.step, run.branch)
        for (held, revision), other in self._holds.items():
            if held == name and revision < run.revision:
                other.lose()
        self._holds[name, run.revision] = hold

    def let_go(self, hold: Hold) -> None:
        """Beat for a run no longer."""
        run = hold.run
        self._holds.pop(((run.saga_id, run.step, run.branch), run.revision), None)

    def is_ours(self, hold: Hold) -> bool:
        """Return whether nobody can have taken the run over yet; a process that stood still finds that it is late."""
        return not hold.lost and anyio.current_time() - hold.since < self._context.lease_seconds

    async def run(self) -> None:
        """Beat until cancelled."""
        context = self._context
        while True:
            await anyio.sleep(context.tuning.beat_seconds)
            try:
                await self._beat()
            except StoreError as error:
                log.warning("%s: no heartbeat for %d calls: %s", context.service, len(self._holds), error)

    async def _beat(self) -> None:
        context = self._context
        holds, now = [hold for hold in self._holds.values() if not hold.lost], anyio.current_time()
        runs = [hold.run for hold in holds]
        beat = await context.store.beat(context.service, context.owner, runs, context.lease_seconds)
        for hold in holds:
            run = hold.run
            name = (run.saga_id, run.step, run.branch)
            if name in beat.kept:
                hold.since = now
            elif (name, run.revision) in self._holds:
                log.warning("%s of %s is somebody else's now; its call is cancelled", run.step, run.saga_id)
                context.count("lost")
                hold.lose()
        silent = frozenset(beat.silent.items())
        for (saga_id, step, _), owner in sorted(silent - self._silent):
            log.warning("%s of %s: its owner %s has missed two heartbeats", step, saga_id, owner)
            context.count("silent")
        self._silent = silent
