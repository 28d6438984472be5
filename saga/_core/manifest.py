"""Describe what one service declares, so that plans can be made without its code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from saga._core.definition import Saga, ServiceDefinition, milliseconds
from saga._core.events import Event
from saga._core.plan import PlanStep
from saga._core.schemas import EventNeeds, EventSchema, Field, needs_of, schema_of, schema_text, unmet
from saga._core.shape import plan_receive, plan_step, step_from_json, step_to_json
from saga._core.strict_json import counted, load, mapping, positive, record, refuse, texts
from saga._core.upcasting import readable

_TOP: dict[str, type] = {"service": str, "sagas": list}
_SAGA: dict[str, type] = {
    "saga": str,
    "version": int,
    "timeout_ms": int,
    "forward_window_ms": int,
    "starts_with": str,
    "steps": list,
    "emits": dict,
    "needs": dict,
}
_OPTIONAL: dict[str, object] = {"reads": {}, "attempts": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventReads:
    """Be an event a service takes, and the `older` wire types it reads as that, newest first."""

    type: str
    older: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaManifest:
    """Be one service's part in one saga version; `starts_with` is `""` unless the service starts it.

    `emits` has the schema of every event the service emits in it, `needs` the fields it requires of
    every event it reacts to and of every older version it reads; `reads` says which those are.
    """

    saga: str
    version: int
    timeout_ms: int
    forward_window_ms: int
    starts_with: str
    steps: tuple[PlanStep, ...]
    emits: tuple[EventSchema, ...]
    needs: tuple[EventNeeds, ...]
    reads: tuple[EventReads, ...] = ()
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Be everything one service declares."""

    service: str
    sagas: tuple[SagaManifest, ...]


def manifest_of(definition: ServiceDefinition, sagas: Iterable[Saga] | None = None) -> Manifest:
    """Return the manifest of a service for `sagas`, by default all it takes part in.

    Equal for equal declarations, in whatever order. Raises DeclarationError for events without a JSON schema.
    """
    chosen = definition.sagas if sagas is None else tuple(sagas)
    parts = [_part(definition, saga) for saga in sorted(chosen, key=lambda saga: (saga.name, saga.version))]
    return Manifest(service=definition.name, sagas=tuple(part for part in parts if part.starts_with or part.steps))


def _part(definition: ServiceDefinition, saga: Saga) -> SagaManifest:
    wanted = (saga.name, saga.version)
    steps = sorted((s for s in definition.steps if (s.saga, s.version) == wanted), key=lambda step: step.name)
    starts = [start.event for start in definition.starts if (start.saga, start.version) == wanted]
    outside = sorted((r for r in definition.receives if (r.saga, r.version) == wanted), key=lambda r: r.name)
    sent = [*starts, *(r.event for r in outside), *(event for step in steps for event in step.emits)]
    emitted = {event.wire_type: event for event in sent}
    taken = {i.event.wire_type: i.event for step in steps for i in step.inputs}
    versions = {name: readable(taken[name], definition.upcasters) for name in sorted(taken)}
    received: dict[str, type[Event]] = {kin: event for read in versions.values() for kin, event in read.items()}
    return SagaManifest(
        saga=saga.name,
        version=saga.version,
        timeout_ms=milliseconds(saga.timeout, f"{saga}: timeout"),
        forward_window_ms=milliseconds(saga.forward_window, f"{saga}: forward_window"),
        starts_with=starts[0].wire_type if starts else "",
        steps=(*map(plan_step, steps), *map(plan_receive, outside)),
        emits=tuple(schema_of(emitted[name]) for name in sorted(emitted)),
        needs=tuple(needs_of(received[name]) for name in sorted(received)),
        reads=tuple(
            EventReads(type=name, older=tuple(kin for kin in read if kin != name))
            for name, read in versions.items()
            if len(read) > 1
        ),
        attempts=saga.attempts or 0,
    )


