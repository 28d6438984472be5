"""Try sagas out: play one through by hand, or let everything go wrong by itself, with the real handlers.

`scenario` runs services and a coordinator on SQLite and the memory transport in virtual time.
"""

from __future__ import annotations

from saga.testing.expecting import Expected
from saga.testing.faults import (
    COORDINATOR,
    Crash,
    Cut,
    Delay,
    Duplicate,
    Fail,
    Fault,
    Hang,
    Injected,
    Moment,
    Refuse,
    Reorder,
    When,
)
from saga.testing.scenario import Scenario, scenario
from saga.testing.simulator import Simulated, simulate
from saga.testing.unit import Published, published, run_for, unit
from saga.testing.virtual import ASYNCIO, EPOCH, VirtualClock, VirtualLoop, run, trio_backend

__all__ = [
    "ASYNCIO",
    "COORDINATOR",
    "EPOCH",
    "Crash",
    "Cut",
    "Delay",
    "Duplicate",
    "Expected",
    "Fail",
    "Fault",
    "Hang",
    "Injected",
    "Moment",
    "Published",
    "Refuse",
    "Reorder",
    "Scenario",
    "Simulated",
    "VirtualClock",
    "VirtualLoop",
    "When",
    "published",
    "run",
    "run_for",
    "scenario",
    "simulate",
    "trio_backend",
    "unit",
]
