"""Ask everything that a running app needs whether it is well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

import anyio

from saga._core.readiness import Check, CheckState, Readiness, Stage
from saga._crew import Crew
from saga._runtime.planbook import PlanBook
from saga.errors import SagaError
from saga.ports import CoordinationStore, Store, Transport

PROBE_SECONDS = 2.0
FRESH_SECONDS = 1.0
"""How long an answer counts: whoever asks more often learns nothing, and would only keep the broker busy."""

Ask = Callable[[], Awaitable[object]]


@dataclass(slots=True, kw_only=True)
class Probes:
    """Be what can be asked of an app as far as it has come up; made anew each time it does."""

    book: PlanBook
    transport: Transport | None = None
    store: Store | None = None
    coordination: CoordinationStore | None = None
    crew: Crew | None = None
    awaits: str = ""
    _said: Readiness | None = None
    _said_at: float = 0.0
    _asking: anyio.Lock = field(default_factory=anyio.Lock)

    async def readiness(self) -> Readiness:
        """Ask all at once, each for at most two seconds; an answer counts for a second."""
        async with self._asking:
            if self._said is None or anyio.current_time() - self._said_at >= FRESH_SECONDS:
                self._said = await self._ask()
                self._said_at = anyio.current_time()
            return self._said

    async def _ask(self) -> Readiness:
        asked = list(self._questions())
        found: dict[str, Check] = {}

        async def ask(name: str, question: Ask) -> None:
            found[name] = await checked(name, question)

        async with anyio.create_task_group() as tasks:
            for name, question in asked:
                tasks.start_soon(ask, name, question)
        return Readiness(checks=(*(found[name] for name, _ in asked), *self._seen()))

    def _questions(self) -> Iterator[tuple[str, Ask]]:
        store, coordination, transport = self.store, self.coordination, self.transport
        if store is not None:
            yield "store", lambda: store.committed(())
        if coordination is not None:
            yield "coordinator store", coordination.now
        if transport is not None:
            yield "transport", lambda: transport.ensure_topics(())

    def _seen(self) -> Iterator[Check]:
        """Yield what needs no asking."""
        yield _check("plans", "; ".join(self.book.missing()))
        crew = self.crew
        if crew is None:
            return
        away = "has not joined its group; the log says why, if it lasts"
        for participant in crew.participants:
            yield _check(f"service {participant.group.name}", "" if participant.presence.is_there else away)
        if crew.shell is not None:
            yield _check("coordinator", "" if crew.shell.presence.is_there else away)


async def checked(name: str, question: Ask) -> Check:
    """Return what came of a question, and how long the answer took."""
    began, reason = anyio.current_time(), f"no answer within {PROBE_SECONDS:g} s"
    with anyio.move_on_after(PROBE_SECONDS):
        try:
            await question()
            reason = ""
        except SagaError as error:
            reason = str(error)
    return replace(_check(name, reason), seconds=round(anyio.current_time() - began, 4))


async def readiness_at(stage: Stage, probes: Probes | None) -> Readiness:
    """Return how an app is at a stage of its life, with what can be asked of it then."""
    waits = f", waiting for {probes.awaits}" if probes is not None and stage is Stage.STARTING else ""
    own = _check("app", "" if stage is Stage.RUNNING else f"is {stage}{waits}")
    return Readiness(checks=(own, *((await probes.readiness()).checks if probes is not None else ())))


def _check(name: str, reason: str) -> Check:
    return Check(name=name, state=CheckState.FAILED if reason else CheckState.OK, reason=reason)
