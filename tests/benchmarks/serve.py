"""Be the process of one program: `serve(open_race)` measures what the command line asks for, a line of JSON a case."""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from importlib.util import find_spec
from itertools import count

import anyio

from saga._serving import GC_THRESHOLDS
from tests.benchmarks.loads import Race, closed, run_load
from tests.benchmarks.meters import Meter, cost
from tests.benchmarks.place import SITTING, Load, Sitting

WARM_OPEN = 32

OpenRace = Callable[[Sitting], AbstractAsyncContextManager[Race]]


def serve(open_race: OpenRace) -> None:
    """Run what the first argument asks for."""
    quiet()
    # As `App.serve` does; the programs written by hand have it as well.
    gc.set_threshold(*GC_THRESHOLDS)
    options = {"use_uvloop": find_spec("uvloop") is not None}
    anyio.run(sit, open_race, SITTING.validate_json(sys.argv[1]), backend_options=options)


def quiet() -> None:
    """Log warnings, but not that a new topic or group is not there yet, each try of which is an error to the client."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


async def sit(open_race: OpenRace, sitting: Sitting) -> None:
    """Open the program, warm it up and measure one load after another."""
    place = sitting.place
    meter = Meter(place.services, postgres_pid=place.postgres_pid, kafka_pid=place.kafka_pid)
    numbers = count(1)
    async with open_race(sitting) as race:
        if sitting.warm_seconds:
            await closed(race, WARM_OPEN, sitting.warm_seconds, numbers)
        for load in sitting.loads:
            gc.collect()
            say(await measure(race, load, numbers, meter))


async def measure(race: Race, load: Load, numbers: Iterator[int], meter: Meter) -> dict[str, object]:
    """Return one case's numbers."""
    before = await meter.read()
    taken = await run_load(race, load, numbers)
    spent = cost(before, await meter.read(), taken.sagas)
    return {"case": load.case, **taken.numbers(), **asdict(spent)}


def say(line: dict[str, object]) -> None:
    """Print one line of JSON at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
