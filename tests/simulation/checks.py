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
    if after.cause is not before.cause:
        _check_cause(before, after, counts)
    _check_runs(before, after)
    _check_undos(before, after)
    if after.phase not in ENDED:
        _check_open(after)
    if before.mark is Mark.HELD and after.mark is Mark.HELD:
        _check_held(decision)
    told = [effect.outcome for effect in decision.effects if isinstance(effect, Tell)]
    endings = [outcome.ending for outcome in told if outcome.ending is not Ending.STUCK]
    wanted = [ENDINGS[after.phase]] if after.phase in ENDED else []
    if after.phase is Phase.READY and before.phase is not Phase.READY:
        wanted = [Ending.COMPLETED]
    if endings != wanted:
        raise Violation(f"outcome: told {endings} about a saga that is {after.phase.value}")
    if told:
        _check_told(after, decision)


def _check_cause(before: Instance, after: Instance, counts: dict[str, int]) -> None:
    if before.cause is None and after.cause is not None:
        counts[f"closing: {after.cause.value}"] += 1
    elif after.cause not in (None, Cause.REFUSED) and before.phase is not Phase.RUNNING:
        raise Violation(f"first cause: closing because {before.cause}, and now because {after.cause}")


def _check_undos(before: Instance, after: Instance) -> None:
    if after.undos is before.undos:
        return
    for key, undo in before.undos.items():
        if undo is UndoStep.DONE and after.undos.get(key) is not UndoStep.DONE:
            raise Violation(f"knowledge rises: {key.step} was undone and is {after.undos.get(key)}")


def _check_open(after: Instance) -> None:
    """Check that an open saga is looked at again, and that what needs a person shows."""
    failed = UndoStep.FAILED in after.undos.values()
    if after.stuck is None:
        if after.due_at is None:
            raise Violation(f"always due: a saga that is {after.phase.value} has no due time")
        if after.doubts or failed:
            raise Violation("stuck is seen: a failed undo or a call in doubt waits, and the saga is not stuck")
        return
    if after.stuck is Cause.IN_DOUBT and not after.doubts:
        raise Violation("stuck is seen: stuck with a doubt that is over")
    if after.stuck is Cause.UNDO_FAILED and not failed:
        raise Violation("stuck is seen: stuck with a failed undo that is over")
    if after.told is not Ending.STUCK:
        raise Violation("outcome: stuck, and nobody was told")


def _check_held(decision: Decision) -> None:
    for effect in decision.effects:
        if isinstance(effect, SendClose | SendUndo) or (
            isinstance(effect, Tell) and effect.outcome.ending is not Ending.STUCK
        ):
            raise Violation(f"held is held: a held saga sends {effect}")


def _check_runs(before: Instance, after: Instance) -> None:
    if after.runs is before.runs:
        return
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
