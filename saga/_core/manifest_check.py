"""Check the manifests of several services against each other: one start, equal times, fields that fit."""

from __future__ import annotations

from collections.abc import Sequence

from saga._core.manifest import Manifest, SagaManifest
from saga._core.plan_graph import Draft
from saga._core.schemas import EventSchema, unmet
from saga._core.words import StepKind

Part = tuple[str, SagaManifest]
"""A service and its part in the saga at hand."""


def parts_problems(parts: Sequence[Part], title: str) -> list[str]:
    """Return one sentence for each time and each schema that the services do not agree on."""
    return [*_time_problems(parts, title), *_schema_problems(parts)]


def repeated(manifests: Sequence[Manifest]) -> list[str]:
    """Return one sentence for each service with several manifests."""
    names = [manifest.service for manifest in manifests]
    return [
        f"service {name}: there are {names.count(name)} manifests of it; keep the newest"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]


def child_problems(draft: Draft, manifests: Sequence[Manifest]) -> list[str]:
    """Return one sentence for each child saga that could not be undone with its parent; unknown ones are left alone."""
    found: list[str] = []
    for step in draft.steps:
        if not step.child:
            continue
        parts = [part for m in manifests for part in m.sagas if f"{part.saga}.v{part.version}" == step.child]
        pivots = [s.name for part in parts for s in part.steps if s.kind is StepKind.PIVOT]
        if pivots:
            found.append(
                f"{step.name}: its child {step.child} has the pivot {pivots[0]}, after which it could not be undone "
                f"with its parent; start a saga of its own, or take the pivot out"
            )
    return found


def start_problems(draft: Draft) -> list[str]:
    """Return a sentence unless the saga has exactly one start."""
    title = f"{draft.saga} v{draft.version}"
    if not draft.starts:
        return [f"{title}: no service starts it; add `place = service.starts(saga, Event)` to one"]
    if len(draft.starts) > 1:
        names = " and ".join(f"{name} (with {event})" for name, event in sorted(draft.starts.items()))
        return [f"{title}: is started by {names}; a saga has one start, keep one"]
    return []


def _time_problems(parts: Sequence[Part], title: str) -> list[str]:
    found: list[str] = []
    for what, kind in (("timeout_ms", "times"), ("forward_window_ms", "times"), ("attempts", "attempts")):
        said = [(service, getattr(part, what)) for service, part in parts]
        if len({value for _, value in said}) > 1:
            spelled = ", ".join(f"{value} at {service}" for service, value in said)
            advice = f"give Saga(...) the same {kind} everywhere"
            found.append(f"{title}: services disagree on {what} ({spelled}); {advice}")
    return found


def _schema_problems(parts: Sequence[Part]) -> list[str]:
    found: list[str] = []
    sent: dict[str, tuple[str, EventSchema]] = {}
    for service, part in parts:
        for event in part.emits:
            first, schema = sent.setdefault(event.type, (service, event))
            if schema != event:
                found.append(
                    f"{first} and {service} both emit {event.type}, but with different schemas; "
                    f"use one class for both, or another name or version for one"
                )
    for _, part in parts:
        for needs in part.needs:
            who = ", ".join(s.name for s in part.steps if any(taken.event == needs.type for taken in s.inputs))
            if needs.type in sent:
                sender, schema = sent[needs.type]
                found.extend(
                    f"{who}: {problem} by {sender} in {needs.type}; give the field a default at the reader, or send it"
                    for problem in unmet(needs, schema)
                )
    return found
