"""Make a plan from the manifests of all services, and read and write plan files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson

from saga._core.flow import flow_lines
from saga._core.manifest import Manifest, SagaManifest
from saga._core.manifest_check import child_problems, parts_problems, repeated, start_problems
from saga._core.meeting import as_sent
from saga._core.plan import Plan
from saga._core.plan_check import draft_problems
from saga._core.plan_graph import Draft
from saga._core.shape import BESIDE_THE_SHAPE, in_order, step_from_json, step_to_json
from saga._core.start import START
from saga._core.strict_json import counted, load, positive, record, refuse
from saga.errors import PlanError

_PLAN: dict[str, type] = {
    "flow": list,
    "saga": str,
    "version": int,
    "revision": int,
    "start": str,
    "start_event": str,
    "timeout_ms": int,
    "forward_window_ms": int,
    "steps": list,
    "hash": str,
}
_OPTIONAL: dict[str, object] = {"attempts": 0}


def build_plan(saga: str, version: int, manifests: Iterable[Manifest], revision: int = 1) -> Plan:
    """Join the parts of one saga version into a plan; raises PlanError with everything that does not fit.

    The same parts make the same plan, in whatever order they come.
    """
    given = sorted(manifests, key=lambda manifest: manifest.service)
    chosen = {manifest.service: manifest for manifest in reversed(given)}
    parts = [
        (manifest.service, part)
        for manifest in sorted(chosen.values(), key=lambda manifest: manifest.service)
        for part in manifest.sagas
        if (part.saga, part.version) == (saga, version)
    ]
    if not parts:
        raise PlanError([f"{saga} v{version}: no manifest has a part in it; correct the name, or add its services"])
    parts, unclear = as_sent(parts)
    draft = Draft(
        saga=saga,
        version=version,
        starts={f"{service}.{START}": part.starts_with for service, part in parts if part.starts_with},
        steps=tuple(in_order(step) for _, part in parts for step in part.steps),
    )
    problems = [
        *repeated(given),
        *unclear,
        *start_problems(draft),
        *draft_problems(draft),
        *parts_problems(parts, f"{saga} v{version}"),
        *child_problems(draft, given),
    ]
    if problems:
        raise PlanError(problems)
    return _plan(draft, parts[0][1], revision)


def _plan(draft: Draft, part: SagaManifest, revision: int) -> Plan:
    ((start, start_event),) = draft.starts.items()
    plan = Plan(
        saga=draft.saga,
        version=draft.version,
        revision=revision,
        start=start,
        start_event=start_event,
        timeout_ms=part.timeout_ms,
        forward_window_ms=part.forward_window_ms,
        steps=tuple(draft.by_name[name] for name in draft.order),
        hash="",
        attempts=part.attempts,
    )
    return replace(plan, hash=plan_hash(plan))


def plan_hash(plan: Plan) -> str:
    """Return the SHA-256 of the plan's shape: everything but `revision`, whatever the order of steps."""
    ordered = replace(plan, steps=tuple(sorted(plan.steps, key=lambda step: step.name)))
    shape = _shape(ordered)
    for step in shape["steps"]:
        for name in BESIDE_THE_SHAPE:
            step.pop(name, None)
    return sha256(orjson.dumps(shape, option=orjson.OPT_SORT_KEYS)).hexdigest()


def plan_to_json(plan: Plan) -> bytes:
    """Return a plan as a file: sorted, opening with the flow, the same bytes for the same plan."""
    body = {**_shape(plan), "flow": flow_lines(plan), "revision": plan.revision, "hash": plan.hash}
    if plan.attempts:
        body["attempts"] = plan.attempts
    return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _shape(plan: Plan) -> dict[str, Any]:
    return {
        "saga": plan.saga,
        "version": plan.version,
        "start": plan.start,
        "start_event": plan.start_event,
        "timeout_ms": plan.timeout_ms,
        "forward_window_ms": plan.forward_window_ms,
        "steps": [step_to_json(step) for step in plan.steps],
    }


def plan_from_json(body: bytes) -> Plan:
    """Return the plan a file holds; raises PlanError where it is not one, unsound, or edited by hand.

    The flow is for people: it is not read.
    """
    found = record(load(body, "the plan"), _PLAN, "the plan", _OPTIONAL)
    where = f"plan {found['saga']} v{found['version']}"
    steps = tuple(step_from_json(step, f"{where}: step") for step in found["steps"])
    if not found["start"].endswith(f".{START}"):
        refuse(f"{where}: start is {found['start']!r}; it must be `service.{START}`")
    starts = {found["start"]: found["start_event"]}
    draft = Draft(saga=found["saga"], version=found["version"], starts=starts, steps=steps)
    if problems := draft_problems(draft):
        raise PlanError(problems)
    plan = Plan(
        saga=found["saga"],
        version=positive(found["version"], f"{where}: version"),
        revision=positive(found["revision"], f"{where}: revision"),
        start=found["start"],
        start_event=found["start_event"],
        timeout_ms=positive(found["timeout_ms"], f"{where}: timeout_ms"),
        forward_window_ms=positive(found["forward_window_ms"], f"{where}: forward_window_ms"),
        steps=tuple(draft.by_name[name] for name in draft.order),
        hash=found["hash"],
        attempts=counted(found["attempts"], f"{where}: attempts"),
    )
    if plan_hash(plan) != plan.hash:
        refuse(f"{where}: its hash is not that of its content; do not edit plans by hand, run `saga plan`")
    return plan
