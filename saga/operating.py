"""Look after what needs a person: `async with DeadLetterDesk("postgresql://…") as desk:` in any program."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Self

import anyio

from outbox.urls import open_operating_store
from saga._core.audit import AuditRow
from saga._core.inspecting import InstanceCount, InstanceFilter, SagaRows, UntoldEnd, place_of
from saga._core.letters import LetterFilter, LetterGroup
from saga._core.rows import DeliveryRow, InstanceRow
from saga.errors import Conflict, Contended, SettingsError, StoreUnavailable
from saga.ports import DeadLetters, OperatingStore

__all__ = [
    "AuditRow",
    "DeadLetterDesk",
    "DeliveryRow",
    "InstanceCount",
    "InstanceFilter",
    "InstanceRow",
    "LetterFilter",
    "LetterGroup",
    "Progress",
    "SagaRows",
    "UntoldEnd",
    "open_operating_store",
    "place_of",
]

PAGE = 100
TRIES = 6
PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Tell how far a pass has come: `letters` acted on so far, all up to `last_id` looked at."""

    letters: int
    last_id: int


class DeadLetterDesk:
    """List, replay and discard the dead letters of one database; an async context manager.

    `store` is the URL of a service's or a coordinator's database, or an open store, which stays its owner's.
    """

    def __init__(self, store: str | OperatingStore) -> None:
        """Check the URL without connecting; raises SettingsError."""
        self._own = open_operating_store(store) if isinstance(store, str) else None
        self._given = None if isinstance(store, str) else store
        self._stack: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises SettingsError when there are no tables of saga, StoreUnavailable."""
        async with AsyncExitStack() as stack:
            if self._own is not None:
                await stack.enter_async_context(self._own)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    @property
    def _letters(self) -> DeadLetters:
        store = self._own or self._given
        if store is None or self._stack is None:
            raise StoreUnavailable("the desk is not open: use it inside `async with desk:`")
        return store

    async def list(
        self, wanted: LetterFilter | None = None, *, after_id: int = 0, limit: int = PAGE
    ) -> Sequence[DeliveryRow]:
        """Read a page of letters, oldest first; go on behind the last one's `id`. None stands for all letters."""
        return await self._letters.list_dead(wanted or LetterFilter(), after_id=after_id, limit=limit)

    async def show(self, letter_id: int) -> DeliveryRow | None:
        """Read one letter with its raw message, None when it is not there or not dead any more."""
        return await self._letters.show_dead(letter_id)

    async def groups(self) -> Sequence[LetterGroup]:
        """Count the letters by service, step and beginning of the error; most first."""
        return await self._letters.group_dead()

    async def replay(
        self, wanted: LetterFilter, *, per_second: float = 50.0, who: str, why: str
    ) -> AsyncGenerator[Progress]:
        """Let letters be delivered again, page by page, and yield after each committed page.

        At most `per_second` letters a second on average, at most a second's worth (or 100) at once. Only what
        is dead when the pass begins is touched, so a letter that dies again is not replayed again by it.
        Stopping anywhere leaves whole pages done; calling it again goes on with what is still dead. Raises
        SettingsError for an empty `who` or `why` or a rate that is not positive, StoreUnavailable, and Contended
        when a page met others' locks six times.
        """
        check_signed(who, why)
        if not per_second > 0:
            raise SettingsError(f"per_second={per_second:g} replays nothing: name a number above 0, such as 50")
        letters = self._letters

        async def act(ids: Sequence[int]) -> int:
            return await letters.replay(ids, who=who, why=why)

        page = int(min(PAGE, max(1.0, per_second)))
        async with aclosing(_passes(letters, wanted, act, page)) as passes:
            done = 0
            async for progress in passes:
                yield progress
                await anyio.sleep((progress.letters - done) / per_second)
                done = progress.letters

    async def discard(self, wanted: LetterFilter, *, who: str, why: str) -> int:
        """Delete the letters for good, page by page, and return how many there were; safe to repeat.

        The audit trail keeps where each lay in its topic, but not what was in it. Raises as `replay` does.
        """
        check_signed(who, why)
        letters = self._letters

        async def act(ids: Sequence[int]) -> int:
            return await letters.discard(ids, who=who, why=why)

        done = 0
        async with aclosing(_passes(letters, wanted, act, PAGE)) as passes:
            async for progress in passes:
                done = progress.letters
        return done


Act = Callable[[Sequence[int]], Awaitable[int]]


def check_signed(who: str, why: str) -> None:
    """Raise SettingsError unless there is somebody and a reason for the audit trail."""
    if not (who.strip() and why.strip()):
        raise SettingsError("who= and why= go into the audit trail: name a person and a reason")


async def _passes(letters: DeadLetters, wanted: LetterFilter, act: Act, page: int) -> AsyncGenerator[Progress]:
    """Act on all letters that are dead now, a page at a time."""
    end = await letters.last_dead()
    bounded = replace(wanted, up_to_id=min(wanted.up_to_id or end, end))
    progress = Progress(letters=0, last_id=0)
    while end and (found := await letters.list_dead(bounded, after_id=progress.last_id, limit=page)):
        done = await _patiently(act, [letter.id for letter in found])
        progress = Progress(letters=progress.letters + done, last_id=found[-1].id)
        yield progress


async def _patiently(act: Act, ids: Sequence[int]) -> int:
    """Act on a page, again when others were at its rows; raises Contended or Conflict in the end."""
    for tries in range(1, TRIES):
        try:
            return await act(ids)
        except (Contended, Conflict):
            await anyio.sleep(PAUSE_SECONDS * 2.0**tries)
    return await act(ids)
