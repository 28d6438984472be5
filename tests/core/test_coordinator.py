from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from saga._core.bodies import CancelRequested, Keep, Report, RunFact, TooLate, UndoFailed, Undone
from saga._core.coordinator import Due, decide
from saga._core.effects import Send, SendClose, SendUndo, Tell
from saga._core.instance import Answer, Instance, Phase, UndoStep
from saga._core.learning import learn_unplanned
from saga._core.words import Cause, Ending, RunKey, RunStatus
from tests.core.protocol_examples import (
    CAPTURED,
    EXPIRES,
    NOW,
    PIVOTAL,
    PLAIN,
    REFUSAL,
    RESERVED,
    SENT,
    SENT_PLAIN,
    START,
    TIMEOUT_AT,
    a_fact,
    closed,
    committed,
    new_instance,
    ran,
    told,
)

KEEP_AT = EXPIRES - timedelta(days=1)
RESERVE, SEND = RunKey(step="stock.reserve"), RunKey(step="ship.send")
REFUSED = a_fact("ship.send", RunStatus.REFUSED, cause="stock.reserve")
FAILED = a_fact("ship.send", RunStatus.FAILED, cause="stock.reserve")
CANCEL = CancelRequested(reason="customer called")


# --- 1. complete ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations([START, RESERVED, SENT_PLAIN])))
def test_all_that_is_owed_has_run_in_whatever_order(order: tuple[object, ...]) -> None:
    decision = told(PLAIN, *(ran(fact) for fact in order))  # type: ignore[arg-type]
    assert decision.instance.phase is Phase.COMPLETED
    (effect,) = decision.effects
    assert isinstance(effect, Tell)
    assert (effect.outcome.ending, effect.outcome.cause) == (Ending.COMPLETED, None)
    assert (decision.instance.due_at, decision.instance.ended_at) == (None, NOW)


def test_without_the_start_nothing_is_complete() -> None:
    assert told(PLAIN, ran(RESERVED), ran(SENT_PLAIN)).instance.phase is Phase.RUNNING


def test_it_completes_late_although_it_is_being_closed() -> None:
    asked = told(PLAIN, ran(START), ran(RESERVED), Due(), now=TIMEOUT_AT)
    assert asked.instance.phase is Phase.CLOSING
    late = told(PLAIN, closed("ship", SENT_PLAIN), at=asked.instance)
    assert late.instance.phase is Phase.COMPLETED
    (effect,) = late.effects
    assert isinstance(effect, Tell)
    assert effect.outcome.cause is None


def test_it_does_not_complete_once_an_undo_has_begun() -> None:
    undoing = told(PLAIN, ran(START), CANCEL, closed("stock", RESERVED), closed("ship", FAILED))
    assert undoing.effects == (SendUndo(key=RESERVE),)
    late = told(PLAIN, ran(SENT_PLAIN), at=undoing.instance)
    assert late.instance.phase is Phase.CLOSING


# --- 2. committed means only forward -------------------------------------------------------------------------


@pytest.mark.parametrize("late", [CANCEL, Due(), ran(a_fact("ship.send", RunStatus.FAILED))])
def test_after_the_pivot_only_forward(late: Report | Due) -> None:
    running = told(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED))
    assert running.instance.phase is Phase.COMMITTED
    assert running.instance.due_at == KEEP_AT
    after = told(PIVOTAL, late, at=running.instance, now=TIMEOUT_AT)
    assert (after.instance.phase, after.effects) == (Phase.COMMITTED, ())


def test_a_pivot_that_has_run_takes_the_reason_to_close_away() -> None:
    asking = told(PIVOTAL, ran(START), CANCEL)
    assert (asking.instance.phase, asking.effects) == (Phase.ASKING, (SendClose(service="pay"),))
    after = told(PIVOTAL, committed("pay", CAPTURED), at=asking.instance)
    assert (after.instance.phase, after.instance.cause, after.instance.detail) == (Phase.COMMITTED, None, "")
    done = told(PIVOTAL, ran(SENT), ran(RESERVED), at=after.instance)
    assert done.instance.phase is Phase.COMPLETED


def test_the_record_of_the_pivot_may_overtake_the_answer() -> None:
    after = told(PIVOTAL, ran(START), CANCEL, ran(CAPTURED))
    assert (after.instance.phase, after.instance.cause) == (Phase.COMMITTED, None)


# --- 3. what makes it close ----------------------------------------------------------------------------------


def test_a_refusal_closes_and_explains() -> None:
    decision = told(PLAIN, ran(START), ran(RESERVED), ran(REFUSED))
    assert decision.effects == (SendClose(service="ship"), SendClose(service="stock"))
    assert (decision.instance.cause, decision.instance.refusal) == (Cause.REFUSED, REFUSAL)


