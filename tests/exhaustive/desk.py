"""Be the coordinator in the explored world: one instance, stored and read as a row between decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from saga._core.adding import added
from saga._core.bodies import CancelRequested, Close, Report, RunReported, Settled, Undo, Undone
from saga._core.coordinator import Due, decide
from saga._core.effects import Effect, Send, SendClose, SendUndo, SettleChild, Tell
from saga._core.instance import ENDED, Instance, Phase, UndoStep
from saga._core.rows import InstanceRow
from saga._core.stored_instance import instance_of, instance_row
from saga._core.words import RANK, Ending, RunKey, RunStatus
from tests.exhaustive.ledger import Violation
from tests.exhaustive.places import EXPIRY, NOW, SAGA_ID, TIMEOUT, Message, Order
from tests.exhaustive.rules import Rules
from tests.exhaustive.scenarios import Scenario

ENDINGS = {Phase.COMPLETED: Ending.COMPLETED, Phase.COMPENSATED: Ending.COMPENSATED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Be one transaction of the coordinator."""

    label: str
    row: InstanceRow
    sent: tuple[Message, ...]


class Desk:
    """Decide about the one saga there is."""

    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        """Explore under `rules`."""
        self._topology = scenario.topology
        self._is_child = bool(scenario.parent)
        self._rules = rules

    def first(self) -> InstanceRow:
        """Return the instance before anything is known."""
        return _row(Instance(saga_id=SAGA_ID, expires_at=EXPIRY))

    def hear(self, row: InstanceRow, report: Report) -> Decided:
        """Return what follows from a report."""
        return self._decide(row, report, NOW, type(report).__name__.lower())

    def cancel(self, row: InstanceRow) -> Decided:
        """Return what follows from a cancel."""
        return self._decide(row, CancelRequested(reason="asked"), NOW, "cancel")

    def settle(self, row: InstanceRow) -> Decided:
        """Return what follows when the parent of a child saga has completed."""
        return self._decide(row, Settled(), NOW, "settled")

    def time(self, row: InstanceRow) -> Decided:
        """Return what follows from a timeout that passes now; commands without an answer are sent again."""
        return self._decide(row, Due(), TIMEOUT, "due")

    def _decide(self, row: InstanceRow, received: Report | Due, now: datetime, label: str) -> Decided:
        before = instance_of(row)
        decision = self._rules.decide(self._topology, before, received, now)
        if self._rules.decide is decide and isinstance(received, RunReported):
            short = added(self._topology, before, (received.fact,), now)
            if short is not None and short != decision:
                raise Violation(f"the short way comes to something else: {short} is not {decision}")
        after = decision.instance
        if self._is_child and after.phase is Phase.COMPLETED and not after.settled:
            raise Violation("a child saga completed for good before its parent")
        _check(before, after, decision.effects)
        if after.phase is not before.phase:
            label = f"{label}: {before.phase.value} -> {after.phase.value}"
        sent = tuple(_message(effect) for effect in decision.effects if not isinstance(effect, Tell | SettleChild))
        return Decided(label=label, row=_row(after), sent=sent)


def settled_for_ever(instance: Instance, report: Report) -> bool:
    """Return whether a report says only what can never become news again."""
    if instance.phase in ENDED:
        return True
    match report:
        case RunReported(fact=fact):
            known = instance.runs.get(fact.key)
            return known is not None and RANK[known.status] == RANK[RunStatus.DONE]
        case Undone(step=step, branch=branch):
            return instance.undos.get(RunKey(step=step, branch=branch)) is UndoStep.DONE
        case _:
            return False


def _message(effect: Effect) -> Message:
    if isinstance(effect, SendClose):
        return Order(effect.service, Close())
    if isinstance(effect, Send):
        return Order(effect.service, effect.command)
    assert isinstance(effect, SendUndo)
    return Order(effect.key.service, Undo(step=effect.key.step, branch=effect.key.branch))


def _check(before: Instance, after: Instance, effects: Sequence[Effect]) -> None:
    told = [effect.outcome for effect in effects if isinstance(effect, Tell)]
    if before.phase in ENDED:
        if after != before or effects:
            raise Violation(f"a saga that was {before.phase.value} went on")
        return
    endings = [outcome.ending for outcome in told if outcome.ending is not Ending.STUCK]
    wanted = [ENDINGS[after.phase]] if after.phase in ENDED else []
    if after.phase is Phase.READY and before.phase is not Phase.READY:
        wanted = [Ending.COMPLETED]
    if endings != wanted:
        raise Violation(f"told {endings} about a saga that is {after.phase.value}")
    if len(told) > 1:
        raise Violation("told two outcomes at once")
    for outcome in told:
        if (outcome.ending is Ending.COMPLETED) == (outcome.cause is not None):
            raise Violation(f"told {outcome.ending.value} with cause {outcome.cause}")
        refusals = [fact.refusal for fact in after.runs.values() if fact.status is RunStatus.REFUSED]
        if outcome.refusal is not None and outcome.refusal not in refusals:
            raise Violation("told a refusal that nobody made")
        if outcome.ending is Ending.COMPENSATED and outcome.refusal is None and refusals:
            raise Violation("did not tell the refusal that explains the end")


def _row(instance: Instance) -> InstanceRow:
    """Return the row; what only time and the order of arrival decide is made the same."""
    instance = replace(
        instance,
        runs=dict(sorted(instance.runs.items())),
        answers=dict(sorted(instance.answers.items())),
        undos=dict(sorted(instance.undos.items())),
        sent_at=NOW if instance.sent_at is not None else None,
        resends=0,
        due_at=None,
        detail="",
        stuck_detail="",
        ended_at=NOW if instance.ended_at is not None else None,
    )
    return instance_row(instance, saga="", version=1, plan="", tenant="", partition=0, revision=0, started_at=None)
