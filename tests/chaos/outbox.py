"""Kill everything under events with and without a key: `python -m tests.chaos.outbox --kills 500 --restarts 50`.

Starts its own Kafka and PostgreSQL and exits non-zero with a sentence for every event that was lost, made up, out of
order or handled twice, for every saga that is not at its end, and for rows that were left behind.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread

from tests.chaos.outbox_ages import Ages
from tests.chaos.outbox_audit import audit
from tests.chaos.outbox_processes import NAMES, PLAIN
from tests.chaos.outbox_shop import There
from tests.chaos.outbox_summary import Options, Report, lines_of
from tests.chaos.outbox_world import QUERY, World
from tests.chaos.schedule import Crash, draw_crashes
from tests.testbed.brokers import LocalCluster
from tests.testbed.finding import ThisMachine, find
from tests.testbed.running import open_kafka, open_postgres
from tests.testbed.services import Kafka, Postgres, Service

UP_SECONDS = 90.0
DOWN_SECONDS = (0.0, 1.0)
FROZEN_SECONDS = (3.5, 6.0)
"""Longer than the leases of those that are frozen."""
AT_WORK = 0.8
"""The share of kills that go for what is at work; the others may take what is still coming up."""
AGAIN_SECONDS = 1.0
CALM_SECONDS = 3.0
WAITED_SECONDS = 20.0


class OneOfThree:
    """Be a cluster of which one broker dies at a time, another one each time."""

    def __init__(self, cluster: LocalCluster, rng: Random) -> None:
        self._cluster, self._rng = cluster, rng

    def start(self) -> None:
        """Start what is down and wait until everything is in sync."""
        self._cluster.start()

    def stop(self) -> None:
        """Do the same as `stop_immediate`."""
        self.stop_immediate()

    def stop_immediate(self) -> None:
        """Kill one broker."""
        self._rng.choice(self._cluster.brokers).stop_immediate()

    def close(self) -> None:
        """End all brokers."""
        self._cluster.close()


class OutboxRun:
    """Do it to one world."""

    def __init__(self, world: World, kafka: Kafka, postgres: Postgres, options: Options) -> None:
        """Draw everything from the seed; what the processes make of it is theirs."""
        self._world, self._options = world, options
        self._servers = (("PostgreSQL", postgres, options.restarts), ("Kafka", kafka, options.broker_kills))
        self._up_since: dict[str, float | None] = {name: time.monotonic() for name, _, _ in self._servers}
        self._began = time.monotonic()
        self.report = Report(options=options, ages=Ages(world, self._servers_up_since))

    async def run(self) -> Report:
        """Return once everything has drained or the time is over, with everything that is wrong."""
        options, report, world = self._options, self.report, self._world
        assert report.ages is not None
        for name in reversed(NAMES):  # the desks have the plan that the shops wait for
            world.forks[name].start()
        await self._until_up()
        self._began = time.monotonic()
        self._say(f"seed {options.seed}: all up, {options.kills} kills in {options.seconds:.0f} s")
        async with anyio.create_task_group() as background:
            background.start_soon(self._supervising)
            background.start_soon(report.ages.watch)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._killing)
                tasks.start_soon(self._freezing)
                for number, (name, server, count) in enumerate(self._servers):
                    crashes = draw_crashes(count, options.seconds, Random(options.seed + 10 + number))
                    tasks.start_soon(self._crashing, name, server, crashes)
            report.chaos_seconds = time.monotonic() - self._began
            await self._until_up()
            await anyio.sleep(CALM_SECONDS)
            self._say("the chaos is over, the writers stop")
            world.there.stop.touch()
            await self._drain()
            background.cancel_scope.cancel()
        codes = await anyio.to_thread.run_sync(world.end_all)
        report.problems += [f"{name} ended with exit code {code}" for name, code in codes.items() if code]
        self._say("all have ended, reading everything")
        await self._read()
        return report

    async def _drain(self) -> None:
        began, last = time.monotonic(), Counter[str]()
        while time.monotonic() - began < self._options.end_seconds:
            last = await self._world.open()
            if not last:
                break
            await anyio.sleep(0.3)
        else:
            self.report.problems.append(f"after {self._options.end_seconds:.0f} s there is still {dict(last)}")
        self.report.drain_seconds = time.monotonic() - began

    async def _read(self) -> None:
        report, ages = self.report, self.report.ages
        found = report.found = await self._world.found()
        report.problems += audit(found)
        undone = self._world.there.folder / "undone.log"
        report.undone.update(await anyio.to_thread.run_sync(lambda: undone.read_text().splitlines()))
        assert ages is not None
        for what, waited in (("with", ages.waited_keyed), ("without", ages.waited_swept)):
            if waited > WAITED_SECONDS:
                report.problems.append(f"a row {what} a key has waited for {waited:.1f} s for nothing")
        if report.done["kill"] < self._options.kills:
            report.problems.append(f"only {report.done['kill']} of {self._options.kills} kills happened")

    # --- what goes wrong -----------------------------------------------------------------------------------------

    async def _killing(self) -> None:
        options, rng = self._options, Random(self._options.seed)
        async with anyio.create_task_group() as tasks:
            for _ in range(options.kills):
                await anyio.sleep(options.gap_seconds * rng.uniform(0.2, 1.8))
                names, down = rng.sample(NAMES, k=len(NAMES)), rng.uniform(*DOWN_SECONDS)
                if rng.random() < AT_WORK:
                    names.sort(key=lambda name: not self._world.forks[name].up)
                while (name := next(filter(self._kill, names), "")) == "":  # noqa: ASYNC110 - nothing is alive to tell
                    await anyio.sleep(0.2)
                tasks.start_soon(self._start_later, name, down)

    def _kill(self, name: str) -> bool:
        fork = self._world.forks[name]
        was_up = fork.up
        if not fork.kill():
            return False
        self.report.done["kill"] += 1
        self.report.done["kill of what was at work"] += was_up
        return True

    async def _start_later(self, name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        self._world.forks[name].start()

    async def _freezing(self) -> None:
        options, rng = self._options, Random(self._options.seed + 5)
        for _ in range(options.freezes):
            gap, seconds = options.seconds / options.freezes, rng.uniform(*FROZEN_SECONDS)
            before = rng.uniform(0.0, max(0.0, gap - seconds))
            await anyio.sleep(before)
            fork = self._world.forks[rng.choice(PLAIN)]
            life = fork.lives
            fork.freeze()
            await anyio.sleep(seconds)
            if fork.lives == life and fork.frozen:
                fork.freeze(thaw=True)
                self.report.done["freeze survived"] += 1
            await anyio.sleep(max(0.0, gap - before - seconds))

    async def _crashing(self, name: str, server: Service, crashes: Sequence[Crash]) -> None:
        for crash in crashes:
            await anyio.sleep(max(0.0, self._began + crash.at_seconds - time.monotonic()))
            self._up_since[name] = None
            await anyio.to_thread.run_sync(server.stop_immediate)
            await anyio.sleep(crash.down_seconds)
            began = time.monotonic()
            await anyio.to_thread.run_sync(server.start)
            self._up_since[name] = time.monotonic()
            self.report.done[name] += 1
            self._say(f"{name} is back, it took {time.monotonic() - began:.1f} s")

    def _servers_up_since(self) -> float | None:
        times = list(self._up_since.values())
        return None if None in times else max(time for time in times if time is not None)

    # --- what is kept up -----------------------------------------------------------------------------------------

    async def _supervising(self) -> None:
        """Start again what ended by itself, as any supervisor does; it is counted."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.sleep(0.5)
                for name, fork in self._world.forks.items():
                    code = fork.fell()
                    if code is None:
                        continue
                    self.report.falls[f"{name}: {code}"] += 1
                    self._say(f"{name} ended by itself with code {code}")
                    tasks.start_soon(self._start_later, name, AGAIN_SECONDS)

    async def _until_up(self) -> None:
        with anyio.fail_after(UP_SECONDS):
            while missing := [name for name, fork in self._world.forks.items() if not fork.up]:
                for name in missing:
                    self._world.forks[name].start()
                await anyio.sleep(0.1)

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._began:6.1f} s  {text}\n")
        sys.stdout.flush()


