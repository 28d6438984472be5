"""Explain one saga in plain sentences: why it is or was undone, what it waits for, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import assert_never

from saga._core.audit import AuditRow
from saga._core.awaiting import still_to_tell, waits
from saga._core.children import parent_of
from saga._core.explanation import MOST_LINES, About, Case, Explanation, Line, Mend, told_at
from saga._core.frozen import replace
from saga._core.ids import run_path
from saga._core.inspecting import SagaRows
from saga._core.instance import ENDED, Instance, Phase, UndoStep
from saga._core.plan import Plan, Undoing, topology_of
from saga._core.rows import InstanceRow
from saga._core.stored_instance import instance_of
from saga._core.words import Cause, Mark, RunKey, RunStatus

MOST_NAMED = 20
"""How many runs of a completed saga are named in one sentence."""

__all__ = ["About", "Explanation", "Line", "Mend", "explain"]


def explain(
    row: InstanceRow,
    *,
    plan: Plan | None,
    rows: SagaRows | None = None,
    audits: Sequence[AuditRow] = (),
    now: datetime,
) -> Explanation:
    """Return the chain of causes of one saga, what it waits for, and what mends it.

    `rows` are those of its services' databases, None where nobody has looked; `audits` in any order; `plan` is None
    where it is not known. Pure and total: a state that cannot be read is said to be so.
    """
    title = f"{row.saga or 'a saga of an unknown name'} v{row.version}"
    try:
        instance = instance_of(row)
    except (ValueError, KeyError, TypeError):
        verdict = "its state was written by another version of saga: ask with that version"
        return Explanation(saga_id=row.saga_id, title=title, phase=row.phase, verdict=verdict)
    case = Case(
        instance=instance,
        topology=topology_of(plan) if plan is not None else None,
        rows=rows,
        audits=tuple(sorted(audits, key=lambda act: act.at)),
        now=now,
    )
    waiting, mends = still_to_tell(case) if instance.phase in ENDED else waits(case)
    lines = (*_began(case), *_causes(case), *_people(case), *_undone(case), *waiting, *_ended(case))
    found = Explanation(saga_id=row.saga_id, title=title, phase=row.phase, verdict="", lines=lines, mends=mends)
    return replace(found, verdict=_verdict(case, found))


def attempts_told(attempts: int) -> str:
    """Tell how many attempts something took."""
    return "at its first attempt" if attempts <= 1 else f"after {attempts} attempts"


# --- what has happened -----------------------------------------------------------------------------------------


def _began(case: Case) -> Iterator[Line]:
    start = case.topology.start if case.topology is not None else None
    fact = case.instance.runs.get(start) if start is not None else None
    if start is None:
        return
    if fact is None:
        yield Line(about=About.BEGAN, text=f"the record of {start.step} has not come in yet", run=start)
        return
    row = case.row_of(start)
    parent = parent_of(row) if row is not None else None
    began = f"{start.step} started it"
    if parent is not None:
        began += f", as a child of {run_path(*parent.key)} in saga {parent.saga_id}"
    yield Line(about=About.BEGAN, text=began, at=fact.at, run=start)


def _causes(case: Case) -> Iterator[Line]:
    """Yield why the saga turned: who refused or failed and on what it was built, a deadline, a cancel."""
    instance = case.instance
    troubled = [f for f in instance.runs.values() if f.status in (RunStatus.REFUSED, RunStatus.FAILED)]
    for fact in sorted(troubled, key=lambda fact: fact.at)[:MOST_LINES]:
        path = run_path(*fact.key)
        if fact.status is RunStatus.REFUSED:
            kind = fact.refusal.type if fact.refusal is not None else "a refusal"
            text = f"{path} refused with {kind} {attempts_told(fact.attempts)}"
        else:
            text = f"{path} failed {attempts_told(fact.attempts)}: {fact.error or 'it did not say why'}"
        way = " -> ".join(run_path(*key) for key in _way(instance, fact.key))
        if way:
            text += f" (it came from {way})"
        yield Line(about=About.CAUSE, text=text, at=fact.at, run=fact.key)
    told = _turned(case)
    if told and not (troubled and instance.cause in (Cause.REFUSED, Cause.FAILED)):
        act = case.last_act("cancel") if instance.cause is Cause.CANCELLED else None
        yield Line(about=About.CAUSE, text=told, at=act.at if act is not None else None)


def _way(instance: Instance, key: RunKey) -> tuple[RunKey, ...]:
    """Return the runs that led to one, from the start on; of several causes the first."""
    way: list[RunKey] = []
    fact = instance.runs.get(key)
    while fact is not None and fact.causes and fact.causes[0] not in way:
        way.append(fact.causes[0])
        fact = instance.runs.get(fact.causes[0])
    return tuple(reversed(way))


def _turned(case: Case) -> str:
    """Return why closing began, in words; "" while it has not."""
    instance = case.instance
    match instance.cause:
        case None:
            return ""
        case Cause.CANCELLED:
            act = case.last_act("cancel")
            return (
                f"{act.who} cancelled it: {act.why}" if act else f"its own services asked to cancel it: {_detail(case)}"
            )
        case Cause.DEADLINE:
            return f"a deadline passed: {_detail(case)}"
        case Cause.REFUSED:
            kind = f" with {instance.refusal.type}" if instance.refusal is not None else ""
            return f"{instance.detail} refused{kind}"
        case Cause.FAILED:
            step, colon, error = instance.detail.partition(": ")
            return f"{step} failed: {error or 'it did not say why'}" if colon else instance.detail
        case Cause.OVERDUE | Cause.UNDO_FAILED | Cause.TOO_LATE | Cause.IN_DOUBT | Cause.PLAN_UNKNOWN:
            return f"{instance.cause.value}: {_detail(case)}"
        case _:
            assert_never(instance.cause)


def _detail(case: Case) -> str:
    return case.instance.detail or "no reason was given"


_DID = {
    "retry": "had {} tried again",
    "skip": "skipped {}",
    "resolve": "said what came of {}",
    "cancel": "cancelled it",
    "hold": "held it",
    "release": "released it",
    "replay": "let {} be delivered again",
    "discard": "discarded {}",
}


def _people(case: Case) -> Iterator[Line]:
    for act in case.audits[-MOST_LINES:]:
        did = _DID.get(act.verb, f"did {act.verb} to {{}}").format(act.target)
        yield Line(about=About.PERSON, text=f"{act.who} {did}: {act.why}", at=act.at)


def _undone(case: Case) -> Iterator[Line]:
    """Yield what was undone, in the order in which it was; by the services' own times where these are known."""
    done = [key for key, undo in case.instance.undos.items() if undo is UndoStep.DONE]
    times = {key: row.undone_at if (row := case.row_of(key)) is not None else None for key in done}
    if all(at is not None for at in times.values()):
        done.sort(key=lambda key: times[key] or case.now)
    for key in done[:MOST_LINES]:
        step = case.step_of(key)
        empty = step is not None and step.undoing is Undoing.NOTHING
        said = "had nothing to undo" if empty else "was undone"
        yield Line(about=About.UNDONE, text=f"{run_path(*key)} {said}", at=times[key], run=key)


