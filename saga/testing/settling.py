"""Wait until nothing is left to do, and look for what must not be left over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

import anyio

from saga._core.instance import Phase
from saga._core.words import Ending
from saga.errors import Contended
from saga.ports import Claim
from saga.testing.scenario import Scenario

LOOK_FIRST_SECONDS = 0.1
LOOK_CAP_SECONDS = 5.0
STUCK = "stuck"

_LEFT = """
select (select count(*) from saga_outbox) as messages,
       (select count(*) from saga_delivery where reason <> 'dead') as deliveries,
       (select count(*) from saga_run where pending_at is not null) as calls,
       (select count(*) from saga_run where step like '%.start' and outcome is null) as sagas
"""
_DEAD = "select service, saga_id, step, error from saga_delivery where reason = 'dead'"

_ENDINGS = {
    Phase.COMPLETED.value: Ending.COMPLETED,
    Phase.COMPENSATED.value: Ending.COMPENSATED,
    STUCK: Ending.STUCK,
}


async def settle(s: Scenario) -> None:
    """Return once every saga has ended and nothing is under way; raises AssertionError when that takes too long.

    After an end as stuck something may be tried for ever: then what is under way is not waited for.
    """
    left: dict[str, int] = {}
    pause = LOOK_FIRST_SECONDS
    with anyio.move_on_after(s.patience.total_seconds()):
        while True:
            left = await _left(s)
            if not left:
                return
            await anyio.sleep(pause)
            pause = min(LOOK_CAP_SECONDS, pause * 1.5)
    what = ", ".join(f"{number} {name}" for name, number in left.items())
    msg = f"not everything has ended within {s.patience}; left are {what}"
    raise AssertionError(msg)


async def _left(s: Scenario) -> dict[str, int]:
    phases = s.stage.history.phases
    left = {
        "processes": sum(not process.is_up for process in s.processes.values()),
        "messages": s.stage.late,
        "sagas": sum(phase not in _ENDINGS for phase in phases.values()),
    }
    if any(left.values()):
        return left
    try:
        async for row in _rows(s, _LEFT):
            for name, number in row.items():
                left[name] = left.get(name, 0) + number
    except Contended:  # a handler that hangs keeps its transaction, and SQLite has one, for as long as this waits
        return {"transactions": 1}
    if STUCK in phases.values() and not left["sagas"]:
        return {}
    for process in s.processes.values():
        if process.coordination is not None:
            left["messages"] += (await process.coordination.pending())[0]
    return {name: number for name, number in left.items() if number}


async def _rows(s: Scenario, sql: str) -> AsyncIterator[Mapping[str, Any]]:
    for process in s.processes.values():
        if process.store is not None:
            async with process.store.unit(Claim(service=process.name, sagas=())) as unit:
                rows = await unit.db.fetch(sql)
            for row in rows:
                yield row


async def problems(s: Scenario, allowed: Collection[Ending]) -> list[str]:
    """Return one sentence for everything that saga itself promises and that is not so."""
    history = s.stage.history
    found = list(history.problems)
    dead = [row async for row in _rows(s, _DEAD)]
    found += [f"{row['service']} has a dead letter of {row['saga_id']}, {row['step']}: {row['error']}" for row in dead]
    for saga_id, phase in history.phases.items():
        ending = _ENDINGS.get(phase)
        if ending is not None and ending not in allowed:
            found.append(f"saga {saga_id} has ended {ending.value}")
        undone = {key for key in history.undone if key[0] == saga_id}
        if ending is Ending.COMPLETED and undone:
            steps = ", ".join(step for _, step, _ in undone)
            found.append(f"saga {saga_id} has ended completed, but {steps} is undone")
        if ending is Ending.COMPENSATED:
            kept = {key for key in history.done if key[0] == saga_id and key[1] in s.calls.undoable} - undone
            if kept:
                found.append(f"saga {saga_id} has ended compensated, but {', '.join(k[1] for k in kept)} is not undone")
    return found