def test_a_failure_closes() -> None:
    decision = told(PLAIN, ran(START), ran(RESERVED), ran(FAILED))
    assert (decision.instance.phase, decision.instance.cause) == (Phase.CLOSING, Cause.FAILED)
    assert decision.instance.detail == "ship.send: boom"


def test_a_cancel_closes_whatever_is_known() -> None:
    decision = told(PLAIN, CANCEL)
    assert (decision.instance.phase, decision.instance.cause) == (Phase.CLOSING, Cause.CANCELLED)
    assert decision.instance.detail == "customer called"


def test_a_deadline_closes_when_it_is_due_and_not_before() -> None:
    running = told(PLAIN, ran(START)).instance
    assert running.due_at == TIMEOUT_AT
    early = decide(PLAIN, running, Due(), TIMEOUT_AT - timedelta(microseconds=1))
    assert (early.instance, early.effects) == (running, ())
    due = decide(PLAIN, running, Due(), TIMEOUT_AT)
    assert (due.instance.phase, due.instance.cause) == (Phase.CLOSING, Cause.DEADLINE)


def test_a_refusal_explains_better_than_the_deadline() -> None:
    asked = told(PLAIN, ran(START), ran(RESERVED), Due(), now=TIMEOUT_AT)
    decision = told(
        PLAIN, closed("ship", REFUSED), closed("stock", RESERVED), Undone(step="stock.reserve"), at=asked.instance
    )
    (effect,) = decision.effects
    assert isinstance(effect, Tell)
    assert (effect.outcome.cause, effect.outcome.refusal) == (Cause.REFUSED, REFUSAL)
    assert effect.outcome.detail == "ship.send"


# --- 4. the pivot's service first, alone ---------------------------------------------------------------------


def test_the_pivots_service_is_asked_alone_and_then_all_others() -> None:
    asking = told(PIVOTAL, ran(START), ran(RESERVED), Due(), now=TIMEOUT_AT)
    assert asking.effects == (SendClose(service="pay"),)
    closing = told(PIVOTAL, closed("pay"), at=asking.instance)
    assert closing.effects == (SendClose(service="ship"), SendClose(service="stock"))
    assert closing.instance.phase is Phase.CLOSING


# --- 5. undo in reverse --------------------------------------------------------------------------------------


def test_a_deadline_alone_undoes_nothing_until_it_is_proven_that_something_is_missing() -> None:
    asked = told(PLAIN, ran(START), Due(), now=TIMEOUT_AT)
    half = told(PLAIN, closed("stock", RESERVED), at=asked.instance)
    assert half.effects == ()
    proven = told(PLAIN, closed("ship"), at=half.instance)
    assert proven.effects == (SendUndo(key=RESERVE),)


def test_a_run_waits_for_the_answers_of_the_services_after_it() -> None:
    closing = told(PLAIN, ran(START), CANCEL)
    half = told(PLAIN, closed("stock", RESERVED), at=closing.instance)
    assert half.effects == ()
    whole = told(PLAIN, closed("ship"), at=half.instance)
    assert whole.effects == (SendUndo(key=RESERVE),)


def test_what_came_before_a_pivot_that_has_closed_is_undone() -> None:
    refused = a_fact("pay.capture", RunStatus.REFUSED, cause="stock.reserve")
    asked = told(PIVOTAL, ran(START), CANCEL, closed("pay", refused))
    undoing = told(PIVOTAL, closed("ship"), closed("stock", RESERVED), at=asked.instance)
    assert undoing.effects == (SendUndo(key=RESERVE),)
    done = told(PIVOTAL, Undone(step="stock.reserve"), at=undoing.instance)
    assert done.instance.phase is Phase.COMPENSATED


def test_an_ancestor_waits_until_its_descendant_is_undone() -> None:
    late = a_fact("ship.send", RunStatus.DONE, cause="stock.reserve")
    instance = told(PLAIN, ran(START), CANCEL, closed("stock", RESERVED)).instance
    undoing = replace(instance, undos={SEND: UndoStep.ASKED}, runs={**instance.runs, SEND: late})
    waiting = told(PLAIN, closed("ship", late), at=undoing)
    assert waiting.effects == ()
    freed = told(PLAIN, Undone(step="ship.send"), at=waiting.instance)
    assert freed.effects == (SendUndo(key=RESERVE),)


# --- 6. compensated ------------------------------------------------------------------------------------------


def test_compensated_once_all_have_answered_and_every_run_is_undone() -> None:
    closing = told(PLAIN, ran(START), ran(RESERVED), ran(REFUSED), closed("ship", REFUSED), closed("stock", RESERVED))
    assert closing.effects == (SendUndo(key=RESERVE),)
    ended = told(PLAIN, Undone(step="stock.reserve"), at=closing.instance)
    (effect,) = ended.effects
    assert isinstance(effect, Tell)
    assert (effect.outcome.ending, effect.outcome.refusal) == (Ending.COMPENSATED, REFUSAL)


