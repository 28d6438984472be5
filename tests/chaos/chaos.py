"""Run the chaos: place orders, kill processes, crash the database, then let everything come to an end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread
import httpx

from tests.chaos.audit import Receipts, audit
from tests.chaos.basket import fill
from tests.chaos.facts import Facts
from tests.chaos.placing import Placer
from tests.chaos.schedule import Crash, Kill, draw_crashes, draw_kills
from tests.chaos.world import World, open_world
from tests.testbed.services import Kafka, Postgres, Service

REPAIR_EVERY_SECONDS = 15.0
"""The down card works again that long after each look; the gateway's next death forgets the repair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Say how much chaos: `restarts` are crashes of PostgreSQL, `gap_seconds` is the mean time between two kills."""

    sagas: int = 2000
    kills: int = 60
    restarts: int = 3
    broker_crashes: int = 0
    seed: int = 1
    gap_seconds: float = 4.0
    end_seconds: float = 240.0
    logs: Path

    @property
    def seconds(self) -> float:
        """Return how long the chaos lasts at least."""
        return self.kills * self.gap_seconds


@dataclass(slots=True, kw_only=True)
class Report:
    """Hold what came of a run; `problems` is empty when all is well."""

    options: Options
    receipts: Receipts = field(default_factory=Receipts)
    kills: Counter[str] = field(default_factory=Counter[str])
    falls: Counter[str] = field(default_factory=Counter[str])
    crashes: Counter[str] = field(default_factory=Counter[str])
    chaos_seconds: float = 0.0
    end_seconds: float = 0.0
    facts: Facts | None = None
    problems: list[str] = field(default_factory=list[str])


class Chaos:
    """Do it to one world."""

    def __init__(self, world: World, kafka: Kafka, postgres: Postgres, options: Options) -> None:
        """Draw everything from the seed; what the processes make of it is theirs."""
        self._world = world
        self._servers = (("PostgreSQL", postgres, options.restarts), ("Kafka", kafka, options.broker_crashes))
        self._options = options
        self._began = time.monotonic()
        self.report = Report(options=options)

    async def run(self) -> Report:
        """Return once every saga has ended or the time is over, with everything that is wrong."""
        options, report, world = self._options, self.report, self._world
        orders = fill(options.sagas, Random(options.seed))
        placer = Placer(world.orders, report.receipts, Random(options.seed + 1))
        world.start()
        await world.wait_until_up()
        self._began = time.monotonic()
        self._say(f"up; {options.sagas} sagas over {options.seconds:.0f} s")
        async with anyio.create_task_group() as background:
            background.start_soon(self._repairing)
            background.start_soon(self._supervising)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(placer.place_all, orders, options.seconds)
                tasks.start_soon(self._killing)
                for number, (name, server, count) in enumerate(self._servers):
                    crashes = draw_crashes(count, options.seconds, Random(options.seed + 10 + number))
                    tasks.start_soon(self._crashing, name, server, crashes)
            background.cancel_scope.cancel()
        report.chaos_seconds = time.monotonic() - self._began
        self._say("the chaos is over, waiting for the end of every saga")
        await self._end()
        return report

    async def _end(self) -> None:
        report, world = self.report, self._world
        began = time.monotonic()
        world.start()
        await world.wait_until_up()
        await world.repair_gateway()
        if not await world.wait_until_ended(self._options.end_seconds):
            report.problems.append(f"not everything had ended {self._options.end_seconds:.0f} s after the chaos")
        report.end_seconds = time.monotonic() - began
        report.facts = await world.facts()
        report.kills = Counter({name: role.kills for name, role in world.roles.items()})
        report.problems += audit(report.facts, report.receipts)
        if sum(report.kills.values()) < self._options.kills:
            report.problems.append(f"only {sum(report.kills.values())} of {self._options.kills} kills happened")

    # --- what goes wrong -----------------------------------------------------------------------------------------

    async def _killing(self) -> None:
        options = self._options
        kills = draw_kills(list(self._world.roles), options.kills, options.gap_seconds, Random(options.seed))
        async with anyio.create_task_group() as tasks:
            for kill in kills:
                await anyio.sleep(kill.after_seconds)
                while not (killed := self._kill(kill)):  # noqa: ASYNC110 - nothing is alive to tell
                    await anyio.sleep(0.2)
                for name in killed:
                    tasks.start_soon(self._start_later, name, kill.down_seconds)

    def _kill(self, kill: Kill) -> list[str]:
        killed = [name for name in kill.together if self._world.kill(name)]
        if not killed:
            alive = next((name for name in kill.wanted if self._world.roles[name].alive), "")
            killed = [alive] if alive and self._world.kill(alive) else []
        return killed

    async def _start_later(self, name: str, seconds: float) -> None:
        self._say(f"killed {name}, starts again after {seconds:.1f} s")
        await anyio.sleep(seconds)
        self._world.start(name)

    async def _crashing(self, name: str, server: Service, crashes: Sequence[Crash]) -> None:
        for crash in crashes:
            await anyio.sleep(max(0.0, self._began + crash.at_seconds - time.monotonic()))
            await anyio.to_thread.run_sync(server.stop_immediate)
            self._say(f"{name} has crashed, starts again after {crash.down_seconds:.1f} s")
            await anyio.sleep(crash.down_seconds)
            await anyio.to_thread.run_sync(server.start)
            self.report.crashes[name] += 1

    async def _repairing(self) -> None:
        while True:
            await anyio.sleep(REPAIR_EVERY_SECONDS)
            try:
                await self._world.repair_gateway()
            except httpx.TransportError:
                continue

    async def _supervising(self) -> None:
        """Start again what ended by itself, as any supervisor does; it is counted."""
        while True:
            await anyio.sleep(0.5)
            for name, role in self._world.roles.items():
                code = role.fell()
                if code is not None:
                    self.report.falls[name] += 1
                    self._say(f"{name} ended by itself with code {code}, starting it again")
                    role.start()

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._began:6.1f} s  {text}\n")
        sys.stdout.flush()


async def run_chaos(kafka: Kafka, postgres: Postgres, options: Options) -> Report:
    """Build a world, do the chaos to it, and leave nothing behind but the logs."""
    async with open_world(kafka, postgres, options.logs) as world:
        return await Chaos(world, kafka, postgres, options).run()
