"""Declare `saga watch`: how many sagas are in which phase, or what happens to one, as it happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import anyio
import typer

from outbox.urls import open_coordination_store
from saga._core.audit import AuditRow
from saga._core.inspecting import InstanceCount, InstanceFilter
from saga._core.instance import ENDED, Instance
from saga._core.stored_instance import STUCK_PHASE, instance_of
from saga._core.transitions import Transition, has_ended, transitions
from saga.cli.configuring import CoordinatorUrl, Json
from saga.cli.naming import whole_id
from saga.cli.saying import Exit, err, fail, moment, out, print_json, print_table, printable, sentences
from saga.operating import open_operating_store
from saga.ports import CoordinationStore, Inspection

Sleep = Callable[[float], Awaitable[None]]
Id = Annotated[
    str, typer.Argument(metavar="[SAGA_ID]", show_default=False, help="Only this saga, transition by transition.")
]
Every = Annotated[float, typer.Option("--every", min=0.1, metavar="SECONDS", help="How often to look.")]
Until = Annotated[
    bool, typer.Option("--until-ended", help="Stop when the saga has ended, or when no saga is open any more.")
]
For = Annotated[
    float, typer.Option("--for", min=0.0, metavar="SECONDS", help="Stop after so long; 0 goes on until Ctrl-C.")
]
Counts = Mapping[tuple[str, int, str], int]
ON_ITS_WAY_SECONDS = 15.0
"""How long what a person does may take to show: its command leaves within 5 s, and is answered by a service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """Say how often to look, for how long (0: for ever), and whether the end of everything is the end of it."""

    every_seconds: float
    for_seconds: float
    until_ended: bool
    sleep: Sleep = anyio.sleep


