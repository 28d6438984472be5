"""Hold code, manifests and plan files against what is open and what runs: `saga check --live`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from outbox.urls import open_coordination_store
from saga._core.announcing import Live, Replica, unplanned
from saga._core.fitting import unfit
from saga._core.manifest import Manifest
from saga._core.plan import Plan
from saga._core.planning import plan_from_json
from saga._core.topics import MANIFESTS
from saga._runtime.drift import Announced
from saga.cli.planfiles import plan_path, read_plan
from saga.cli.targets import BadTarget
from saga.errors import PlanError, StoreError, TransportUnavailable
from saga.ports.fleet import OpenPlans
from transports.urls import open_transport

READ_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Hold what is live: plans the coordinator has stored, open sagas by plan, and what replicas announce.

    `running` and `manifests` are None where nobody has looked for them.
    """

    stored: tuple[Plan, ...]
    open: Mapping[str, int]
    running: tuple[Live, ...] | None = None
    manifests: Mapping[str, Manifest] = field(default_factory=dict[str, Manifest])


def look(store: str, transport: str | None) -> Seen:
    """Return what is live; blocks. Raises BadTarget, StoreError, TransportError."""
    _check_file(store)
    return anyio.run(_look, store, transport)


def _check_file(store: str) -> None:
    """Refuse a SQLite file that does not exist: opening it would make one."""
    path = store.removeprefix("sqlite:///")
    if path != store and not Path(path).is_file():
        raise BadTarget(f"--store {store}: there is no such file")


async def _look(store: str, transport: str | None) -> Seen:
    async with open_coordination_store(store) as coordination:
        if not isinstance(coordination, OpenPlans):
            raise StoreError(f"{coordination!r} cannot say which sagas are open")
        open_ = await coordination.open_plans()
        stored = tuple(plan_from_json(row.body) for row in await coordination.put_plans(()))
    if transport is None:
        return Seen(stored=stored, open=open_)
    announced = await _announced(transport)
    return Seen(stored=stored, open=open_, running=tuple(announced.live.values()), manifests=announced.manifests)


async def _announced(url: str) -> Announced:
    announced = Announced()
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(open_transport(url))
        with anyio.move_on_after(READ_SECONDS):
            table = await stack.enter_async_context(transport.table(MANIFESTS))
            while not await table.caught_up():
                for delivery in await table.changes(1.0):
                    try:
                        announced.take(delivery, 0.0)
                    except PlanError:
                        continue  # the coordinator warns of what cannot be read
            return announced
    raise TransportUnavailable(f"{url}: {MANIFESTS} could not be read to its end within {READ_SECONDS:g} s")


def check_live(
    manifests: Sequence[Manifest], made: Sequence[Plan], folder: Path, store: str, transport: str | None
) -> tuple[str, ...]:
    """Return one sentence for each difference between the targets, the folder's plan files and what is live; blocks."""
    filed = [read_plan(path) for plan in made if (path := plan_path(folder, plan)).is_file()]
    return live_problems(manifests, filed, look(store, transport))


# --- findings ---------------------------------------------------------------------------------------------


def live_problems(manifests: Sequence[Manifest], filed: Sequence[Plan], seen: Seen) -> tuple[str, ...]:
    """Return one sentence for each thing that open sagas or running replicas are going to miss."""
    plans = {plan.hash: plan for plan in seen.stored}
    found = [
        f"{_sagas(count)} under plan {hash_[:12]}, which the coordinator's database does not have; "
        "start a coordinator with its plan file"
        for hash_, count in sorted(seen.open.items())
        if hash_ not in plans
    ]
    for hash_, count in sorted(seen.open.items()):
        if hash_ in plans:
            found += _missed(manifests, plans[hash_], count)
            found += _unserved(seen, plans[hash_], count)
    for plan in filed:
        found += _outrun(plan, seen.stored)
    return (*found, *_misfits(seen))


def _missed(manifests: Sequence[Manifest], plan: Plan, count: int) -> Iterator[str]:
    """Yield what the targets' code cannot do of a plan with open sagas."""
    for manifest in manifests:
        for sentence in _unfit(manifest, plan).values():
            yield (
                f"{sentence}; {_sagas(count)} under that plan: keep what it needs in the code until they have ended, "
                "or make the change a new version of the saga"
            )
        part = next((p for p in manifest.sagas if (p.saga, p.version) == (plan.saga, plan.version)), None)
        starts = part.starts_with if part is not None else ""
        if plan.starter == manifest.service and starts != plan.start_event:
            yield (
                f"{plan.start} ({_title(plan)}): starts with {starts or 'nothing'} in this code and with "
                f"{plan.start_event} in the plan; {_sagas(count)} under that plan, whose end this code cannot be told"
            )


def _unserved(seen: Seen, plan: Plan, count: int) -> Iterator[str]:
    """Yield the steps of a plan with open sagas that no running replica can run."""
    if seen.running is None:
        return
    for service in sorted({step.service for step in plan.steps}):
        running = [
            manifest
            for live in seen.running
            if live.replica.service == service and (manifest := seen.manifests.get(live.hash)) is not None
        ]
        if not running:
            yield f"no replica of {service} is running, and {_sagas(count)} under {_title(plan)}"
            continue
        unable = [_unfit(manifest, plan) for manifest in running]
        for step in sorted(name for name in unable[0] if all(name in each for each in unable)):
            yield f"no running replica of {service} can run {step}, and {_sagas(count)} under {_title(plan)}"


def _unfit(manifest: Manifest, plan: Plan) -> Mapping[str, str]:
    parts = [part for part in manifest.sagas if (part.saga, part.version) == (plan.saga, plan.version)]
    return unfit(manifest.service, {step.name: step for part in parts for step in part.steps}, plan)


def _outrun(filed: Plan, stored: Sequence[Plan]) -> Iterator[str]:
    """Yield why a plan file would not be the plan that new sagas start under."""
    known = [plan for plan in stored if (plan.saga, plan.version) == (filed.saga, filed.version)]
    newest = max(known, key=lambda plan: plan.revision, default=filed)
    if newest.hash == filed.hash or newest.revision < filed.revision:
        return
    title = f"{filed.saga} v{filed.version}"
    yield (
        f"{title}: the file has revision {filed.revision}, and the coordinator's database has another plan with "
        f"revision {newest.revision}; take the file with that revision back and run `saga plan`"
    )


def _misfits(seen: Seen) -> Iterator[str]:
    replicas: dict[str, list[Replica]] = {}
    for live in sorted(seen.running or (), key=lambda live: live.replica):
        replicas.setdefault(live.hash, []).append(live.replica)
    for hash_, running in replicas.items():
        if hash_ in seen.manifests:
            for sentence in unplanned(seen.manifests[hash_], seen.stored):
                yield f"{', '.join(map(str, running))} {sentence}"


def _title(plan: Plan) -> str:
    return f"{plan.saga} v{plan.version} revision {plan.revision}"


def _sagas(count: int) -> str:
    return f"{count} sagas are open" if count > 1 else "1 saga is open"
