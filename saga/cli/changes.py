"""Say in words what differs between the plan in a file and the plan the code makes."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

from saga._core.plan import Plan, PlanStep

_HEAD = ("start", "start_event", "timeout_ms", "forward_window_ms")


def changes(filed: Plan, coded: Plan) -> tuple[str, ...]:
    """Return one phrase for each difference in shape; empty exactly when the hashes are equal."""
    if filed.hash == coded.hash:
        return ()
    before = {step.name: step for step in filed.steps}
    after = {step.name: step for step in coded.steps}
    found = [_phrase(name, getattr(filed, name), getattr(coded, name)) for name in _HEAD if _differ(name, filed, coded)]
    found += [f"{name} is gone" for name in sorted(before.keys() - after.keys())]
    found += [f"{name} is new" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        found += _step_changes(before[name], after[name])
    return tuple(found)


def _step_changes(before: PlanStep, after: PlanStep) -> list[str]:
    names = [field.name for field in fields(PlanStep) if _differ(field.name, before, after)]
    return [_phrase(f"{before.name}: {name}", getattr(before, name), getattr(after, name)) for name in names]


def _differ(name: str, before: object, after: object) -> bool:
    return _spelled(getattr(before, name)) != _spelled(getattr(after, name))


def _phrase(what: str, before: object, after: object) -> str:
    return f"{what} was {_spelled(before)}, is {_spelled(after)}"


def _spelled(value: object) -> str:
    return " | ".join(sorted(cast("tuple[str, ...]", value))) or "nothing" if isinstance(value, tuple) else str(value)