def watch(
    store: CoordinatorUrl,
    saga_id: Id = "",
    every: Every = 1.0,
    until_ended: Until = False,  # noqa: FBT002 - a switch
    for_: For = 0.0,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Tell what happens, as it happens: the number of sagas in each phase, or one saga's transitions.

    Exits 0 when what was waited for has come, 1 when `--for` was over before, or the saga is stuck.
    """
    looking = Looking(every_seconds=every, for_seconds=for_, until_ended=until_ended)
    with sentences():
        try:
            anyio.run(_watch, store, saga_id, looking, json)
        except KeyboardInterrupt:
            err.print("stopped")


async def _watch(store: str, saga_id: str, looking: Looking, json: bool) -> None:  # noqa: FBT001 - anyio.run
    async with AsyncExitStack() as stack:
        inspection = await stack.enter_async_context(open_operating_store(store))
        await inspection.find(InstanceFilter(), limit=1)  # says that it is no coordinator's
        if not saga_id:
            await _tell_counts(inspection, looking, json=json)
            return
        saga_id = await whole_id(store, saga_id)
        coordination = await stack.enter_async_context(open_coordination_store(store))
        await _tell_saga(coordination, inspection, saga_id, looking, json=json)


# --- one saga --------------------------------------------------------------------------------------------------


async def _tell_saga(
    store: CoordinationStore, inspection: Inspection, saga_id: str, looking: Looking, *, json: bool
) -> None:
    last: Instance | None = None
    async with aclosing(saga_changes(store, saga_id, looking, inspection)) as changes:
        async for change in changes:
            # What was seen to happen has that time; what had happened before may have none.
            seen = f"~{_clock()}" if last is not None else "-"
            last = change[0]
            for each in change[1]:
                _tell(saga_id, each, seen, json=json)
    if last is None:
        fail([f"this coordinator knows no saga {saga_id}: look at the ID, and at the database's URL"], Exit.NOTHING)
    elif last.stuck is not None and not has_ended(last):
        fail([f"it is stuck: saga explain {saga_id} says what helps"], Exit.NOTHING)
    elif looking.until_ended and not has_ended(last):
        fail([f"it has not ended within {looking.for_seconds:g} s"], Exit.NOTHING)


async def saga_changes(
    store: CoordinationStore, saga_id: str, looking: Looking, inspection: Inspection | None = None
) -> AsyncGenerator[tuple[Instance, Sequence[Transition]]]:
    """Yield a saga and what has happened to it, at first all there was, until it ends, is stuck, or the time is over.

    One query a look. A saga that is not known yet is waited for where `for_seconds` says for how long. With
    `inspection` a stuck one is watched on while what a person has just done about it is on its way.
    """
    before: Instance | None = None
    async with aclosing(_looks(looking)) as looks:
        async for _ in looks:
            row = (await store.load([saga_id])).get(saga_id)
            if row is None:
                if looking.for_seconds:
                    continue
                return
            after = instance_of(row)
            if news := transitions(before, after):
                yield after, news
            before = after
            if has_ended(after):
                return
            if looking.until_ended and after.stuck is not None:
                acts = await inspection.audits(saga_id, limit=1) if inspection is not None else ()
                if not is_on_its_way(acts, await store.now()):
                    return


def is_on_its_way(acts: Sequence[AuditRow], now: datetime) -> bool:
    """Return whether what somebody has done may not have reached its service yet, or the answer not have come."""
    return any(now - act.at < timedelta(seconds=ON_ITS_WAY_SECONDS) for act in acts)


def _tell(saga_id: str, each: Transition, seen: str, *, json: bool) -> None:
    if json:
        run = {"step": each.run.step, "branch": each.run.branch} if each.run is not None else None
        print_json({"saga_id": saga_id, "at": each.at, "text": each.text, "run": run})
    else:
        at = moment(each.at) if each.at is not None else seen
        out.print(f"{at:<21}  {printable(each.text)}")


# --- all of them -----------------------------------------------------------------------------------------------


async def _tell_counts(store: Inspection, looking: Looking, *, json: bool) -> None:
    ended, first = False, True
    async with aclosing(count_changes(store, looking)) as changes:
        async for counts, differences in changes:
            _tell_count(counts, {} if first else differences, json=json)
            first = False
            ended = not _open(counts)
    if looking.until_ended and not ended:
        fail([f"sagas are still open after {looking.for_seconds:g} s"], Exit.NOTHING)


async def count_changes(store: Inspection, looking: Looking) -> AsyncGenerator[tuple[Counts, Counts]]:
    """Yield the number of sagas by name, version and phase, and the differences, whenever something has changed."""
    before: Counts | None = None
    async with aclosing(_looks(looking)) as looks:
        async for _ in looks:
            counts = _counted(await store.counts())
            if counts != before:
                known: Counts = before if before is not None else {}
                keys = sorted({*counts, *known})
                yield counts, {key: d for key in keys if (d := counts.get(key, 0) - known.get(key, 0))}
            before = counts
            if looking.until_ended and not _open(counts):
                return


def _counted(rows: Sequence[InstanceCount]) -> Counts:
    return {(row.saga, row.version, row.phase): row.sagas for row in rows}


def _open(counts: Counts) -> int:
    ended = {phase.value for phase in ENDED}
    return sum(sagas for (_, _, phase), sagas in counts.items() if phase not in ended)


def _tell_count(counts: Counts, differences: Counts, *, json: bool) -> None:
    if json:
        sagas = [
            {"saga": saga, "version": version, "phase": phase, "sagas": number}
            for (saga, version, phase), number in counts.items()
        ]
        print_json({"open": _open(counts), "sagas": sagas})
        return
    stuck = sum(number for (_, _, phase), number in counts.items() if phase == STUCK_PHASE)
    out.print(f"{_clock()}  {_open(counts)} open, {stuck} stuck")
    rows = [(f"{saga} v{version}", phase, str(number)) for (saga, version, phase), number in counts.items()]
    changed = [f"{differences.get(key, 0):+d}" if key in differences else "" for key in counts]
    print_table(("saga", "phase", "sagas", ""), [(*row, sign) for row, sign in zip(rows, changed, strict=True)])


def _clock() -> str:
    return moment(datetime.now().astimezone())


async def _looks(looking: Looking) -> AsyncGenerator[None]:
    """Yield now and every so often, until the time is over; the last look comes at its end."""
    until = anyio.current_time() + looking.for_seconds
    while True:
        yield
        left = until - anyio.current_time() if looking.for_seconds else looking.every_seconds
        if left <= 0:
            return
        await looking.sleep(min(looking.every_seconds, left))
