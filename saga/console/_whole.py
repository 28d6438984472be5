"""Read one saga, or one dead letter, from all databases that know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saga._core.audit import AuditRow
from saga._core.children import parent_of
from saga._core.ids import child_id_of
from saga._core.inspecting import SagaRows
from saga._core.plan import Plan
from saga._core.queues import LetterLine
from saga._core.rows import DeliveryRow, InstanceRow, RunRow
from saga._core.sagas import Held, SagaLine
from saga._core.showing import Schemas, bare_delivery, bare_instance, bare_run, run_payloads, view
from saga._core.stored_instance import instance_of
from saga._core.whole import Payloads, PayloadView, RunPayloads, SagaWhole
from saga._core.words import Effects, Mark
from saga.console._asking import Asked
from saga.console._places import Places
from saga.ports.overseeing import OverseeingStore, Side

AUDITS_MOST = 1000


async def read(places: Places, asked: Asked, saga_id: str) -> SagaWhole | None:
    """Return one saga with all that is kept of it, None when the coordinator does not know it."""
    store = await places.coordinator()
    stored = await store.instance(saga_id)
    if stored is None:
        return None
    mark = await revision(places, saga_id)
    plan = await asked.plan(stored.plan)
    found, missing = await places.each(lambda each: _rows(each, saga_id))
    acts, _ = await places.each(lambda each: each.audits(saga_id, limit=AUDITS_MOST))
    runs = [run for rows in found.values() for run in rows.runs]
    return SagaWhole(
        row=bare_instance(stored),
        line=_line(stored),
        plan=plan,
        rows=SagaRows(
            runs=tuple(map(bare_run, sorted(runs, key=lambda run: (run.created_at, run.step, run.branch)))),
            gates=tuple(gate for rows in found.values() for gate in rows.gates),
            deliveries=tuple(bare_delivery(row) for rows in found.values() for row in rows.deliveries),
        ),
        places=_places(found),
        audits=tuple(sorted(_all(acts), key=lambda act: act.at)),
        trace_id=_trace_id(stored),
        parent=next((parent.saga_id for run in runs if (parent := parent_of(run)) is not None), ""),
        children=_children(stored, plan),
        revision=mark,
        now=await store.now(),
        missing=missing,
    )


async def _rows(store: OverseeingStore, saga_id: str) -> SagaRows:
    return await store.find_runs(saga_id) if Side.PARTICIPANT in await store.sides() else SagaRows()


def _all(acts: Mapping[str, Sequence[AuditRow]]) -> list[AuditRow]:
    return [act for rows in acts.values() for act in rows]


def _places(found: Mapping[str, SagaRows]) -> dict[str, str]:
    named: dict[str, str] = {}
    for database, rows in found.items():
        for service in (*(run.service for run in rows.runs), *(gate.service for gate in rows.gates)):
            named.setdefault(service, database)
    return named


def _line(row: InstanceRow) -> SagaLine:
    return SagaLine(
        saga_id=row.saga_id,
        saga=row.saga,
        version=row.version,
        plan=row.plan,
        tenant=row.tenant,
        phase=row.phase,
        step=row.step,
        error=row.error,
        held=Held.HELD if instance_of(row).mark is Mark.HELD else Held.FREE,
        due_at=row.due_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        revision=row.revision,
    )


def _trace_id(row: InstanceRow) -> str:
    parts = instance_of(row).traceparent.split("-")
    return parts[1] if len(parts) > 1 else ""


def _children(row: InstanceRow, plan: Plan | None) -> tuple[str, ...]:
    steps = {step.name: step for step in plan.steps} if plan is not None else {}
    return tuple(
        child_id_of(steps[key.step].child, row.tenant, row.saga_id, key)
        for key in instance_of(row).runs
        if key.step in steps and steps[key.step].effects is Effects.CHILD
    )


async def revision(places: Places, saga_id: str) -> str:
    """Return a text that is another one whenever something of a saga has changed anywhere, "" when nobody knows it."""
    found, missing = await places.each(lambda each: each.saga_mark(saga_id))
    marks = list(found.values())
    return ";".join([*marks, f"!{len(missing)}"]) if any(marks) else ""


async def payloads(places: Places, saga_id: str, schemas: Schemas, allowed: Payloads) -> Sequence[RunPayloads]:
    """Return what the runs of a saga have taken and given, as far as it is allowed."""
    found, _ = await places.each(lambda each: _rows(each, saga_id))
    runs: list[RunRow] = [run for rows in found.values() for run in rows.runs]
    return [run_payloads(run, schemas, allowed) for run in sorted(runs, key=lambda run: (run.created_at, run.step))]


async def letter(
    store: OverseeingStore, database: str, letter_id: int, schemas: Schemas, allowed: Payloads
) -> tuple[LetterLine, PayloadView] | None:
    """Return one dead letter and its message as far as it is allowed, None when it is not dead any more."""
    row = await store.show_dead(letter_id)
    if row is None:
        return None
    types = [value.decode("utf-8", "replace") for name, value in row.raw.headers if name == "ce_type"]
    return _letter_line(row, database), view(types[0] if types else "", row.raw.value, schemas, allowed)


def _letter_line(row: DeliveryRow, database: str) -> LetterLine:
    return LetterLine(
        database=database,
        id=row.id,
        service=row.service,
        saga_id=row.saga_id,
        step=row.step,
        error=row.error,
        attempt=row.attempt,
        message_id=row.message_id,
        died_at=row.due_at,
        topic=row.raw.topic,
        partition=row.raw.partition,
        offset=row.raw.offset,
        bytes=len(row.raw.value or b""),
    )
