"""Put the shape of a step down as everybody must agree on it: from the code, to JSON and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from saga._core.definition import ReceiveDefinition, StepDefinition
from saga._core.plan import PlanInput, PlanStep, Undoing
from saga._core.strict_json import counted, positive, record, refuse, texts, word
from saga._core.words import Effects, StepKind, Takes

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
_INPUT: dict[str, type] = {"event": str, "takes": str}
_OPTIONAL: dict[str, object] = {
    "joins": [],
    "fan_out": "",
    "delay_ms": 0,
    "within_ms": 0,
    "child": "",
    "calls": "",
}
"""What stands in JSON only where it says something, so that plain steps stay short."""
BESIDE_THE_SHAPE = frozenset({"calls"})
"""What a plan tells and its hash does not cover: it may differ from one replica to the next."""


def plan_step(step: StepDefinition) -> PlanStep:
    """Return a declared step's shape; the order in which alternatives are written does not show."""
    joins: tuple[PlanInput, ...] = ()
    if step.is_join:
        joins = tuple(PlanInput(event=taken.event.wire_type, takes=taken.takes) for taken in step.inputs)
    return PlanStep(
        name=step.name,
        kind=step.kind,
        effects=step.effects,
        reacts_to="" if joins else step.input.wire_type,
        emits=tuple(sorted(event.wire_type for event in step.emits)),
        ends=step.ends,
        refuses=tuple(sorted(refusal.wire_type for refusal in step.refuses)),
        undoing=step.undoing,
        timeout_ms=round(step.timeout_seconds * 1000),
        joins=tuple(sorted(joins, key=lambda join: join.event)),
        fan_out="" if step.fan_out is None else step.fan_out.wire_type,
        delay_ms=round(step.delay_seconds * 1000),
        within_ms=round(step.within_seconds * 1000),
        child="" if step.child is None else f"{step.child.saga}.v{step.child.version}",
        calls="" if step.dependency is None else step.dependency.name,
    )


def plan_receive(received: ReceiveDefinition) -> PlanStep:
    """Return the shape of an event that comes from outside: a step without a cause and without a handler."""
    return PlanStep(
        name=received.name,
        kind=StepKind.RECEIVE,
        effects=Effects.LOCAL,
        reacts_to="",
        emits=(received.event.wire_type,),
        ends=False,
        refuses=(),
        undoing=Undoing.NOTHING,
        timeout_ms=1,
    )


def in_order(step: PlanStep) -> PlanStep:
    """Return the same step with its alternatives, refusals and joined events sorted."""
    return replace(
        step,
        emits=tuple(sorted(step.emits)),
        refuses=tuple(sorted(step.refuses)),
        joins=tuple(sorted(step.joins, key=lambda join: join.event)),
    )


def step_to_json(step: PlanStep) -> dict[str, Any]:
    """Return what stands in JSON for a step."""
    said: dict[str, object] = {
        "joins": [{"event": join.event, "takes": join.takes.value} for join in step.joins],
        "fan_out": step.fan_out,
        "delay_ms": step.delay_ms,
        "within_ms": step.within_ms,
        "child": step.child,
        "calls": step.calls,
    }
    return {name: value for name, value in said.items() if value} | {
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
    found = record(value, _KEYS, where, _OPTIONAL)
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
        joins=tuple(_input_from_json(join, f"{where}: joins") for join in found["joins"]),
        fan_out=found["fan_out"],
        delay_ms=counted(found["delay_ms"], f"{where}: delay_ms"),
        within_ms=counted(found["within_ms"], f"{where}: within_ms"),
        child=found["child"],
        calls=found["calls"],
    )


def _input_from_json(value: object, where: str) -> PlanInput:
    found = record(value, _INPUT, where)
    return PlanInput(event=found["event"], takes=word(found["takes"], Takes, f"{where}: takes"))
