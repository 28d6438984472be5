"""Hold what the coordinator knows of one saga."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from saga._core.bodies import RefusalData, RunFact
from saga._core.frozen import replace
from saga._core.ids import run_path
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
    seen to come near the plan's limit, else 0. `traceparent` is the context of the first record; `burst` is the one
    to go on below where that is another: of the way back, or of what came after a long wait.
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
    burst: str = ""


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


_NEW = Instance(saga_id="", expires_at=datetime.min)  # noqa: DTZ901 - nobody looks at it


def new_instance(saga_id: str, expires_at: datetime) -> Instance:
    """Return what is known of a saga before anything is."""
    return replace(_NEW, saga_id=saga_id, expires_at=expires_at)
