"""Carry the scenario's messages in memory, some of them late, twice or in another order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from saga._core.envelope import Delivery, Message
from saga._core.topics import PLANS
from saga.ports import Table
from saga.testing.stage import PLAIN, Routing, Stage
from transports.memory import MemoryTransport
from transports.memory.transport import MemoryPublisher

BEHIND = 2
"""How many others overtake a message that is held back."""
BEHIND_SECONDS = 1.0
PATIENT_SECONDS = 60.0
OUT_SECONDS = 0.001
"""How long a process lives on after the message that it dies after."""


class StagedPublisher(MemoryPublisher):
    """Store messages as the stage routes them; the caller is answered as by any publisher."""

    stage: Stage

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        """Store a batch and return once each message has taken effect; see `saga.ports.Publisher`."""
        await self.stage.stay_alive()
        routes = [PLAIN if message.topic == PLANS else self.stage.route(_step_of(message)) for message in messages]
        if all(route is PLAIN or route == PLAIN for route in routes):
            return await super().publish(messages)
        results: list[BaseException | None] = [None] * len(messages)
        async with anyio.create_task_group() as tasks:
            for index, (message, route) in enumerate(zip(messages, routes, strict=True)):
                tasks.start_soon(self._one, message, route, results, index)
            for route in routes:
                if route.crash is not None:
                    await anyio.sleep(OUT_SECONDS)
                    await self.stage.die(route.crash)
        return results

    async def _one(self, message: Message, route: Routing, results: list[BaseException | None], index: int) -> None:
        if route.again is not None:
            # The copy is on its way whatever becomes of the sender.
            self.stage.late += 1
            self.stage.tasks.start_soon(self._late, message, route.after + route.again)
        if route.behind:
            with anyio.move_on_after(BEHIND_SECONDS):
                for _ in range(BEHIND):
                    await self.stage.sent.wait()
        await anyio.sleep(route.after)
        results[index] = (await super().publish([message]))[0]

    async def _late(self, message: Message, seconds: float) -> None:
        await anyio.sleep(seconds + OUT_SECONDS)
        self.stage.history.note(f"a copy of {_name_of(message)} arrives")
        await super().publish([message])
        self.stage.late -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _PatientTable:
    """Wait longer for what hardly ever comes: every look costs a virtual second something in real time."""

    table: Table

    async def changes(self, timeout_seconds: float) -> Sequence[Delivery]:
        return await self.table.changes(max(timeout_seconds, PATIENT_SECONDS))

    async def caught_up(self) -> bool:
        return await self.table.caught_up()


def _step_of(message: Message) -> str:
    return _header(message, "ce_sagastep")


def _name_of(message: Message) -> str:
    return f"{_header(message, 'ce_type')} {_header(message, 'ce_sagastep')} on {message.topic}"


def _header(message: Message, wanted: str) -> str:
    return next((value.decode(errors="replace") for name, value in message.headers if name == wanted), "")


class StagedTransport(MemoryTransport):
    """Be the broker of a scenario; it outlives the processes, as a broker does."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(clock_ns=lambda: 1_000_000, incarnation=lambda: "scenario")
        self._stage = stage

    @asynccontextmanager
    async def publisher(self) -> AsyncGenerator[StagedPublisher]:
        """Open a publisher."""
        async with super().publisher():
            publisher = StagedPublisher(self._topics, self._groups, self._publish_timeout_seconds)
            publisher.stage = self._stage
            yield publisher

    @asynccontextmanager
    async def table(self, topic: str) -> AsyncGenerator[Table]:  # type: ignore[override]
        """Open a reader of a compacted topic."""
        async with super().table(topic) as table:
            yield _PatientTable(table=table)
