"""Tell one saga for its drawings: every run with its times and its undo, whatever the rows at hand say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from saga._core.bodies import RunFact
from saga._core.closure import demanded
from saga._core.inspecting import SagaRows
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep
from saga._core.plan import Plan, Topology, topology_of
from saga._core.rows import InstanceRow, RunRow
from saga._core.stored_instance import instance_of
from saga._core.words import Mark, RunKey, RunStatus, UndoStatus


class State(StrEnum):
    """Say how a run is drawn; the values are the classes of the stylesheet."""

    DONE = "sg-done"
    REFUSED = "sg-refused"
    FAILED = "sg-failed"
    INTENT = "sg-intent"
    DOUBT = "sg-doubt"
    WAITING = "sg-waiting"
    OPEN = "sg-open"
    UNDOING = "sg-undoing"
    UNDONE = "sg-undone"
    UNDO_FAILED = "sg-undo-failed"
    UNTOUCHED = "sg-untouched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Be the time something took; `known` says that its end was recorded, not worked out from what lies around it."""

    begin: datetime
    end: datetime
    known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Be one run as it is drawn: `forward` from the end of its last cause to its own, `called` its outside call.

    `back` is its undo, None while nobody has asked for that. A run that is owed and of which nothing is known is OPEN.
    """

    key: RunKey
    state: State
    status: RunStatus | None
    forward: Span
    called: datetime | None = None
    back: Span | None = None
    attempts: int = 1
    causes: tuple[RunKey, ...] = ()
    emits: tuple[str, ...] = ()
    fan_out: int | None = None
    refusal: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Be one saga as it is drawn; `runs` lie in the order of their ends."""

    saga_id: str
    saga: str
    version: int
    phase: str
    plan: Plan | None
    runs: tuple[Told, ...]
    answers: Mapping[str, Answer]
    starter: str
    began: datetime
    now: datetime
    ended: datetime | None
    cause: str = ""
    detail: str = ""
    stuck: str = ""
    refusal: str = ""
    held: bool = False

    @property
    def open(self) -> bool:
        """Return whether something may still happen."""
        return self.ended is None

    @property
    def until(self) -> datetime:
        """Return where the drawing ends: with the saga, or now."""
        return self.ended or self.now

    @property
    def name(self) -> str:
        """Return what it is called in a title."""
        return f"{self.saga or 'saga'} v{self.version}" if self.version else self.saga or "saga"


def story_of(row: InstanceRow, plan: Plan | None, now: datetime, rows: SagaRows | None = None) -> Story:
    """Return what is drawn of a saga: the coordinator's row, its plan, and what participants' databases add.

    `now` is an aware time. Raises ValueError or KeyError where the row's state is of another version of saga.
    """
    instance = instance_of(row)
    topology = topology_of(plan) if plan is not None else None
    kept = {run.key: run for run in (rows.runs if rows is not None else ())}
    facts = {**_waiting(kept.values(), instance), **instance.runs}
    # Clocks of several services: nothing may end before the saga began, or the axis would have no beginning.
    began = min([row.started_at or now, *(fact.at for fact in facts.values())])
    until = max([instance.ended_at or now, *(fact.at for fact in facts.values())])
    backs = _backs(instance, facts, kept, until)
    runs = [_told(fact, facts, kept.get(key), instance, backs.get(key), began) for key, fact in facts.items()]
    runs += _owed(topology, instance, facts, until) if topology is not None else ()
    starter = plan.starter if plan is not None else next((f.key.service for f in facts.values() if not f.causes), "")
    return Story(
        saga_id=row.saga_id,
        saga=row.saga,
        version=row.version,
        phase=row.phase,
        plan=plan,
        runs=tuple(sorted(runs, key=lambda run: (run.forward.end, run.forward.begin, run.key))),
        answers=instance.answers,
        starter=starter,
        began=began,
        now=max(now, until),
        ended=until if instance.ended_at is not None else None,
        cause=instance.cause.value if instance.cause else "",
        detail=instance.detail,
        stuck=f"{instance.stuck.value}: {instance.stuck_detail}" if instance.stuck else "",
        refusal=instance.refusal.type if instance.refusal else "",
        held=instance.mark is Mark.HELD,
    )


def _waiting(kept: Iterable[RunRow], instance: Instance) -> dict[RunKey, RunFact]:
    """Return runs that only a participant knows of: joins that wait, and outside calls under way."""
    return {
        run.key: RunFact(
            step=run.step,
            branch=run.branch,
            status=run.status,
            causes=run.causes,
            at=run.done_at or run.called_at or run.created_at,
            attempts=max(run.attempt, 1),
            error=run.error,
        )
        for run in kept
        if run.key not in instance.runs
    }