def _ended(case: Case) -> Iterator[Line]:
    instance = case.instance
    if instance.phase is Phase.COMPLETED:
        done = [fact for fact in instance.runs.values() if fact.status is RunStatus.DONE]
        named = [run_path(*fact.key) for fact in sorted(done, key=lambda fact: (fact.at, fact.key))]
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        text = f"it completed with {_runs(instance)}: {', '.join(named[:MOST_NAMED])}{more}"
        yield Line(about=About.ENDED, text=text, at=instance.ended_at)
    elif instance.phase is Phase.COMPENSATED:
        yield Line(about=About.ENDED, text="all that had been done is undone", at=instance.ended_at)


def _runs(instance: Instance) -> str:
    count = sum(fact.status is RunStatus.DONE for fact in instance.runs.values())
    return f"{count} runs" if count != 1 else "1 run"


# --- the sentence above ----------------------------------------------------------------------------------------


def _verdict(case: Case, found: Explanation) -> str:
    instance = case.instance
    causes = found.about(About.CAUSE)
    because = f" because {_turned(case) or causes[0].text}" if instance.cause or causes else ""
    waits = found.about(About.WAITS)
    waiting = f"; {waits[0].text}" if waits else ""
    if instance.phase not in ENDED and instance.mark is Mark.HELD:
        act = case.last_act("hold")
        who = f" by {act.who} ({act.why})" if act is not None else ""
        return f"it is held{who} since {told_at(instance.held_at)}: nothing more of it begins until it is released"
    if instance.phase not in ENDED and instance.stuck is not None:
        return f"it is stuck and needs a person: {instance.stuck_detail or instance.stuck.value}"
    match instance.phase:
        case Phase.RUNNING:
            return f"it is going forward{waiting}"
        case Phase.COMMITTED:
            return f"its pivot has run, so it can only go forward{waiting}"
        case Phase.ASKING | Phase.CLOSING:
            return f"it is being undone{because}{waiting}"
        case Phase.READY:
            return "it has done its part as a child saga, and waits for the saga that started it to end"
        case Phase.COMPLETED:
            return f"it completed at {told_at(instance.ended_at)}{waiting}"
        case Phase.COMPENSATED:
            return f"it was undone{because}{waiting}"
        case _:
            assert_never(instance.phase)
