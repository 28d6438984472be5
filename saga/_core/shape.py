"""Put the shape of a step down as everybody must agree on it: from the code, to JSON and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from saga._core.definition import StepDefinition
from saga._core.plan import PlanStep, Undoing
from saga._core.strict_json import positive, record, refuse, texts, word
from saga._core.words import Effects, StepKind

_KEYS: dict[str, type] = {
    "name": str,
    "kind": str,
    "effects": str,
    "reacts_to": str,
    "emits": list,
    "ends": bool,
    "refuses": list,
    "undoing": str,
    "timeout_ms": int,
}


def plan_step(step: StepDefinition) -> PlanStep:
    """Return a declared step's shape; the order in which alternatives are written does not show."""
    return PlanStep(
        name=step.name,
        kind=step.kind,
        effects=step.effects,
        reacts_to=step.input.wire_type,
        emits=tuple(sorted(event.wire_type for event in step.emits)),
        ends=step.ends,
        refuses=tuple(sorted(refusal.wire_type for refusal in step.refuses)),
        undoing=step.undoing,
        timeout_ms=round(step.timeout_seconds * 1000),
    )


def in_order(step: PlanStep) -> PlanStep:
    """Return the same step with its alternatives and refusals sorted."""
    return replace(step, emits=tuple(sorted(step.emits)), refuses=tuple(sorted(step.refuses)))


def step_to_json(step: PlanStep) -> dict[str, Any]:
    """Return what stands in JSON for a step."""
    return {
        "name": step.name,
        "kind": step.kind.value,
        "effects": step.effects.value,
        "reacts_to": step.reacts_to,
        "emits": sorted(step.emits),
        "ends": step.ends,
        "refuses": sorted(step.refuses),
        "undoing": step.undoing.value,
        "timeout_ms": step.timeout_ms,
    }


def step_from_json(value: object, where: str) -> PlanStep:
    """Return the step that JSON describes; raises PlanError."""
    found = record(value, _KEYS, where)
    name: str = found["name"]
    where = f"{where} {name}"
    service, dot, function = name.partition(".")
    if not (service and dot and function):
        refuse(f"{where}: a step's name is `service.function`")
    return PlanStep(
        name=name,
        kind=word(found["kind"], StepKind, f"{where}: kind"),
        effects=word(found["effects"], Effects, f"{where}: effects"),
        reacts_to=found["reacts_to"],
        emits=tuple(sorted(texts(found["emits"], f"{where}: emits"))),
        ends=found["ends"],
        refuses=tuple(sorted(texts(found["refuses"], f"{where}: refuses"))),
        undoing=word(found["undoing"], Undoing, f"{where}: undoing"),
        timeout_ms=positive(found["timeout_ms"], f"{where}: timeout_ms"),
    )