@pytest.mark.parametrize("late", [ran(SENT_PLAIN), CANCEL, Due(), closed("ship"), Undone(step="ship.send")])
def test_what_has_ended_stays_as_it_is(late: Report | Due) -> None:
    ended = told(PLAIN, CANCEL, closed("ship"), closed("stock")).instance
    assert ended.phase is Phase.COMPENSATED
    after = decide(PLAIN, ended, late, EXPIRES)
    assert (after.instance, after.effects) == (ended, ())


# --- knowledge ------------------------------------------------------------------------------------------------


def test_a_late_record_never_lowers_what_is_known() -> None:
    known = told(PLAIN, ran(START), ran(RESERVED)).instance
    for status in (RunStatus.INTENT, RunStatus.FAILED, RunStatus.REFUSED):
        after = told(PLAIN, ran(a_fact("stock.reserve", status)), at=known)
        assert after.instance == known


def test_a_run_of_no_step_of_the_plan_is_not_believed() -> None:
    assert told(PLAIN, ran(a_fact("other.step", RunStatus.REFUSED))).instance.runs == {}


def test_a_repeated_input_changes_nothing() -> None:
    inputs: list[Report] = [ran(START), ran(RESERVED), ran(REFUSED), closed("ship", REFUSED), closed("stock", RESERVED)]
    instance = new_instance()
    for received in inputs:
        once = told(PLAIN, received, at=instance)
        twice = told(PLAIN, received, at=once.instance)
        assert (twice.instance, twice.effects) == (once.instance, ())
        instance = once.instance


def test_a_final_answer_of_a_service_is_final() -> None:
    closing = told(PIVOTAL, CANCEL, closed("pay")).instance
    after = told(PIVOTAL, committed("pay"), at=closing)
    assert after.instance.answers["pay"] is Answer.CLOSED


# --- sent again ------------------------------------------------------------------------------------------------


def test_commands_are_sent_again_after_30_s_doubling_to_10_min() -> None:
    instance = told(PLAIN, CANCEL).instance
    sent, pauses = NOW, list[float]()
    for _ in range(7):
        assert instance.due_at is not None
        pauses.append((instance.due_at - sent).total_seconds())
        early = decide(PLAIN, instance, Due(), instance.due_at - timedelta(microseconds=1))
        assert early.effects == ()
        sent = instance.due_at
        again = decide(PLAIN, instance, Due(), sent)
        assert again.effects == (SendClose(service="ship"), SendClose(service="stock"))
        instance = again.instance
    assert pauses == [30, 60, 120, 240, 480, 600, 600]


def test_only_what_is_unanswered_is_sent_again_and_news_start_over() -> None:
    instance = told(PLAIN, CANCEL, closed("stock", RESERVED)).instance
    assert instance.due_at is not None
    again = decide(PLAIN, instance, Due(), instance.due_at)
    assert again.effects == (SendClose(service="ship"),)
    later = NOW + timedelta(minutes=2)
    undoing = told(PLAIN, closed("ship"), at=again.instance, now=later).instance
    assert (undoing.resends, undoing.due_at) == (0, later + timedelta(seconds=30))
    assert undoing.due_at is not None
    assert decide(PLAIN, undoing, Due(), undoing.due_at).effects == (SendUndo(key=RESERVE),)


def test_going_forward_sends_nothing_again() -> None:
    committed_one = told(PIVOTAL, ran(START), CANCEL, ran(CAPTURED)).instance
    assert committed_one.answers["pay"] is Answer.ASKED
    assert committed_one.due_at == KEEP_AT
    assert decide(PIVOTAL, committed_one, Due(), NOW + timedelta(hours=1)).effects == ()


# --- stuck -----------------------------------------------------------------------------------------------------


def _undoing() -> Instance:
    return told(PLAIN, CANCEL, closed("stock", RESERVED), closed("ship")).instance


def test_an_undo_that_fails_for_good_is_told_once_and_freed_by_its_success() -> None:
    failed = UndoFailed(step="stock.reserve", reason="no such row")
    stuck = told(PLAIN, failed, at=_undoing())
    (effect,) = stuck.effects
    assert isinstance(effect, Tell)
    assert (effect.outcome.ending, effect.outcome.cause) == (Ending.STUCK, Cause.UNDO_FAILED)
    assert effect.outcome.detail == "stock.reserve: no such row"
    assert stuck.instance.due_at == KEEP_AT
    assert told(PLAIN, failed, at=stuck.instance).effects == ()
    freed = told(PLAIN, Undone(step="stock.reserve"), at=stuck.instance)
    assert (freed.instance.phase, freed.instance.stuck) == (Phase.COMPENSATED, None)


