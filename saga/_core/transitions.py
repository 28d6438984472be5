"""Say what has happened to one saga between two readings of it, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from saga._core.bodies import RunFact
from saga._core.ids import run_path
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep
from saga._core.words import Mark, RunKey, RunStatus

_PHASES = {
    Phase.RUNNING: "goes forward",
    Phase.ASKING: "is asked whether its pivot has run",
    Phase.CLOSING: "is closed and undone",
    Phase.COMMITTED: "is past its pivot and can only go forward",
    Phase.READY: "has done its part and waits for its parent",
    Phase.COMPLETED: "has completed",
    Phase.COMPENSATED: "has been undone",
}
_UNDOS = {
    UndoStep.ASKED: "is being undone",
    UndoStep.DONE: "was undone",
    UndoStep.FAILED: "could not be undone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Be one thing that has happened; `at` is None where nobody has written the time down."""

    text: str
    at: datetime | None = None
    run: RunKey | None = None


def transitions(before: Instance | None, after: Instance) -> tuple[Transition, ...]:
    """Return what has happened since `before`, None for all of it: runs by their time, then what followed."""
    known = before if before is not None else Instance(saga_id=after.saga_id, expires_at=after.expires_at)
    runs = [fact for key, fact in after.runs.items() if known.runs.get(key) != fact]
    found = [_ran(fact) for fact in sorted(runs, key=lambda fact: (fact.at, fact.key))]
    return (*found, *_turned(known, after), *_undone(known, after), *_marked(known, after), *_ended(known, after))


def has_ended(instance: Instance) -> bool:
    """Return whether nothing more can happen to the saga."""
    return instance.phase in ENDED


def _ran(fact: RunFact) -> Transition:
    said = fact.status.value
    if fact.status is RunStatus.FAILED:
        said = f"failed: {fact.error or 'it did not say why'}"
    elif fact.status is RunStatus.REFUSED and fact.refusal is not None:
        said = f"refused with {fact.refusal.type}"
    elif fact.emits:
        said += f", emitted {', '.join(fact.emits)}" + (f" x {fact.fan_out}" if fact.fan_out is not None else "")
    attempts = f" (attempt {fact.attempts})" if fact.attempts > 1 else ""
    return Transition(text=f"{run_path(*fact.key)} {said}{attempts}", at=fact.at, run=fact.key)


def _turned(known: Instance, after: Instance) -> Iterator[Transition]:
    if after.cause is not None and after.cause is not known.cause:
        yield Transition(text=f"it has to be undone: {after.cause.value}{_because(after.detail)}")
    if after.phase is not known.phase and after.phase not in ENDED:
        yield Transition(text=f"it {_PHASES[after.phase]}")
    for service, answer in after.answers.items():
        if answer is not Answer.ASKED and known.answers.get(service) is not answer:
            yield Transition(text=f"{service} has {answer.value}")


def _undone(known: Instance, after: Instance) -> Iterator[Transition]:
    for key, undo in after.undos.items():
        if known.undos.get(key) is not undo:
            yield Transition(text=f"{run_path(*key)} {_UNDOS[undo]}", run=key)


def _marked(known: Instance, after: Instance) -> Iterator[Transition]:
    if after.mark is not known.mark:
        yield Transition(text="it is held" if after.mark is Mark.HELD else "it is released", at=after.held_at)
    if after.stuck is not known.stuck or after.stuck_detail != known.stuck_detail:
        if after.stuck is not None:
            yield Transition(text=f"it is stuck: {after.stuck.value}{_because(after.stuck_detail)}")
        elif after.phase not in ENDED:
            yield Transition(text="it is not stuck any more")


def _ended(known: Instance, after: Instance) -> Iterator[Transition]:
    if after.phase in ENDED and known.phase not in ENDED:
        yield Transition(text=f"it {_PHASES[after.phase]}", at=after.ended_at)


def _because(detail: str) -> str:
    return f": {detail}" if detail else ""
