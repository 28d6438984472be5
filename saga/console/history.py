"""Tell what has happened to one saga in order, with what was before and after; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import cast

import orjson

from saga._core.audit import AuditRow
from saga._core.bodies import RunFact
from saga._core.ids import run_path
from saga._core.inspecting import SagaRows
from saga._core.instance import ENDED, Instance, UndoStep
from saga._core.rows import InstanceRow, RunRow
from saga._core.words import RunKey, RunStatus, UndoStatus

NOTHING = "-"


class By(StrEnum):
    """Say who did something: a service, the coordinator, a person."""

    SERVICE = "service"
    COORDINATOR = "coordinator"
    PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Name what is another thing afterwards."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Be one thing that has happened; `run` is "" for the whole saga."""

    at: datetime | None
    by: By
    who: str
    what: str
    run: str = ""
    why: str = ""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """Be one run as a table shows it, from what the coordinator and the service's own row say."""

    name: str
    step: str
    branch: str
    status: str
    undo: str
    attempts: int
    causes: tuple[str, ...]
    emits: tuple[str, ...]
    began_at: datetime | None
    done_at: datetime | None
    undone_at: datetime | None
    refusal: str
    error: str
    owner: str
    pending_at: datetime | None


_OLDEST = datetime.min.replace(tzinfo=UTC)


def run_views(instance: Instance | None, rows: SagaRows) -> list[RunView]:
    """Return all runs that anybody knows of, oldest first."""
    facts: Mapping[RunKey, RunFact] = instance.runs if instance is not None else {}
    stored = {row.key: row for row in rows.runs}
    undos: Mapping[RunKey, UndoStep] = instance.undos if instance is not None else {}
    doubts = instance.doubts if instance is not None and instance.phase not in ENDED else frozenset[RunKey]()
    views = [_view(facts.get(key), stored.get(key), undos.get(key)) for key in {**facts, **stored} if key not in doubts]
    views += [replace(_view(facts.get(key), stored.get(key), undos.get(key)), status=DOUBT) for key in doubts]
    return sorted(views, key=lambda view: (view.began_at or view.done_at or _OLDEST, view.name))


def _view(fact: RunFact | None, row: RunRow | None, undo: UndoStep | None) -> RunView:
    step, branch = (
        (row.step, row.branch) if row is not None else (fact.step, fact.branch) if fact is not None else ("", "")
    )
    causes = row.causes if row is not None else fact.causes if fact is not None else ()
    return RunView(
        name=run_path(step, branch),
        step=step,
        branch=branch,
        status=_status(fact, row),
        undo=_undo(fact, row, undo),
        attempts=max(row.attempt if row is not None else 0, fact.attempts if fact is not None else 0),
        causes=tuple(run_path(*cause) for cause in causes),
        emits=fact.emits if fact is not None else (row.result_type,) if row is not None and row.result_type else (),
        began_at=row.created_at if row is not None else None,
        done_at=(row.done_at if row is not None else None) or (fact.at if fact is not None else None),
        undone_at=row.undone_at if row is not None else None,
        refusal=fact.refusal.type if fact is not None and fact.refusal is not None else "",
        error=(row.error if row is not None else "") or (fact.error if fact is not None else ""),
        owner=row.owner if row is not None else "",
        pending_at=row.pending_at if row is not None else None,
    )


DOUBT = "in doubt"
"""What is said of an outside call of which nobody knows what came of it."""


def _status(fact: RunFact | None, row: RunRow | None) -> str:
    if row is not None:
        return row.status.value
    return fact.status.value if fact is not None else ""


def _undo(fact: RunFact | None, row: RunRow | None, asked: UndoStep | None) -> str:
    if row is not None and row.undo is not UndoStatus.NONE:
        return row.undo.value
    if fact is not None and fact.undo is not UndoStatus.NONE:
        return fact.undo.value
    return asked.value if asked is not None else ""


def history_of(
    row: InstanceRow, runs: Sequence[RunView], instance: Instance | None, audits: Sequence[AuditRow]
) -> list[Entry]:
    """Return everything that has happened, oldest first; what nobody knows the time of comes last."""
    entries = [*(entry for view in runs for entry in _of_run(view)), *map(_of_person, audits), *_of_end(row, instance)]
    return sorted(entries, key=lambda entry: (entry.at is None, entry.at or _OLDEST))


def _of_run(view: RunView) -> Iterator[Entry]:
    service = view.step.partition(".")[0]
    if view.status in (RunStatus.DONE, RunStatus.REFUSED, RunStatus.FAILED):
        tries = f" at attempt {view.attempts}" if view.attempts > 1 else ""
        said = f": {view.refusal}" if view.refusal else f": {view.error}" if view.status == RunStatus.FAILED else ""
        differences = [Difference(name="status", before=NOTHING, after=view.status)]
        if view.emits:
            differences.append(Difference(name="event", before=NOTHING, after=", ".join(view.emits)))
        yield Entry(
            at=view.done_at,
            by=By.SERVICE,
            who=service,
            what=f"{view.name} {view.status}{tries}{said}",
            run=view.name,
            differences=tuple(differences),
        )
    if view.undo == UndoStatus.DONE:
        change = Difference(name="effect", before=view.status, after="undone")
        yield Entry(
            at=view.undone_at,
            by=By.SERVICE,
            who=service,
            what=f"{view.name} undone",
            run=view.name,
            differences=(change,),
        )


def _of_person(act: AuditRow) -> Entry:
    target = "" if act.target == act.saga_id else act.target
    return Entry(
        at=act.at,
        by=By.PERSON,
        who=act.who,
        what=f"{act.verb} {target}".strip(),
        run=target,
        why=act.why,
        differences=tuple(changed_by(act)),
    )


def _of_end(row: InstanceRow, instance: Instance | None) -> Iterator[Entry]:
    if row.ended_at is None:
        return
    phase = instance.phase.value if instance is not None else row.phase
    change = Difference(name="phase", before="open", after=phase)
    yield Entry(
        at=row.ended_at, by=By.COORDINATOR, who="coordinator", what=f"the saga is {phase}", differences=(change,)
    )


def changed_by(act: AuditRow) -> list[Difference]:
    """Return what a person has changed; a replay writes down the whole letter, and changes only what it names."""
    found = differences_of(act.before, act.after)
    return [each for each in found if each.after != NOTHING] if act.verb == "replay" else found


def differences_of(before: bytes, after: bytes) -> list[Difference]:
    """Return what differs between two JSON objects, flattened; what cannot be read is shown as it is."""
    one, other = _flat(before), _flat(after)
    return [
        Difference(name=name, before=one.get(name, NOTHING), after=other.get(name, NOTHING))
        for name in {**one, **other}
        if one.get(name) != other.get(name)
    ]


def _flat(body: bytes) -> dict[str, str]:
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"": body.decode("utf-8", "backslashreplace")}
    if value is None:
        return {}
    if not isinstance(value, dict):
        return {"": orjson.dumps(value).decode()}
    found: dict[str, str] = {}
    for name, each in cast("dict[str, object]", value).items():
        if isinstance(each, dict):
            found |= {f"{name} {key}": _text(inner) for key, inner in cast("dict[str, object]", each).items()}
        else:
            found[name] = _text(each)
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
