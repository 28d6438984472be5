"""Put on paper what a person has done to a saga."""

from __future__ import annotations

from datetime import datetime

import orjson

from saga._core.audit import AuditRow
from saga._core.ids import run_path
from saga._core.rows import InstanceRow
from saga._core.stored_instance import instance_of
from saga._core.verbs import CancelSaga, HoldSaga, ReleaseSaga, ResolveStep, SkipStep, Verb


def word_of(verb: Verb) -> str:
    """Return what a person calls the verb."""
    return type(verb).__name__.removesuffix("Saga").removesuffix("Step").lower()


def target_of(verb: Verb) -> str:
    """Return the run that the verb is about, "" for the whole saga."""
    return "" if isinstance(verb, CancelSaga | HoldSaga | ReleaseSaga) else run_path(verb.key.step, verb.key.branch)


def audit_of(verb: Verb, before: InstanceRow, after: InstanceRow, *, who: str, why: str, at: datetime) -> AuditRow:
    """Return what the trail keeps of a verb: the saga before and after it, and no payload."""
    said: dict[str, object] = {}
    if isinstance(verb, SkipStep | ResolveStep) and verb.result_type:
        said["result"] = verb.result_type
    if isinstance(verb, ResolveStep):
        said["verdict"] = verb.verdict
    return AuditRow(
        at=at,
        who=who,
        why=why,
        verb=word_of(verb),
        saga_id=before.saga_id,
        target=target_of(verb) or before.saga_id,
        before=orjson.dumps(_state(before)),
        after=orjson.dumps(_state(after) | said),
    )


def _state(row: InstanceRow) -> dict[str, object]:
    """Return what a person may want to know of an instance later, without any payload."""
    instance = instance_of(row)
    state: dict[str, object] = {
        "phase": instance.phase,
        "cause": instance.cause,
        "stuck": instance.stuck_detail or instance.stuck,
        "mark": instance.mark,
        "undos": {run_path(key.step, key.branch): undo for key, undo in instance.undos.items()},
    }
    return {name: value for name, value in state.items() if value}