async def run_outbox(kafka: Kafka, postgres: Postgres, folder: Path, options: Options) -> Report:
    """Make a world, do it, and leave nothing behind but the logs."""
    shop, desk = [await postgres.create_database(name) for name in ("shop", "desk")]
    await anyio.to_thread.run_sync(os.sync)  # a crashed server first syncs its whole directory
    there = There(folder=folder, kafka=f"kafka://{kafka.bootstrap}?{QUERY}", shop=shop, desk=desk)
    world = await World.make(there, kafka.bootstrap, options.seed)
    try:
        return await OutboxRun(world, kafka, postgres, options).run()
    finally:
        for fork in world.forks.values():
            fork.kill()


def main() -> int:
    """Run it and print what came of it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outbox", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--restarts", type=int, default=50, help="how often PostgreSQL crashes")
    parser.add_argument("--broker-kills", type=int, default=30, help="how often a Kafka broker is killed")
    parser.add_argument("--freezes", type=int, default=20, help="how often a process stands still for seconds")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--gap", type=float, default=1.6, help="mean seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--end", type=float, default=240.0, help="seconds to drain")
    given = parser.parse_args()
    options = Options(
        kills=given.kills,
        restarts=given.restarts,
        broker_kills=given.broker_kills,
        freezes=given.freezes,
        seed=given.seed,
        gap_seconds=given.gap,
        end_seconds=given.end,
    )
    folder = Path(tempfile.mkdtemp(prefix="saga-outbox-"))
    with ExitStack() as stack:
        if given.brokers == 1:
            kafka = stack.enter_context(closing(open_kafka(find("kafka", os.environ, ThisMachine()))))
        else:
            cluster = LocalCluster()
            kafka = stack.enter_context(closing(Kafka(OneOfThree(cluster, Random(given.seed)), cluster.bootstrap)))
            kafka.start()
        postgres = stack.enter_context(closing(open_postgres(find("postgres", os.environ, ThisMachine()))))
        report = anyio.run(run_outbox, kafka, postgres, folder, options)
    sys.stdout.write("\n".join(lines_of(report)) + f"\nlogs: {folder}\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
