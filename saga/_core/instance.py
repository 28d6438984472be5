"""Hold what the coordinator knows of one saga, and how it is written into a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from saga._core.bodies import RefusalData, RunFact
from saga._core.facts import fact_from_json, fact_to_json
from saga._core.ids import run_path
from saga._core.rows import InstanceRow
from saga._core.words import Cause, Ending, Kind, Mark, Priority, RunKey


class Phase(StrEnum):
    """Say what a saga's coordinator is doing about it.

    RUNNING watches. ASKING has asked the pivot's service, alone, to close. CLOSING has asked all
    services and undoes what may be undone. COMMITTED knows that the pivot has run: only forward. READY is a
    child saga of which everything has run: it is completed, unless its parent is undone.
    """

    RUNNING = "running"
    ASKING = "asking"
    CLOSING = "closing"
    COMMITTED = "committed"
    READY = "ready"
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
    published. `sent_at` and `resends` time the repetition of unanswered commands. `mark` says whether a person
    holds the saga and `number` counts such commands; `owed` are those a service has not answered yet. `held_at` is
    since when, and `paused` how long it was held before: that time counts for no deadline.
    `keep_until` is the time its rows are kept until, None while its expiry will do. `doubts` are the runs whose
    outside call only a person can resolve. `settled` says of a child saga that its parent has completed.
    `lane` is that of every message about it. `attempts_alarm` is how many attempts had been made when they were
    seen to come near the plan's limit, else 0.
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
    mark: Mark = Mark.FREE
    number: int = 0
    held_at: datetime | None = None
    paused: timedelta = timedelta()
    owed: Mapping[tuple[str, Kind], int] = field(default_factory=dict[tuple[str, Kind], int])
    keep_until: datetime | None = None
    doubts: frozenset[RunKey] = frozenset()
    settled: bool = False
    attempts_alarm: int = 0
    lane: Priority = Priority.NORMAL
    due_at: datetime | None = None
    ended_at: datetime | None = None
    traceparent: str = ""


def freed(instance: Instance) -> Instance:
    """Return an instance that has got over what it was stuck with: stuck with what else needs a person, or not at all.

    The mark names one trouble; a second one must not be forgotten with the first.
    """
    if instance.doubts:
        key = min(instance.doubts)
        detail = f"{run_path(key.step, key.branch)}: its outside call is in doubt"
        return replace(instance, stuck=Cause.IN_DOUBT, stuck_detail=detail)
    failed = [key for key, undo in instance.undos.items() if undo is UndoStep.FAILED]
    if failed:
        key = min(failed)
        detail = f"{run_path(key.step, key.branch)}: its undo has failed"
        return replace(instance, stuck=Cause.UNDO_FAILED, stuck_detail=detail)
    return replace(instance, stuck=None, stuck_detail="")


def kept_until(instance: Instance) -> datetime:
    """Return until when the participants run the saga's steps and keep its rows."""
    return instance.expires_at if instance.keep_until is None else max(instance.expires_at, instance.keep_until)


STUCK_PHASE = "stuck"
MICROSECOND = timedelta(microseconds=1)


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
        "mark": instance.mark.value if instance.mark is not Mark.FREE else None,
        "number": instance.number,
        "held": instance.held_at and instance.held_at.isoformat(),
        "paused_us": instance.paused // MICROSECOND,
        "owed": [[service, kind.value, number] for (service, kind), number in instance.owed.items()],
        "settled": instance.settled,
        "attempts_alarm": instance.attempts_alarm,
        "lane": instance.lane.value if instance.lane is not Priority.NORMAL else None,
        "doubts": [[key.step, key.branch] for key in sorted(instance.doubts)],
        "keep": instance.keep_until and instance.keep_until.isoformat(),
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
        mark=Mark(state.get("mark", Mark.FREE)),
        number=state.get("number", 0),
        held_at=_time(state.get("held")),
        paused=state.get("paused_us", 0) * MICROSECOND,
        owed={(service, Kind(kind)): number for service, kind, number in state.get("owed", [])},
        keep_until=_time(state.get("keep")),
        settled=state.get("settled", False),
        attempts_alarm=state.get("attempts_alarm", 0),
        lane=Priority(state.get("lane", Priority.NORMAL)),
        doubts=frozenset(RunKey(step=step, branch=branch) for step, branch in state.get("doubts", [])),
        due_at=row.due_at,
        ended_at=row.ended_at,
        traceparent=state.get("trace", ""),
    )
