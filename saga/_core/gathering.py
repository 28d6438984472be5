"""Gather the events of a join in its run row, until the set is complete.

The row's `input` holds what has come so far: wire type of the plan's event -> branch -> [wire type, payload].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from saga._core.branches import EMPTY, place_of
from saga._core.frozen import replace
from saga._core.plan import PlanInput, PlanStep, Topology
from saga._core.rows import RunRow
from saga._core.versions import planned_type
from saga._core.words import RunKey, Takes

GATHERED_TYPE = "saga.gathered"
Gathered = dict[str, dict[str, list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Be one event on its way into a join."""

    type: str
    branch: str
    payload: bytes
    cause: RunKey


def run_branch(step: PlanStep, branch: str) -> str:
    """Return the branch a step runs in for an event of `branch`: none where it gathers all of them."""
    if not branch:
        return ""
    return "" if any(taken.takes is Takes.EVERY for taken in step.inputs) else branch


def cause_of(topology: Topology, step: str, branch: str, wire_type: str) -> RunKey:
    """Return the run that emitted an event; an element of a fan-out has the branch its run has not."""
    event = planned_type(topology, wire_type)
    return RunKey(step=step, branch="" if topology.scopes.get(event) == event else branch)


def gather(topology: Topology, step: PlanStep, run: RunRow, received: Received) -> RunRow:
    """Return the row of a join with one more event; the same event again changes nothing."""
    found = _gathered(run)
    event = planned_type(topology, received.type)
    if received.branch == EMPTY:
        for taken in step.joins:
            if taken.takes is Takes.EVERY and topology.scopes[taken.event] == event:
                found[taken.event] = {EMPTY: ["", ""]}
    else:
        found.setdefault(event, {})[received.branch] = [received.type, received.payload.decode()]
    causes = run.causes if received.cause in run.causes else (*run.causes, received.cause)
    stored = orjson.dumps(found, option=orjson.OPT_SORT_KEYS)
    return replace(run, input=stored, input_type=GATHERED_TYPE, causes=causes)


def is_gathered(step: PlanStep, run: RunRow) -> bool:
    """Return whether every event of the join is there."""
    found = _gathered(run)
    return all(_has(taken, found.get(taken.event, {})) for taken in step.joins)


def _has(taken: PlanInput, branches: Mapping[str, object]) -> bool:
    if not branches or taken.takes is Takes.ONE:
        return bool(branches)
    _, count = place_of(next(iter(branches)))
    return EMPTY in branches or len(branches) == count


Payloads = tuple[tuple[str, bytes], ...]
"""Wire type and payload of each event."""


def gathered_of(run: RunRow) -> Mapping[str, Payloads]:
    """Return for each of the plan's events what has come of it, in the order of the branches."""
    return {
        event: tuple(
            (wire_type, payload.encode())
            for branch, (wire_type, payload) in sorted(branches.items(), key=lambda item: place_of(item[0]))
            if branch != EMPTY
        )
        for event, branches in _gathered(run).items()
    }


def _gathered(run: RunRow) -> Gathered:
    if not run.input:
        return {}
    found: Gathered = orjson.loads(run.input)
    return found


def elements_of(payload: bytes) -> list[bytes]:
    """Return the JSON of each element of a JSON array of strings, as `array_of` has written it."""
    elements: list[Any] = orjson.loads(payload)
    return [str(element).encode() for element in elements]


def array_of(payloads: list[bytes]) -> bytes:
    """Return payloads as one; each stands as a string, so that it comes back with the same bytes."""
    return orjson.dumps([payload.decode() for payload in payloads])
