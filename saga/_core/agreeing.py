"""Refuse declarations of one app that contradict each other: sagas, classes, dependencies of one name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from saga._core.definition import Saga, ServiceDefinition
from saga._core.events import Event, Refusal
from saga.errors import DeclarationError


def one_value_each(sagas: Iterable[Saga], who: str) -> tuple[Saga, ...]:
    """Return the sagas, each once; refuse two of one name and version that differ."""
    known: dict[tuple[str, int], Saga] = {}
    for saga in sagas:
        first = known.setdefault((saga.name, saga.version), saga)
        if first != saga:
            msg = (
                f"Saga {saga}: {who} used two with different times ({first!r} and {saga!r}); "
                "declare it once and import it"
            )
            raise DeclarationError(msg)
    return tuple(known.values())


def check_wire_types(definitions: Iterable[ServiceDefinition]) -> None:
    """Refuse two classes that would look the same on the wire."""
    known: dict[str, tuple[type, str]] = {}
    for definition in definitions:
        used: list[tuple[str, type[Event | Refusal]]] = [(start.name, start.event) for start in definition.starts]
        used += [(received.name, received.event) for received in definition.receives]
        used += [(subscriber.name, subscriber.event) for subscriber in definition.subscribers]
        for step in definition.steps:
            used += [(step.name, event) for event in (*(taken.event for taken in step.inputs), *step.emits)]
            used += [(step.name, refusal) for refusal in step.refuses]
        for upcaster in definition.upcasters.values():
            where = f"{definition.name}: upcaster {upcaster.name}"
            used += [(where, upcaster.source), (where, upcaster.target)]
        for where, payload in used:
            first, first_where = known.setdefault(payload.wire_type, (payload, where))
            if first is not payload:
                msg = (
                    f"{where}: {payload.__module__}.{payload.__qualname__} and {first_where}: "
                    f"{first.__module__}.{first.__qualname__} are two classes with the wire type "
                    f"{payload.wire_type!r} in one app; import one of them, or give one "
                    "another name or version"
                )
                raise DeclarationError(msg)


def check_dependencies(definitions: Iterable[ServiceDefinition]) -> None:
    """Refuse two dependencies of one name that say different things."""
    steps = [step for definition in definitions for step in definition.steps]
    used = [(step.name, step.dependency) for step in steps]
    used += [(step.name, step.compensation.dependency) for step in steps if step.compensation is not None]
    known: dict[str, Any] = {}
    for where, dependency in used:
        if dependency is None:
            continue
        first = known.setdefault(dependency.name, dependency)
        if first != dependency:
            msg = f"{where}: calls= {dependency!r}, but elsewhere it is {first!r}; declare it once and import it"
            raise DeclarationError(msg)
