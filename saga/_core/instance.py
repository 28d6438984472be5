"""Hold what the coordinator knows of one saga, and how it is written into a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from saga._core.bodies import RefusalData, RunFact
from saga._core.records import fact_from_json, fact_to_json
from saga._core.rows import InstanceRow
from saga._core.words import Cause, Ending, RunKey


class Phase(StrEnum):
    """Say what a saga's coordinator is doing about it.

    RUNNING watches. ASKING has asked the pivot's service, alone, to close. CLOSING has asked all
    services and undoes what may be undone. COMMITTED knows that the pivot has run: only forward.
    """

    RUNNING = "running"
    ASKING = "asking"
    CLOSING = "closing"
    COMMITTED = "committed"
    COMPLETED = "completed"
    COMPENSATED = "compensated"


ENDED = frozenset({Phase.COMPLETED, Phase.COMPENSATED})


class Answer(StrEnum):
    """Say what a service has answered to `close`."""

    ASKED = "asked"
    CLOSED = "closed"
    COMMITTED = "committed"


class UndoStep(StrEnum):
    """Say how far the undo of one run has come, as the coordinator knows it."""

    ASKED = "asked"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Be one saga as the coordinator sees it; changed only by `decide`.

    `cause` says why closing began, `refusal` what a service refused with. `stuck` is a mark beside the
    phase: it needs a person and goes away when what it waits for arrives. `told` is the last outcome
    published. `sent_at` and `resends` time the repetition of unanswered commands.
    """

    saga_id: str
    expires_at: datetime
    phase: Phase = Phase.RUNNING
    runs: Mapping[RunKey, RunFact] = field(default_factory=dict[RunKey, RunFact])
    answers: Mapping[str, Answer] = field(default_factory=dict[str, Answer])
    undos: Mapping[RunKey, UndoStep] = field(default_factory=dict[RunKey, UndoStep])
    cause: Cause | None = None
    detail: str = ""
    refusal: RefusalData | None = None
    stuck: Cause | None = None
    stuck_detail: str = ""
    told: Ending | None = None
    sent_at: datetime | None = None
    resends: int = 0
    due_at: datetime | None = None
    ended_at: datetime | None = None
    traceparent: str = ""


STUCK_PHASE = "stuck"


def instance_row(
    instance: Instance,
    *,
    saga: str,
    version: int,
    plan: str,
    tenant: str,
    partition: int,
    revision: int,
    started_at: datetime | None,
) -> InstanceRow:
    """Return the row to store for `instance`; `revision` is that of the row it was read from (0: new)."""
    return InstanceRow(
        saga_id=instance.saga_id,
        saga=saga,
        version=version,
        plan=plan,
        tenant=tenant,
        phase=STUCK_PHASE if instance.stuck and instance.phase not in ENDED else instance.phase.value,
        partition=partition,
        due_at=instance.due_at,
        started_at=started_at,
        ended_at=instance.ended_at,
        state=orjson.dumps(_to_json(instance)),
        revision=revision,
    )


def _to_json(instance: Instance) -> dict[str, Any]:
    state: dict[str, Any] = {
        "phase": instance.phase.value,
        "expires": instance.expires_at.isoformat(),
        "runs": [fact_to_json(fact) for fact in instance.runs.values()],
    }
    optional: dict[str, Any] = {
        "answers": {name: answer.value for name, answer in instance.answers.items()},
        "undos": [[key.step, key.branch, undo.value] for key, undo in instance.undos.items()],
        "cause": instance.cause and instance.cause.value,
        "detail": instance.detail,
        "refusal": instance.refusal and [instance.refusal.type, instance.refusal.data.decode()],
        "stuck": instance.stuck and instance.stuck.value,
        "stuck_detail": instance.stuck_detail,
        "told": instance.told and instance.told.value,
        "sent": instance.sent_at and instance.sent_at.isoformat(),
        "resends": instance.resends,
        "trace": instance.traceparent,
    }
    return state | {name: value for name, value in optional.items() if value}


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def instance_of(row: InstanceRow) -> Instance:
    """Return the instance a row holds."""
    state: dict[str, Any] = orjson.loads(row.state)
    facts = [fact_from_json(entry) for entry in state["runs"]]
    refusal = state.get("refusal")
    return Instance(
        saga_id=row.saga_id,
        expires_at=datetime.fromisoformat(state["expires"]),
        phase=Phase(state["phase"]),
        runs={fact.key: fact for fact in facts},
        answers={name: Answer(value) for name, value in state.get("answers", {}).items()},
        undos={RunKey(step=s, branch=b): UndoStep(v) for s, b, v in state.get("undos", [])},
        cause=Cause(state["cause"]) if "cause" in state else None,
        detail=state.get("detail", ""),
        refusal=RefusalData(type=refusal[0], data=refusal[1].encode()) if refusal else None,
        stuck=Cause(state["stuck"]) if "stuck" in state else None,
        stuck_detail=state.get("stuck_detail", ""),
        told=Ending(state["told"]) if "told" in state else None,
        sent_at=_time(state.get("sent")),
        resends=state.get("resends", 0),
        due_at=row.due_at,
        ended_at=row.ended_at,
        traceparent=state.get("trace", ""),
    )
