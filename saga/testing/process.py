"""Run services as processes that can die: each its own app on its own database, on one broker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import anyio

from saga._core.declare import Service
from saga._runtime.processor import Processor
from saga._runtime.tracing import NullTracer
from saga.app import App, Coordinator, CoordinatorTuning, RowCaps, Tuning
from saga.ports import Transport
from saga.testing.handlers import Calls
from saga.testing.stage import HERE, Stage
from saga.testing.stores import StagedCoordination, StagedStore

Opened = TypeVar("Opened", StagedStore, StagedCoordination)

# Alarms ring on time; these polls only find what a dead process has left behind.
TUNING = Tuning(
    fetch_timeout_seconds=10.0, commit_every_seconds=0.0, waiting_poll_seconds=5.0, pending_poll_seconds=5.0
)
# A scenario has few rows, and days of virtual time.
ROW_CAPS = RowCaps(refresh_seconds=3_600.0)
COORDINATOR_TUNING = CoordinatorTuning(tick_seconds=1.0)
PARTITIONS = 2


class _App(App):
    """Be an app whose handlers are watched, whose jitter is the same every time, and that ends without draining."""

    def __init__(self, services: Sequence[Service], calls: Calls, seed: str, **options: Any) -> None:
        options |= {"row_caps": ROW_CAPS, "tracer": NullTracer()}
        super().__init__(services, drain_seconds=0.0, partitions=PARTITIONS, **options)
        self.definitions = tuple(calls.watched(definition) for definition in self.definitions)
        self._rng = Random(seed)  # noqa: S311 - jitter is no secret
        self._processor = Processor(lambda: 0.0)  # how busy this machine is must not change what happens


@dataclass(slots=True, kw_only=True, eq=False)
class Process:
    """Be one process of the scenario: up, or down for a while, or stopped until it is told to go on.

    Its database and the broker outlive it. `store` is None for the coordinator, `coordination` for services.
    """

    name: str
    services: tuple[Service, ...]
    stage: Stage
    calls: Calls
    transport: Transport
    store: StagedStore | None = None
    coordination: StagedCoordination | None = None
    seed: str = ""
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _up: anyio.Event = field(default_factory=anyio.Event)
    _wanted: anyio.Event = field(default_factory=anyio.Event)
    _back_at: float = 0.0
    _lives: int = 0

    def __post_init__(self) -> None:
        """Be wanted from the beginning."""
        self._wanted.set()

    async def live(self) -> None:
        """Come up, and come up again after every death, until cancelled."""
        HERE.set(self.name)
        while True:
            await self._wanted.wait()
            with anyio.CancelScope() as self._scope:
                async with self._app():
                    self._up.set()
                    await anyio.sleep_forever()
            # Its last tasks may have been held for a while: it is down for as long from its death on.
            await anyio.sleep_until(self._back_at)

    def kill(self, down_seconds: float = 0.0) -> None:
        """End the process at once; it comes up again after `down_seconds`. Does nothing while it is down."""
        if not self.is_dying:
            if self.is_up:  # else somebody waits for it already
                self._up = anyio.Event()
            self._back_at = anyio.current_time() + down_seconds
            self._scope.cancel()

    def stop(self) -> None:
        """End the process at once, and keep it down until `go_on`; does not block."""
        self._wanted = anyio.Event()
        self.kill()

    def go_on(self) -> None:
        """Let a stopped process come up again; does not block."""
        self._wanted.set()

    @property
    def is_dying(self) -> bool:
        """Return whether the process was killed and has not come up again."""
        return self._scope.cancel_called

    @property
    def is_up(self) -> bool:
        """Return whether the process is up."""
        return self._up.is_set()

    @property
    def is_wanted(self) -> bool:
        """Return whether the process is up, or will be by itself."""
        return self._wanted.is_set()

    async def wait_up(self) -> None:
        """Return when the process is up."""
        await self._up.wait()

    async def copy_to(self, folder: Path) -> None:
        """Copy the database into the file `<name>.db`."""
        store = self.coordination if self.coordination is not None else self.store
        assert store is not None
        await store.copy_to(folder / f"{self.name}.db")

    def _app(self) -> App:
        self._lives += 1
        seed = f"{self.seed}/{self.name}/{self._lives}"
        if self.coordination is not None:
            coordinator = Coordinator(store=self.coordination, tuning=COORDINATOR_TUNING)
            return _App((), self.calls, seed, transport=self.transport, coordinator=coordinator)
        return _App(
            self.services,
            self.calls,
            seed,
            store=self.store,
            transport=self.transport,
            tuning=TUNING,
        )


async def opened(stack: AsyncExitStack, store: Opened) -> Opened:
    """Open a store until `stack` ends, with its tables."""
    await stack.enter_async_context(store)
    await store.migrate()
    return store