def _told(
    fact: RunFact,
    facts: Mapping[RunKey, RunFact],
    kept: RunRow | None,
    instance: Instance,
    back: Span | None,
    began: datetime,
) -> Told:
    ends = [facts[cause].at for cause in fact.causes if cause in facts]
    begin = min(max(ends, default=began if fact.causes else fact.at), fact.at)
    called = kept.first_called_at if kept is not None else None
    return Told(
        key=fact.key,
        state=_state(fact, kept, instance),
        status=fact.status,
        forward=Span(begin=begin, end=fact.at),
        called=max(called, begin) if called is not None and called < fact.at else None,
        back=back,
        attempts=max(fact.attempts, 1),
        causes=fact.causes,
        emits=fact.emits,
        fan_out=fact.fan_out,
        refusal=fact.refusal.type if fact.refusal else "",
        error=fact.error,
    )


_UNDO = {UndoStep.ASKED: State.UNDOING, UndoStep.DONE: State.UNDONE, UndoStep.FAILED: State.UNDO_FAILED}
_KEPT_UNDO = {
    UndoStatus.WANTED: State.UNDOING,
    UndoStatus.INTENT: State.UNDOING,
    UndoStatus.DONE: State.UNDONE,
    UndoStatus.FAILED: State.UNDO_FAILED,
}
_STATUS = {
    RunStatus.WAITING: State.WAITING,
    RunStatus.INTENT: State.INTENT,
    RunStatus.FAILED: State.FAILED,
    RunStatus.REFUSED: State.REFUSED,
    RunStatus.DONE: State.DONE,
}


def _state(fact: RunFact, kept: RunRow | None, instance: Instance) -> State:
    if fact.key in instance.doubts and instance.phase not in ENDED:
        return State.DOUBT
    if fact.status not in (RunStatus.FAILED, RunStatus.REFUSED):
        # What was refused stays in sight as that; its undo has nothing to do.
        if fact.key in instance.undos:
            return _UNDO[instance.undos[fact.key]]
        undo = kept.undo if kept is not None else fact.undo
        if undo in _KEPT_UNDO:
            return _KEPT_UNDO[undo]
    return _STATUS[fact.status]


def _backs(
    instance: Instance, facts: Mapping[RunKey, RunFact], kept: Mapping[RunKey, RunRow], until: datetime
) -> dict[RunKey, Span]:
    """Return when runs were undone: as their participants recorded it, else in even paces along the way back."""
    asked = [key for key in instance.undos if key in facts]
    asked += [key for key, run in kept.items() if run.undo is not UndoStatus.NONE and key not in instance.undos]
    if not asked:
        return {}
    begin = min(max(fact.at for fact in facts.values()), until)
    depth = _depths(asked, facts)
    paces = max(depth.values()) + 1
    found: dict[RunKey, Span] = {}
    after: dict[RunKey, datetime] = {}
    for key in sorted(asked, key=lambda key: (depth[key], key)):
        run = kept.get(key)
        recorded = run.undone_at if run is not None else None
        pace = (until - begin) / paces
        end = recorded or begin + pace * (depth[key] + 1)
        done = instance.undos.get(key) is not UndoStep.ASKED or recorded is not None
        end = min(end if done else until, until)
        first = max(after.get(key, begin), facts[key].at)
        found[key] = Span(begin=min(first, end), end=max(end, facts[key].at), known=recorded is not None)
        for cause in facts[key].causes:
            after[cause] = max(after.get(cause, begin), end)
    return found


def _depths(asked: Iterable[RunKey], facts: Mapping[RunKey, RunFact]) -> dict[RunKey, int]:
    """Return for each run how many undos have to come before its own: 0 for those that nothing was built on."""
    wanted = list(asked)
    depth = dict.fromkeys(wanted, 0)
    # By their ends, the latest first: a cause has ended before what it caused, but clocks differ, hence the bound.
    for _ in range(min(len(wanted), 50)):
        grown = False
        for key in sorted(wanted, key=lambda key: facts[key].at, reverse=True):
            for cause in facts[key].causes:
                if cause in depth and depth[cause] <= depth[key]:
                    depth[cause], grown = depth[key] + 1, True
        if not grown:
            break
    return depth


def _owed(topology: Topology, instance: Instance, facts: Mapping[RunKey, RunFact], until: datetime) -> Iterable[Told]:
    """Yield the runs that the records demand and of which nothing is known, while they may still come."""
    if instance.phase in ENDED or instance.phase not in (Phase.RUNNING, Phase.COMMITTED):
        return
    owed: dict[RunKey, list[RunFact]] = {}
    for fact in facts.values():
        if fact.status is RunStatus.DONE:
            for key in demanded(topology, fact):
                if key not in facts:
                    owed.setdefault(key, []).append(fact)
    for key, causes in owed.items():
        begin = max(cause.at for cause in causes)
        yield Told(
            key=key,
            state=State.OPEN,
            status=None,
            forward=Span(begin=begin, end=until),
            causes=tuple(cause.key for cause in causes),
        )
