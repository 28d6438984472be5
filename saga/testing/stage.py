"""Hold what all parts of a scenario share: the clock, the history, and the faults that are still to strike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import anyio
from anyio.abc import TaskGroup

from saga.errors import CommitUnknown
from saga.ports import Clock
from saga.testing.faults import Crash, Cut, Delay, Duplicate, Fault, Moment, ProcessFault, Reorder, in_words
from saga.testing.history import History

HERE: ContextVar[str] = ContextVar("saga_testing_process", default="")
"""The process that the current task belongs to; empty outside of all, where nothing dies."""

Struck = TypeVar("Struck", bound=ProcessFault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Say what becomes of one message: late, behind others, a copy `again` later, the death of its sender."""

    after: float = 0.0
    behind: bool = False
    again: float | None = None
    crash: Crash | None = None


PLAIN = Routing()


@dataclass(slots=True, kw_only=True)
class _Armed:
    fault: ProcessFault
    left: int


@dataclass(slots=True, kw_only=True)
class Stage:
    """Count what each process does, and let faults strike when their turn has come.

    `kill` is told the process that dies and for how long it is down; `is_dying` says whether it has been.
    `commits` and `messages` count what each process has done so far; a fault's number counts from when it
    was armed. `late` is how many copies of messages are still under way.
    """

    clock: Clock
    history: History
    tasks: TaskGroup
    kill: Callable[[str, float], None]
    is_dying: Callable[[str], bool]
    commits: Counter[str] = field(default_factory=Counter[str])
    messages: Counter[str] = field(default_factory=Counter[str])
    struck: list[Fault] = field(default_factory=list[Fault])
    late: int = 0
    sent: anyio.Event = field(default_factory=anyio.Event)
    _armed: list[_Armed] = field(default_factory=list[_Armed])

    def arm(self, fault: ProcessFault) -> None:
        """Let a fault strike when its turn comes; does not block."""
        self._armed.append(_Armed(fault=fault, left=fault.number))

    async def before_commit(self, steps: Sequence[str]) -> None:
        """Count a commit that is about `steps`; does not return when the process dies here."""
        process = HERE.get()
        if process:
            await self.stay_alive()
            self.commits[process] += 1
            await self._crash(process, Moment.BEFORE_COMMIT, steps)

    async def after_commit(self, steps: Sequence[str]) -> None:
        """Let the process die, or lose the answer, after a commit; raises CommitUnknown."""
        process = HERE.get()
        if not process:
            return
        await self._crash(process, Moment.AFTER_COMMIT, steps)
        if self._turn(Cut, process):
            msg = "the connection broke during COMMIT"
            raise CommitUnknown(msg)

    def route(self, step: str) -> Routing:
        """Count a message that is about `step` and return what becomes of it."""
        process = HERE.get()
        if not process:
            return PLAIN
        self.messages[process] += 1
        sent, self.sent = self.sent, anyio.Event()
        sent.set()
        if not self._armed:
            return PLAIN
        late, twice = self._turn(Delay, process), self._turn(Duplicate, process)
        return Routing(
            after=late[0].seconds if late else 0.0,
            behind=bool(self._turn(Reorder, process)),
            again=twice[0].seconds if twice else None,
            crash=next(iter(self._turn(Crash, process, Moment.AFTER_PUBLISH, (step,))), None),
        )

    async def stay_alive(self) -> None:
        """Return if the process of the current task lives; a dead one's tasks get no further than this."""
        if (process := HERE.get()) and self.is_dying(process):
            await anyio.sleep_forever()

    async def die(self, crash: Crash) -> NoReturn:
        """End the process of the current task: nothing that would come after this happens."""
        self.kill(crash.process, crash.down_seconds)
        await anyio.sleep_forever()
        raise AssertionError

    def strike(self, fault: Fault) -> None:
        """Note that a fault has struck; does not block."""
        self.struck.append(fault)
        self.history.note(f"FAULT: {in_words(fault)}")

    async def _crash(self, process: str, moment: Moment, steps: Sequence[str]) -> None:
        for crash in self._turn(Crash, process, moment, steps):
            await self.die(crash)

    def _turn(
        self, kind: type[Struck], process: str, moment: Moment | None = None, steps: Sequence[str] = ()
    ) -> list[Struck]:
        """Count down the faults that this concerns and return those whose turn it is."""
        found: list[Struck] = []
        for armed in list(self._armed):
            fault = armed.fault
            if not isinstance(fault, kind) or fault.process != process:
                continue
            if isinstance(fault, Crash) and (fault.moment is not moment or (fault.step and fault.step not in steps)):
                continue
            armed.left -= 1
            if armed.left == 0:
                self._armed.remove(armed)
                self.strike(fault)
                found.append(fault)
        return found
