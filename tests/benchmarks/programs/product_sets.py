"""Write the saga with steps that take a whole batch: `python -m tests.benchmarks.programs.product_sets`.

Not to be had yet: declare four services with such steps here, as `product` does with steps that take one event, and
replace MISSING by an empty string.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.benchmarks.place import Sitting
from tests.benchmarks.programs.product import ProductRace
from tests.benchmarks.serve import serve

MISSING = "steps that take a whole batch are not in the project yet"


@asynccontextmanager
async def open_race(_sitting: Sitting) -> AsyncGenerator[ProductRace]:
    """Run everything in this process."""
    yield ProductRace()


if __name__ == "__main__":
    serve(open_race)
