"""Spread a race over processes: `python -m tests.benchmarks.programs.product_processes`.

Option `processes`: 1 runs everything in this one; 2 gives the coordinator a process of its own, 3 and 4 share the
services out as well. The first service, which starts the sagas, stays here.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from saga._core.manifest import manifest_of
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga.app import App, Coordinator
from tests.benchmarks.place import SITTING, Sitting
from tests.benchmarks.programs import legs
from tests.benchmarks.programs.product_legs import LegsRace, create_user_tables, race_of
from tests.benchmarks.serve import serve

COORDINATOR = "coordinator"
PARTS: dict[int, list[tuple[str, ...]]] = {
    1: [("one", "two", "three", "four", COORDINATOR)],
    2: [("one", "two", "three", "four"), (COORDINATOR,)],
    3: [("one", "two"), ("three", "four"), (COORDINATOR,)],
    4: [("one",), ("two",), ("three", "four"), (COORDINATOR,)],
}


def app_of(sitting: Sitting, race: legs.Race, part: Sequence[str], plans: str) -> App:
    """Return what one process runs."""
    place = sitting.place
    services = [service for service in race.services if service.name in part]
    return App(
        services,
        store=place.services if services else None,
        transport=f"kafka://{place.kafka}?prefix={place.prefix}",
        coordinator=Coordinator(plans=plans, store=place.coordinator) if COORDINATOR in part else None,
    )


def write_plan(race: legs.Race, folder: str) -> None:
    """Write the plan the coordinator publishes: it sees no code of the services."""
    plan = build_plan("relay-race", 1, [manifest_of(one) for one in resolve_all(race.services)])
    (Path(folder) / "relay-race.v1.plan.json").write_bytes(plan_to_json(plan))


@asynccontextmanager
async def open_race(sitting: Sitting) -> AsyncGenerator[LegsRace]:
    """Run the first part here and every other in a process of its own, whose processor time counts too."""
    race = race_of(sitting)
    first, *others = PARTS[int(sitting.options["processes"])]
    await create_user_tables(sitting.place.services, sitting.shape, 0)
    with tempfile.TemporaryDirectory(prefix="saga-bench-") as plans:
        write_plan(race, plans)
        spawned = [spawn(sitting, part, plans) for part in others]
        try:
            async with app_of(sitting, race, first, plans):
                yield LegsRace(race, sitting.shape.note)
        finally:
            for process in spawned:
                process.send_signal(signal.SIGTERM)
            for process in spawned:
                process.wait(30)


def spawn(sitting: Sitting, part: Sequence[str], plans: str) -> subprocess.Popen[bytes]:
    """Start the process of one part."""
    theirs = replace(sitting, options={**sitting.options, "part": ",".join(part), "plans": plans})
    command = [sys.executable, "-m", "tests.benchmarks.programs.product_processes", SITTING.dump_json(theirs).decode()]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def main() -> None:
    """Be the measuring process, or the one of a part."""
    sitting = SITTING.validate_json(sys.argv[1])
    part = sitting.options.get("part")
    if part is None:
        serve(open_race)
    else:
        anyio.run(app_of(sitting, race_of(sitting), part.split(","), sitting.options["plans"]).run)


if __name__ == "__main__":
    main()
