"""Open what an app works with: the transport, the databases, and the plans its coordinator stands for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from outbox.urls import open_coordination_store, open_store
from saga._core.definition import ServiceDefinition
from saga._core.manifest import Manifest, manifest_of
from saga._core.plan import Plan
from saga._core.planning import build_plan, plan_from_json, plan_to_json
from saga._core.rows import PlanRow
from saga._runtime.stations import run_user_migrations
from saga.errors import DeclarationError, PlanError, SettingsError
from saga.ports import CoordinationStore, Store, Transport
from transports.urls import open_transport

log = logging.getLogger("saga")


async def enter_transport(stack: AsyncExitStack, at: str | Transport) -> Transport:
    """Open the transport of a URL until `stack` ends; an open adapter stays its owner's."""
    if not isinstance(at, str):
        return at
    transport = open_transport(at)
    await stack.enter_async_context(transport)
    return transport


async def enter_store(
    stack: AsyncExitStack, at: str | Store, definitions: Sequence[ServiceDefinition], *, migrate: bool
) -> Store:
    """Open the services' database and, if asked, bring its tables and their own SQL files up to date."""
    if isinstance(at, str):
        store: Store = await stack.enter_async_context(open_store(at))
    else:
        store = at
    if migrate:
        await store.migrate()
        for definition in definitions:
            await run_user_migrations(store, definition)
    return store


async def enter_coordination(
    stack: AsyncExitStack, own: str | CoordinationStore | None, shared: str | Store | None, *, migrate: bool
) -> CoordinationStore:
    """Open the coordinator's database: its `own`, or the one `shared` with the app's services."""
    at = own if own is not None else shared
    if isinstance(at, str):
        store: CoordinationStore = await stack.enter_async_context(open_coordination_store(at))
    elif own is not None and not isinstance(own, str):
        store = own
    else:
        what = "without an App store" if at is None else "with an App whose store is an open adapter"
        msg = f"Coordinator(store=None) {what}: write Coordinator(store='postgresql://…')"
        raise SettingsError(msg)
    if migrate:
        await store.migrate()
    return store


# --- plans ------------------------------------------------------------------------------------------------


async def own_plans(
    folder: str | Path | None, definitions: Sequence[ServiceDefinition], coordination: CoordinationStore
) -> tuple[Plan, ...]:
    """Return the plans the coordinator stands for: those of its folder or its services, and all stored before."""
    plans = _plans_in_memory(definitions) if folder is None else load_plans(Path(folder))
    rows = [
        PlanRow(saga=p.saga, version=p.version, revision=p.revision, hash=p.hash, body=plan_to_json(p)) for p in plans
    ]
    if folder is None:
        # Nobody counts revisions of a plan made in memory: the newest code is the newest plan.
        known = [plan_from_json(row.body) for row in await coordination.put_plans(())]
        rows = [_next_revision(row, plan, known) for row, plan in zip(rows, plans, strict=True)]
    return tuple(plan_from_json(row.body) for row in await coordination.put_plans(rows))


def _plans_in_memory(definitions: Sequence[ServiceDefinition]) -> tuple[Plan, ...]:
    manifests = [manifest_of(definition) for definition in definitions]
    sagas = {(s.saga, s.version) for m in manifests for s in m.sagas}
    return tuple(build_plan(name, version, manifests) for name, version in sorted(sagas))


def _next_revision(row: PlanRow, plan: Plan, known: Sequence[Plan]) -> PlanRow:
    versions = [k for k in known if (k.saga, k.version) == (plan.saga, plan.version)]
    same = next((k for k in versions if k.hash == plan.hash), None)
    newest = max((k.revision for k in versions), default=0)
    revision = same.revision if same is not None and same.revision == newest else newest + 1
    body = plan_to_json(replace(plan, revision=revision))
    return PlanRow(saga=row.saga, version=row.version, revision=revision, hash=row.hash, body=body)


def manifests_of(definitions: Sequence[ServiceDefinition]) -> tuple[Manifest, ...]:
    """Return what the services can announce; one whose events have no JSON schema is left out, with a warning."""
    found: list[Manifest] = []
    for definition in definitions:
        try:
            found.append(manifest_of(definition))
        except DeclarationError as error:
            log.warning("%s is not announced: %s", definition.name, error)
    return tuple(found)


def load_plans(folder: Path) -> tuple[Plan, ...]:
    """Read all plan files of a folder; raises PlanError naming the file that cannot be used."""
    files = sorted(folder.glob("*.plan.json")) if folder.is_dir() else []
    if not files:
        msg = f"no *.plan.json in {folder}: write the plans with `saga plan` and commit them"
        raise PlanError([msg])
    plans: list[Plan] = []
    for file in files:
        try:
            plans.append(plan_from_json(file.read_bytes()))
        except PlanError as error:
            raise PlanError([f"{file}: {problem}" for problem in error.problems]) from error
    return tuple(plans)