def manifest_to_json(manifest: Manifest) -> bytes:
    """Return a manifest as a file: indented, sorted, the same bytes for the same manifest."""
    body = {"service": manifest.service, "sagas": [_saga_to_json(part) for part in manifest.sagas]}
    return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def manifest_from_json(body: bytes) -> Manifest:
    """Return the manifest a file holds; raises PlanError saying where it is not one."""
    found = record(load(body, "the manifest"), _TOP, "the manifest")
    service: str = found["service"]
    where = f"manifest of {service}"
    if not service or "." in service:
        refuse(f"{where}: service {service!r} is not a service's name")
    parts = tuple(_saga_from_json(part, service, where) for part in found["sagas"])
    if len({(part.saga, part.version) for part in parts}) != len(parts):
        refuse(f"{where}: has a saga version twice; keep one")
    return Manifest(service=service, sagas=parts)


def _saga_to_json(part: SagaManifest) -> dict[str, Any]:
    reads = {read.type: read.older for read in part.reads}
    said = {"reads": reads, "attempts": part.attempts}
    return {name: value for name, value in said.items() if value} | {
        "saga": part.saga,
        "version": part.version,
        "timeout_ms": part.timeout_ms,
        "forward_window_ms": part.forward_window_ms,
        "starts_with": part.starts_with,
        "steps": [step_to_json(step) for step in part.steps],
        "emits": {event.type: orjson.loads(event.schema) for event in part.emits},
        "needs": {event.type: {field.name: field.types for field in event.fields} for event in part.needs},
    }


def _saga_from_json(value: object, service: str, where: str) -> SagaManifest:
    found = record(value, _SAGA, f"{where}: a saga", _OPTIONAL)
    where = f"{where}: {found['saga']} v{found['version']}"
    part = SagaManifest(
        saga=found["saga"],
        version=positive(found["version"], f"{where}: version"),
        timeout_ms=positive(found["timeout_ms"], f"{where}: timeout_ms"),
        forward_window_ms=positive(found["forward_window_ms"], f"{where}: forward_window_ms"),
        starts_with=found["starts_with"],
        steps=tuple(step_from_json(step, f"{where}: step") for step in found["steps"]),
        emits=tuple(_schema_from_json(name, value, where) for name, value in sorted(found["emits"].items())),
        needs=tuple(_needs_from_json(name, value, where) for name, value in sorted(found["needs"].items())),
        reads=tuple(
            EventReads(type=name, older=texts(value, f"{where}: reads: {name}"))
            for name, value in sorted(found["reads"].items())
        ),
        attempts=counted(found["attempts"], f"{where}: attempts"),
    )
    _check_part(part, service, where)
    return part


def _schema_from_json(name: str, value: object, where: str) -> EventSchema:
    where = f"{where}: emits: {name}"
    schema = EventSchema(type=name, schema=schema_text(mapping(value, where)))
    try:
        unmet(EventNeeds(type=name, fields=()), schema)
    except (AttributeError, TypeError):
        refuse(f"{where} is no JSON schema that this version of saga can read; export the manifest again")
    return schema


def _needs_from_json(name: str, value: object, where: str) -> EventNeeds:
    where = f"{where}: needs: {name}"
    fields = mapping(value, where)
    return EventNeeds(
        type=name,
        fields=tuple(
            Field(name=field, types=texts(types, f"{where}: {field}")) for field, types in sorted(fields.items())
        ),
    )


def _check_part(part: SagaManifest, service: str, where: str) -> None:
    """Refuse a part whose halves contradict each other, as only a file edited by hand has."""
    for step in part.steps:
        if step.service != service:
            refuse(f"{where}: step {step.name} belongs to another service; a manifest holds its own service's steps")
    emitted = {event for step in part.steps for event in step.emits} | ({part.starts_with} - {""})
    taken = {taken.event for step in part.steps for taken in step.inputs}
    if strange := sorted({read.type for read in part.reads} - taken):
        refuse(f"{where}: reads names {', '.join(strange)}, which none of its steps takes; export it again")
    older = {kin for read in part.reads for kin in read.older}
    for what, wanted, listed in (
        ("emits", emitted, {event.type for event in part.emits}),
        ("needs", taken | older, {event.type for event in part.needs}),
    ):
        if wanted != listed:
            different = ", ".join(sorted(wanted ^ listed))
            refuse(f"{where}: {what} and the steps do not name the same events ({different}); export it again")