def test_a_late_failure_does_not_unmake_an_undo() -> None:
    instance = replace(_undoing(), undos={RESERVE: UndoStep.DONE, SEND: UndoStep.ASKED})
    after = told(PLAIN, UndoFailed(step="stock.reserve", reason="late"), at=instance)
    assert after.instance.stuck is None


def test_too_late_needs_a_person() -> None:
    stuck = told(PLAIN, TooLate(service="stock", step="stock.reserve", reason="no row"), at=_undoing())
    assert (stuck.instance.stuck, stuck.instance.stuck_detail) == (Cause.TOO_LATE, "stock.reserve: no row")
    assert told(PLAIN, Undone(step="stock.reserve"), at=stuck.instance).instance.phase is Phase.COMPENSATED


def test_too_late_about_what_was_obeyed_in_time_is_no_news() -> None:
    undone = replace(_undoing(), undos={RESERVE: UndoStep.DONE, SEND: UndoStep.ASKED})
    for late in (TooLate(service="stock", step="stock.reserve", reason=""), TooLate(service="ship", reason="")):
        assert told(PLAIN, late, at=undone).instance.stuck is None
    asked = told(PLAIN, CANCEL).instance
    assert told(PLAIN, TooLate(service="ship", reason="gone"), at=asked).instance.stuck is Cause.TOO_LATE


def test_open_at_the_end_of_the_forward_window_is_overdue_and_still_completes() -> None:
    committed_one = told(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED)).instance
    overdue = decide(PIVOTAL, committed_one, Due(), EXPIRES)
    *kept, effect = overdue.effects
    assert {(each.service, type(each.command)) for each in kept if isinstance(each, Send)} == {
        (service, Keep) for service in ("orders", "stock", "pay", "ship")
    }
    assert isinstance(effect, Tell)
    assert (effect.outcome.ending, effect.outcome.cause) == (Ending.STUCK, Cause.OVERDUE)
    assert overdue.instance.due_at is not None
    assert overdue.instance.due_at > EXPIRES
    ended = told(PIVOTAL, ran(SENT), at=overdue.instance)
    assert (ended.instance.phase, ended.instance.stuck) == (Phase.COMPLETED, None)


# --- a start that is late --------------------------------------------------------------------------------------------


def _closed_without_a_start(*facts: RunFact) -> Instance:
    overdue = decide(PLAIN, told(PLAIN, *(ran(fact) for fact in facts)).instance, Due(), TIMEOUT_AT).instance
    stock = [fact for fact in facts if fact.key.service == "stock"]
    ship = [fact for fact in facts if fact.key.service == "ship"]
    return told(PLAIN, closed("stock", *stock), closed("ship", *ship), at=overdue).instance


def test_what_lacks_only_the_record_of_its_start_is_not_undone() -> None:
    waiting = _closed_without_a_start(RESERVED, SENT_PLAIN)
    assert (waiting.phase, waiting.undos) == (Phase.CLOSING, {})
    assert told(PLAIN, ran(START), at=waiting).instance.phase is Phase.COMPLETED


def test_what_lacks_more_than_the_record_of_its_start_is_undone() -> None:
    assert _closed_without_a_start(RESERVED).undos == {RESERVE: UndoStep.ASKED}


# --- a plan that is not known ------------------------------------------------------------------------------------


def test_an_unknown_plan_is_asked_for_again() -> None:
    unplanned = learn_unplanned(new_instance(), [ran(START)], "h" * 64, NOW + timedelta(minutes=1))
    assert unplanned.due_at == NOW + timedelta(minutes=1)
    known = decide(PLAIN, unplanned, Due(), NOW + timedelta(minutes=1))
    assert (known.instance.stuck, known.instance.due_at) == (None, TIMEOUT_AT)


def test_facts_of_an_unknown_plan_are_kept_and_used_once_it_is_known() -> None:
    unplanned = learn_unplanned(new_instance(), [ran(START)], "h" * 64)
    assert unplanned.stuck is Cause.PLAN_UNKNOWN
    known = told(PLAIN, ran(RESERVED), at=unplanned)
    assert (known.instance.stuck, known.effects) == (None, ())
    assert known.instance.due_at == TIMEOUT_AT
    assert told(PLAIN, ran(SENT_PLAIN), at=known.instance).instance.phase is Phase.COMPLETED


def test_a_cancel_under_an_unknown_plan_is_not_forgotten() -> None:
    unplanned = learn_unplanned(new_instance(), [ran(START), CANCEL], "h" * 64)
    known = told(PLAIN, ran(RESERVED), at=unplanned)
    assert (known.instance.phase, known.instance.cause) == (Phase.CLOSING, Cause.CANCELLED)
