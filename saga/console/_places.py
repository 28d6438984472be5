"""Open the databases that a console reads, and ask several at once without waiting long for one that is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import TypeVar
from urllib.parse import urlsplit

import anyio

from outbox.urls import open_overseeing_store, without_driver
from saga._core.queues import Problem
from saga.errors import SettingsError, StoreError, StoreUnavailable
from saga.ports.overseeing import OverseeingStore, Side

T = TypeVar("T")

COORDINATOR = "coordinator"
ANSWER_SECONDS = 10.0
AGAIN_SECONDS = 5.0


class Place:
    """Be one database: open, or to be opened once it answers."""

    def __init__(self, name: str, given: str | OverseeingStore) -> None:
        self.name = name
        self._own = open_overseeing_store(given) if isinstance(given, str) else None
        self._store = None if isinstance(given, str) else given
        self._lock = anyio.Lock()
        self._not_before = -AGAIN_SECONDS
        self._why = ""

    async def open(self, stack: AsyncExitStack) -> OverseeingStore:
        """Return the store, connected; raises StoreError or SettingsError, again without trying for some seconds."""
        async with self._lock:
            if self._store is None and self._own is not None:
                if anyio.current_time() < self._not_before:
                    raise StoreUnavailable(self._why)
                try:
                    self._store = await stack.enter_async_context(self._own)
                except (StoreError, SettingsError) as error:
                    self._not_before, self._why = anyio.current_time() + AGAIN_SECONDS, str(error)
                    raise
            if self._store is None:
                raise StoreUnavailable(f"{self.name} is not open")
            return self._store


class Places:
    """Be all databases of a console; `coordinator` is always the first of them."""

    def __init__(self, coordinator: str | OverseeingStore, services: Iterable[str | OverseeingStore]) -> None:
        """Check the URLs without connecting; raises SettingsError. A database named twice is opened once."""
        self._all = {COORDINATOR: Place(COORDINATOR, coordinator)}
        seen: set[object] = {_same(coordinator)}
        for given in services:
            if _same(given) not in seen:
                seen.add(_same(given))
                name = _free(_name(given), self._all)
                self._all[name] = Place(name, given)
        self._stack: AsyncExitStack | None = None

    async def open(self, stack: AsyncExitStack) -> None:
        """Connect to the coordinator's database; raises SettingsError when it is none, StoreUnavailable."""
        self._stack = stack
        store = await self._all[COORDINATOR].open(stack)
        if Side.COORDINATOR not in await store.sides():
            raise SettingsError(
                f"{store!r} belongs to no coordinator: name the database of the app that has a Coordinator(...)"
            )

    def close(self) -> None:
        """Be asked no more."""
        self._stack = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return the databases' names."""
        return tuple(self._all)

    async def get(self, name: str) -> OverseeingStore:
        """Return a database, connected; raises SettingsError for an unknown name, StoreUnavailable."""
        if name not in self._all:
            raise SettingsError(f"there is no database {name!r} here: it is one of {', '.join(self._all)}")
        if self._stack is None:
            raise StoreUnavailable("the reader is not open: use it inside `async with reader:`")
        return await self._all[name].open(self._stack)

    async def coordinator(self) -> OverseeingStore:
        """Return the coordinator's database; raises StoreUnavailable."""
        return await self.get(COORDINATOR)

    async def each(
        self, ask: Callable[[OverseeingStore], Awaitable[T]], names: Iterable[str] | None = None
    ) -> tuple[Mapping[str, T], tuple[Problem, ...]]:
        """Ask all databases at once; returns the answers by name, and why others did not answer within ten seconds."""
        return await self.each_named(lambda _, store: ask(store), names)

    async def each_named(
        self, ask: Callable[[str, OverseeingStore], Awaitable[T]], names: Iterable[str] | None = None
    ) -> tuple[Mapping[str, T], tuple[Problem, ...]]:
        """Ask as `each` does; what is asked may depend on the database's name."""
        wanted = tuple(self._all if names is None else names)
        found: dict[str, T] = {}
        problems: dict[str, Problem] = {}

        async def one(name: str) -> None:
            try:
                with anyio.fail_after(ANSWER_SECONDS):
                    found[name] = await ask(name, await self.get(name))
            except TimeoutError:
                problems[name] = Problem(where=name, sentence=f"no answer within {ANSWER_SECONDS:g} s")
            except (StoreError, SettingsError) as error:
                problems[name] = Problem(where=name, sentence=str(error))

        async with anyio.create_task_group() as tasks:
            for name in wanted:
                tasks.start_soon(one, name)
        return (
            {name: found[name] for name in wanted if name in found},
            tuple(problems[name] for name in wanted if name in problems),
        )


def _same(given: str | OverseeingStore) -> object:
    return without_driver(given) if isinstance(given, str) else id(given)


def _name(given: str | OverseeingStore) -> str:
    """Return a short name without anything that is secret: the database's, or the file's."""
    if not isinstance(given, str):
        return "services"
    path = urlsplit(given).path.rstrip("/").rpartition("/")[2]
    return path.removesuffix(".db").removesuffix(".sqlite").strip(":") or "services"


def _free(name: str, taken: Mapping[str, object]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
