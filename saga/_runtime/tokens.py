"""Count the outside work of one service in this process: what may start, and when to look again at the rest."""

from __future__ import annotations

import math

import anyio

from saga._core.answers import Work, work_of
from saga._core.breaker import CallOutcome
from saga._core.rows import RunId, RunRow
from saga._core.words import Effects
from saga._runtime.context import ServiceContext

SHORTEST_PAUSE_SECONDS = 0.2
IN_VAIN = 4
"""How many rows are taken without room for them, where one of them may be work that calls nothing."""


class Tokens:
    """Count the work under way, all together and for each dependency; a token is free or not, nobody waits for one.

    A token is promised to a row that is about to be committed. A promise that is not kept, since its
    transaction rolled back, counts for half a lease; after that it is too late to call anyway.
    """

    def __init__(self, context: ServiceContext) -> None:
        """Start with every token free."""
        self._context = context
        self._throttles = context.throttles
        undos = [step.compensation for step in context.definition.steps if step.compensation is not None]
        # Work without a dependency may be due while every dependency is busy.
        self._needs_no_token = not self._throttles or any(undo.effects is Effects.LOCAL for undo in undos)
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
        self._promised.pop(run_id(run), None)
        while self._promised:
            first = next(iter(self._promised))
            if now - self._promised[first][1] < self._context.lease_seconds:
                break
            del self._promised[first]
        name = dependency_of(self._context, run)
        if name in self.behind or not self._has_room(name):
            self.behind.add(name)
            return False
        self._begin(name)
        self._promised[run_id(run)] = (name, now)
        return True

    def start(self, run: RunRow, *, promised_only: bool) -> bool:
        """Take the token of a leased row: the promised one, or one that is free; return whether it may be called."""
        name = dependency_of(self._context, run)
        promised = self._promised.pop(run_id(run), None) if run.revision == 1 else None
        if promised is not None and not self._is_kept(promised[1]):
            return False
        if promised is None and (promised_only or not self._has_room(name)):
            self.behind.add(name)
            return False
        if promised is None:
            self._begin(name)
        elif name and self._throttles[name].permits(self._used(name)) <= 0:
            self.behind.add(name)  # its breaker has opened since
            return False
        self.working += 1
        if name:
            self._calling[run_id(run), run.revision] = (name, anyio.current_time())
        return True

    def called(self, run: RunRow, outcome: CallOutcome | None) -> bool:
        """Give the dependency's token back once the call is over; return whether there was one.

        `outcome` is what the call has told about the dependency, None when nothing was heard.
        """
        name, began = self._calling.pop((run_id(run), run.revision), ("", 0.0))
        if name:
            took = anyio.current_time() - began
            self._seconds[name] = (7 * self._seconds.get(name, took) + took) / 8
            if outcome is not None:
                self._throttles[name].called(outcome, began=began)
        return bool(name)

    def ended(self, run: RunRow) -> None:
        """Count a piece of work out."""
        self.called(run, None)
        self.working -= 1

    def free(self) -> int:
        """Return how many rows may be taken: no more than can start, as far as that is known before they are read."""
        free = self._context.tuning.calls_in_flight - self.working - self._kept()
        if not self._throttles:
            return free
        room = sum(throttle.room(self._used(name)) for name, throttle in self._throttles.items())
        return min(free, room + (IN_VAIN if self._needs_no_token else 0))

    def pause_seconds(self, run: RunRow) -> float:
        """Return when to look at a row again that found its dependency busy or left alone.

        The rows given back come due one after another, twice as fast as the dependency is known to take
        them: it does not run dry, and few are taken in vain. None comes due while its breaker is open.
        """
        now = anyio.current_time()
        name = dependency_of(self._context, run)
        throttle = self._throttles.get(name)
        if throttle is None:
            first, step = now, 0.5
        else:
            first = now + throttle.wait_seconds()
            rate = throttle.rate_per_second() or math.inf
            step = max(self._seconds.get(name, 1.0) / throttle.dependency.concurrency, 1 / rate) / 2
        turn = max(first, self._turns.get(name, now)) + step
        self._turns[name] = min(turn, first + self._context.lease_seconds)
        pause = max(SHORTEST_PAUSE_SECONDS, self._turns[name] - first) * (0.5 + self._context.rng.random())
        return first - now + pause

    def held_seconds(self, run: RunRow) -> float:
        """Return when to look at a new row first: at once, or when its dependency is tried again."""
        throttle = self._throttles.get(dependency_of(self._context, run))
        return self.pause_seconds(run) if throttle is not None and throttle.wait_seconds() else 0.0

    def look_again_seconds(self) -> float | None:
        """Return when to look for rows again that time alone lets start; None when there are none.

        That is soon where a dependency is free while rows given back for it are about to come due, and when its rate
        has a token again.
        """
        now = anyio.current_time()
        names = {name for name, turn in self._turns.items() if turn > now and name in self._throttles}
        pauses = [SHORTEST_PAUSE_SECONDS for name in names if self._throttles[name].room(self._used(name)) > 0]
        short = [throttle.short_seconds() for throttle in self._throttles.values()]
        pauses += [max(SHORTEST_PAUSE_SECONDS / 2, seconds) for seconds in short if seconds]
        return min(pauses, default=None)

    def _begin(self, name: str) -> None:
        if name:
            self._throttles[name].begin()

    def _has_room(self, name: str) -> bool:
        if self.working + self._kept() >= self._context.tuning.calls_in_flight:
            return False
        return not name or self._throttles[name].room(self._used(name)) > 0

    def _used(self, name: str) -> list[float]:
        """Return when the calls to a dependency began, those that are promised among them."""
        used = [began for called, began in self._calling.values() if called == name]
        return used + [at for called, at in self._promised.values() if called == name and self._is_kept(at)]

    def _kept(self) -> int:
        return sum(self._is_kept(at) for _, at in self._promised.values())

    def _is_kept(self, promised_at: float) -> bool:
        return anyio.current_time() - promised_at < self._context.lease_seconds / 2


def run_id(run: RunRow) -> RunId:
    """Return what tells a run from all others of its service."""
    return (run.saga_id, run.step, run.branch)


def dependency_of(context: ServiceContext, run: RunRow) -> str:
    """Return the name of what a run's pending work calls; "" when it calls nothing, or nothing known here."""
    topology = context.plans.topology(run.plan)
    if topology is None or run.step in context.plans.fitness(context.service, run.plan).steps:
        return ""
    step = context.step(topology.plan.saga, topology.plan.version, run.step)
    undoing = work_of(run) is Work.COMPENSATE
    called = step.dependency if not undoing else step.compensation and step.compensation.dependency
    return called.name if called else ""
