"""Do at once what several callers ask for at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

Asked = TypeVar("Asked")
Told = TypeVar("Told")


@dataclass(slots=True, eq=False)
class _Turn(Generic[Asked, Told]):
    asked: Asked
    woken: anyio.Event | None = None
    told: list[Told] = field(default_factory=list["Told"])
    error: Exception | None = None
    left: bool = False
    """Whether its caller has gone: nobody is there to be woken."""

    @property
    def is_over(self) -> bool:
        return self.error is not None or bool(self.told)

    def wake(self) -> None:
        """Wake its caller, where that waits; whoever does not looks by itself before it waits."""
        if self.woken is not None:
            self.woken.set()


class Together(Generic[Asked, Told]):
    """Gather what is asked while an earlier group is under way, and do it in one go.

    Nobody waits for company: whoever comes first goes alone. One of the callers does the work for all; when it is
    cancelled another one takes over, so `work` may see the same thing twice. `work` returns one answer for each thing
    asked, in order; what it raises everybody in the group gets.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Awaitable[Sequence[Told]]], *, limit: int) -> None:
        """Do at most `limit` things in one go."""
        self._work = work
        self._limit = limit
        self._queue: deque[_Turn[Asked, Told]] = deque()
        self._busy = False

    async def ask(self, asked: Asked) -> Told:
        """Return the answer; waits as long as the work takes, and for the group before."""
        turn: _Turn[Asked, Told] = _Turn(asked)
        self._queue.append(turn)
        try:
            while not turn.is_over:
                if self._busy:
                    turn.woken = anyio.Event()
                    await turn.woken.wait()
                else:
                    await self._lead()
        except BaseException:
            turn.left = True
            if turn in self._queue:
                self._queue.remove(turn)
            self._wake_next()
            raise
        if turn.error is not None:
            raise turn.error
        return turn.told[0]

    async def _lead(self) -> None:
        group = [self._queue.popleft() for _ in range(min(self._limit, len(self._queue)))]
        self._busy = True
        try:
            for turn, told in zip(group, await self._work([turn.asked for turn in group]), strict=True):
                turn.told.append(told)
        except Exception as error:  # noqa: BLE001 - raised again to everybody who asked
            for turn in group:
                turn.error = error
        except BaseException:
            self._queue.extendleft(turn for turn in reversed(group) if not turn.left)
            raise
        finally:
            self._busy = False
            for turn in group:
                turn.wake()
            self._wake_next()

    def _wake_next(self) -> None:
        if self._queue and not self._busy:
            self._queue[0].wake()
