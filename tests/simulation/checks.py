"""Check every decision of the coordinator, and tell it in words."""

from __future__ import annotations

from saga._core.bodies import Closed, Committed, RunReported
from saga._core.coordinator import Decision, Input
from saga._core.effects import SendClose, SendUndo, Tell
from saga._core.instance import ENDED, Instance, Phase, UndoStep
from saga._core.words import Cause, Ending, Mark, RunStatus
from tests.simulation.books import Violation

KNOWN = {
    RunStatus.WAITING: 0,
    RunStatus.INTENT: 1,
    RunStatus.FAILED: 2,
    RunStatus.REFUSED: 3,
    RunStatus.DONE: 3,
}
ENDINGS = {Phase.COMPLETED: Ending.COMPLETED, Phase.COMPENSATED: Ending.COMPENSATED}


def check_list(report: Closed | Committed) -> None:
    """Raise Violation unless the list of a service holds what has started, and only that."""
    for fact in report.runs:
        if fact.status is RunStatus.WAITING:
            raise Violation(f"lists: {fact.step} is in the list of {report.service} and has not started")


def check_decision(before: Instance, decision: Decision, counts: dict[str, int]) -> None:
    """Raise Violation unless a decision may follow; count what it was."""
    after = decision.instance
    if before.phase in ENDED:
        if after != before or decision.effects:
            raise Violation(f"final: a saga that was {before.phase.value} went on")
        return
    if after.phase is not before.phase:
        counts[f"{before.phase.value} -> {after.phase.value}"] += 1
    if after.cause is not None and before.cause is None:
        counts[f"closing: {after.cause.value}"] += 1
    if after.runs is not before.runs:
        _check_runs(before, after)
    if after.undos is not before.undos:
        for key, undo in before.undos.items():
            if undo is UndoStep.DONE and after.undos.get(key) is not UndoStep.DONE:
                raise Violation(f"knowledge rises: {key.step} was undone and is {after.undos.get(key)}")
    if after.phase not in ENDED and after.due_at is None and after.stuck is None:
        raise Violation(f"always due: a saga that is {after.phase.value} has no due time")
    if after.stuck is None and after.phase not in ENDED and (after.doubts or UndoStep.FAILED in after.undos.values()):
        raise Violation("stuck is seen: a failed undo or a call in doubt waits for a person, and the saga is not stuck")
    if after.stuck is Cause.IN_DOUBT and not after.doubts:
        raise Violation("stuck is seen: stuck with a doubt that is over")
    if after.stuck is Cause.UNDO_FAILED and UndoStep.FAILED not in after.undos.values():
        raise Violation("stuck is seen: stuck with a failed undo that is over")
    moved = after.cause not in (before.cause, None, Cause.REFUSED)
    if before.cause is not None and moved and before.phase is not Phase.RUNNING:
        raise Violation(f"first cause: closing because {before.cause}, and now because {after.cause}")
    if before.mark is Mark.HELD and after.mark is Mark.HELD:
        _check_held(decision)
    told = [effect.outcome for effect in decision.effects if isinstance(effect, Tell)]
    endings = [outcome.ending for outcome in told if outcome.ending is not Ending.STUCK]
    if endings != ([ENDINGS[after.phase]] if after.phase in ENDED else []):
        raise Violation(f"outcome: told {endings} about a saga that is {after.phase.value}")
    if after.stuck is not None and after.told is not Ending.STUCK:
        raise Violation("outcome: stuck, and nobody was told")
    if told:
        _check_told(after, decision)


def _check_held(decision: Decision) -> None:
    for effect in decision.effects:
        if isinstance(effect, SendClose | SendUndo) or (isinstance(effect, Tell) and effect.outcome.ending in ENDED):
            raise Violation(f"held is held: a held saga sends {effect}")


def _check_runs(before: Instance, after: Instance) -> None:
    for key, known in before.runs.items():
        fact = after.runs.get(key)
        if fact is known:
            continue
        lower = fact is None or KNOWN[fact.status] <= KNOWN[known.status]
        if lower:
            raise Violation(f"knowledge rises: {key.step} was {known.status} and is {fact.status if fact else 'gone'}")


def _check_told(after: Instance, decision: Decision) -> None:
    told = [effect.outcome for effect in decision.effects if isinstance(effect, Tell)]
    if len(told) > 1:
        raise Violation("outcome: told two at once")
    outcome = told[0]
    if (outcome.ending is Ending.COMPLETED) == (outcome.cause is not None):
        raise Violation(f"outcome: told {outcome.ending.value} with cause {outcome.cause}")
    refusals = [fact.refusal for fact in after.runs.values() if fact.status is RunStatus.REFUSED]
    if outcome.refusal is not None and outcome.refusal not in refusals:
        raise Violation("outcome: told a refusal that nobody made")
    if outcome.ending is Ending.COMPENSATED and outcome.refusal is None and refusals:
        raise Violation("outcome: did not tell the refusal that explains the end")


def described(before: Instance, decision: Decision, received: Input) -> str:
    """Return one decision in words."""
    after = decision.instance
    if isinstance(received, RunReported):
        fact = received.fact
        news = f"that {fact.step} is {fact.status.value}" + (f" and emitted {fact.emits[0]}" if fact.emits else "")
    else:
        news = str(received)
    phase = f"{before.phase.value} -> {after.phase.value}" if before.phase is not after.phase else after.phase.value
    stuck = f" (stuck: {after.stuck_detail})" if after.stuck else ""
    sends = "".join(f"\n    sends {effect}" for effect in decision.effects)
    return f"hears {news}: {phase}{stuck}{sends}"
