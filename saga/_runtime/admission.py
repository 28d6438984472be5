"""Let a saga start, wait or be refused while a dependency is out that its plan calls."""

from __future__ import annotations

from typing import Any

import anyio

from saga._core.plan import Topology
from saga._core.start import Start, WhenOpen
from saga._runtime.fleet import Fleet
from saga.errors import Overloaded


async def admit(fleet: Fleet, start: Start[Any], topology: Topology, *, may_wait: bool) -> None:
    """Return when the saga may start; raises Overloaded when its declaration says so or it was held for long enough."""
    if start.when_open is WhenOpen.LET_THROUGH:
        return
    needed = sorted({step.calls for step in topology.plan.steps} - {""})
    holds = start.when_open is WhenOpen.HOLD and may_wait
    # Who may not wait may be in a thread without an event loop, and so without its clock.
    end = anyio.current_time() + start.hold_seconds if holds else None
    while (out := fleet.out(needed)) is not None:
        name, seconds = out
        left = 0.0 if end is None else end - anyio.current_time()
        if left <= 0:
            msg = (
                f"{start.name} ({start.saga}): {name} does not answer, and when_open={start.when_open}; "
                f"try again in {seconds:.0f} s"
            )
            raise Overloaded(msg, dependency=name, retry_after_seconds=seconds)
        await fleet.news(min(left, seconds))
