"""Turn what is known of a saga into the row it is kept in, and back."""

from __future__ import annotations

from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import orjson

from saga._core.bodies import ERROR_CHARS, RefusalData, RunFact
from saga._core.facts import refusal_to_json
from saga._core.fields import clean_text
from saga._core.frozen import builder, replace
from saga._core.ids import run_path
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep, new_instance
from saga._core.rows import InstanceRow
from saga._core.trouble import NO_TROUBLE, trouble_of
from saga._core.words import Cause, Ending, Kind, Mark, Priority, RunKey, RunStatus, UndoStatus

_row = builder(InstanceRow)
_fact = builder(RunFact)

STUCK_PHASE = "stuck"
MICROSECOND = timedelta(microseconds=1)


_seldom = attrgetter(
    *("answers", "undos", "owed", "doubts", "cause", "detail", "refusal", "stuck", "stuck_detail", "sent_at"),
    *("resends", "mark", "number", "held_at", "paused", "settled", "attempts_alarm", "lane", "keep_until", "burst"),
)
_NEW = new_instance("", datetime.min)  # noqa: DTZ901 - nobody looks at it
_USUAL = _seldom(_NEW)


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
    state: bytes | None = None,
) -> InstanceRow:
    """Return the row to store for `instance`; `revision` is that of the row it was read from (0: new).

    A `state` that is given stands in it as it is; of a row that is not stored yet it may be left empty.
    """
    step, error = NO_TROUBLE
    if instance.stuck is not None:
        step, error = trouble_of(instance.stuck, instance.stuck_detail, None)
    elif instance.cause is not None:
        step, error = trouble_of(instance.cause, instance.detail, instance.refusal)
    return _row(
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
        state=state_of(instance) if state is None else state,
        step=step,
        error=error,
        revision=revision,
    )


def state_of(instance: Instance) -> bytes:
    """Return the JSON of everything that is in no column of its row."""
    return orjson.dumps(_to_json(instance))


def _to_json(instance: Instance) -> dict[str, Any]:
    # orjson writes enumerations and times by itself, and far quicker.
    state: dict[str, Any] = {
        "phase": instance.phase,
        "expires": instance.expires_at,
        "runs": [_run_to_json(fact) for fact in instance.runs.values()],
    }
    if instance.traceparent:
        state["trace"] = instance.traceparent
    if instance.told is not None:
        state["told"] = instance.told
    if _seldom(instance) == _USUAL:
        return state
    return state | {name: value for name, value in _rare(instance).items() if value}


def _rare(instance: Instance) -> dict[str, Any]:
    return {
        "answers": instance.answers,
        "undos": [[key.step, key.branch, undo] for key, undo in instance.undos.items()],
        "cause": instance.cause,
        "detail": instance.detail,
        "refusal": instance.refusal and [instance.refusal.type, instance.refusal.data.decode()],
        "stuck": instance.stuck,
        "stuck_detail": instance.stuck_detail,
        "sent": instance.sent_at,
        "resends": instance.resends,
        "mark": instance.mark if instance.mark is not Mark.FREE else None,
        "number": instance.number,
        "held": instance.held_at,
        "paused_us": instance.paused // MICROSECOND,
        "owed": [[service, kind, number] for (service, kind), number in instance.owed.items()],
        "settled": instance.settled,
        "attempts_alarm": instance.attempts_alarm,
        "lane": instance.lane if instance.lane is not Priority.NORMAL else None,
        "doubts": [[key.step, key.branch] for key in sorted(instance.doubts)],
        "keep": instance.keep_until,
        "burst": instance.burst,
    }


def _run_to_json(fact: RunFact) -> list[Any]:
    """Return a fact as an array, which is a third shorter than the object that goes over the wire."""
    run = [
        run_path(fact.step, fact.branch),
        fact.status,
        fact.at,
        fact.attempts,
        [run_path(*cause) for cause in fact.causes],
        fact.emits,
    ]
    if fact.fan_out is not None or fact.refusal is not None or fact.undo is not UndoStatus.NONE or fact.error:
        refusal = fact.refusal and refusal_to_json(fact.refusal)
        run += [fact.fan_out, refusal, fact.undo, clean_text(fact.error, ERROR_CHARS)]
    return run


def _run_of(run: list[Any]) -> RunFact:
    path, status, at, attempts, causes, emits = run[:6]
    fan_out, refusal, undo, error = run[6:] or (None, None, UndoStatus.NONE, "")
    step, _, branch = path.partition("/")
    return _fact(
        step=step,
        branch=branch,
        status=RunStatus(status),
        causes=tuple([_key_of(cause) for cause in causes]),
        emits=tuple(emits),
        fan_out=fan_out,
        at=datetime.fromisoformat(at),
        attempts=attempts,
        refusal=refusal and RefusalData(type=refusal["type"], data=refusal["data"].encode()),
        undo=UndoStatus(undo),
        error=error,
    )


def _key_of(path: str) -> RunKey:
    step, _, branch = path.partition("/")
    return RunKey(step, branch)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def instance_of(row: InstanceRow) -> Instance:
    """Return the instance a row holds."""
    state: dict[str, Any] = orjson.loads(row.state)
    facts = [_run_of(entry) for entry in state.pop("runs")]
    plain = replace(
        _NEW,
        saga_id=row.saga_id,
        expires_at=datetime.fromisoformat(state.pop("expires")),
        phase=Phase(state.pop("phase")),
        runs={fact.key: fact for fact in facts},
        told=Ending(state.pop("told")) if "told" in state else None,
        due_at=row.due_at,
        ended_at=row.ended_at,
        traceparent=state.pop("trace", ""),
    )
    return _with_rare(plain, state) if state else plain


def _with_rare(instance: Instance, state: dict[str, Any]) -> Instance:
    refusal = state.get("refusal")
    return replace(
        instance,
        answers={name: Answer(value) for name, value in state.get("answers", {}).items()},
        undos={RunKey(step=s, branch=b): UndoStep(v) for s, b, v in state.get("undos", [])},
        cause=Cause(state["cause"]) if "cause" in state else None,
        detail=state.get("detail", ""),
        refusal=RefusalData(type=refusal[0], data=refusal[1].encode()) if refusal else None,
        stuck=Cause(state["stuck"]) if "stuck" in state else None,
        stuck_detail=state.get("stuck_detail", ""),
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
        burst=state.get("burst", ""),
        doubts=frozenset(RunKey(step=step, branch=branch) for step, branch in state.get("doubts", [])),
    )
