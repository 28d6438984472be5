"""A call nobody answered: when it may be repeated, what a probe proves, and when a person has to look."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from saga._core.answers import (
    AnswerFromOutside,
    Emitted,
    NotHappened,
    Raised,
    Unanswerable,
    Unproven,
    Work,
    answered,
    work_of,
)
from saga._core.bodies import Closed, InDoubt, Undone
from saga._core.doubt import Memory, Question, as_before, forgotten, nothing_found, question
from saga._core.participant import Turn, close, compensating, in_doubt, undo
from saga._core.rows import GateRow, RunRow, TakenRun
from saga._core.words import GateState, RunKey, RunStatus, StepKind, UndoStatus
from tests.core.protocol_examples import EXPIRES, NOW, OUTSIDE, SAGA_ID, a_gate, a_run, a_step, a_topology

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MEMORY = Memory(max_in_flight=2 * MINUTE, key_ttl=24 * HOUR)
NEVER = NotHappened(attempts=3)
HOLD, CAPTURE = RunKey(step="pay.hold"), RunKey(step="pay.capture")


def a_call(step: str = "pay.hold", **changes: Any) -> RunRow:
    """A run whose call was made at NOW and never answered."""
    return a_run(
        step,
        changes.pop("status", RunStatus.INTENT),
        **{"attempt": 0, "pending_at": NOW, "first_called_at": NOW, "called_at": NOW, **changes},
    )


def taken(run: RunRow, at: datetime, owner: str = "") -> TakenRun:
    """A run as `take_runs` gives it out."""
    first = run.first_called_at or at
    lent = replace(run, owner="me", called_at=at, first_called_at=first, revision=run.revision + 1)
    return TakenRun(run=lent, called_at=run.called_at, owner=owner)


def answer(run: RunRow, said: AnswerFromOutside, gate: GateRow | None = None, now: datetime = NOW) -> Turn:
    return answered(OUTSIDE, run, gate, [run], said, now)


def written(turn: Turn) -> RunRow:
    assert turn.run is not None
    return turn.run


# --- what to ask ---------------------------------------------------------------------------------------------


def test_what_nobody_has_called_is_called() -> None:
    fresh = a_call(first_called_at=None, called_at=None)
    assert question(taken(fresh, NOW, owner="dead"), MEMORY, probed=True) is Question.CALL


def test_after_an_error_that_was_heard_the_call_is_repeated() -> None:
    assert question(taken(a_call(), NOW + MINUTE), MEMORY, probed=True) is Question.CALL


@pytest.mark.parametrize(("probed", "asked"), [(True, Question.PROBE), (False, Question.CALL)])
def test_a_call_that_nobody_has_heard_of_is_probed_first(probed: bool, asked: Question) -> None:
    over = taken(a_call(), NOW + MINUTE, owner="dead")
    wanted = taken(a_call(undo=UndoStatus.WANTED), NOW + MINUTE)
    given_up = taken(a_call(status=RunStatus.FAILED), NOW + MINUTE)
    assert [question(each, MEMORY, probed=probed) for each in (over, wanted, given_up)] == [asked] * 3


@pytest.mark.parametrize(("probed", "asked"), [(True, Question.PROBE), (False, Question.NONE)])
def test_what_may_reach_a_system_that_has_forgotten_the_key_is_not_called(probed: bool, asked: Question) -> None:
    last = NOW + MEMORY.key_ttl - MEMORY.max_in_flight
    for run in (a_call(), a_call(undo=UndoStatus.WANTED)):
        late = taken(run, last + timedelta(seconds=1))
        assert question(late, MEMORY, probed=probed) is asked
    assert question(taken(a_call(), last), MEMORY, probed=probed) is Question.CALL


# --- what a probe proves ---------------------------------------------------------------------------------------


def test_nothing_found_proves_nothing_while_the_call_may_be_under_way() -> None:
    early = taken(a_call(), NOW + MEMORY.max_in_flight - timedelta(seconds=1))
    found = nothing_found(early, MEMORY, attempts=3, now=NOW + HOUR)
    assert isinstance(found, Unproven)
    assert found.ask_at == NOW + MEMORY.max_in_flight
    settled = taken(a_call(), NOW + MEMORY.max_in_flight)
    assert nothing_found(settled, MEMORY, attempts=3, now=NOW + HOUR) == NEVER


def test_it_is_the_last_call_that_counts_and_not_the_first() -> None:
    again = a_call(called_at=NOW + HOUR)
    assert isinstance(nothing_found(taken(again, NOW + HOUR), MEMORY, attempts=3, now=NOW + HOUR), Unproven)


def test_a_system_that_may_have_forgotten_proves_nothing() -> None:
    asked = taken(a_call(), NOW + 23 * HOUR)
    assert nothing_found(asked, MEMORY, attempts=3, now=NOW + 24 * HOUR - MINUTE) == NEVER
    assert isinstance(nothing_found(asked, MEMORY, attempts=3, now=NOW + 24 * HOUR), Unanswerable)


def test_a_probe_is_no_call() -> None:
    before = a_call()
    probed = taken(before, NOW + HOUR)
    assert as_before(probed, probed.run).called_at == NOW
    fresh = taken(a_call(first_called_at=None, called_at=None), NOW)
    assert (as_before(fresh, fresh.run).called_at, as_before(fresh, fresh.run).first_called_at) == (None, None)


# --- what follows from it ----------------------------------------------------------------------------------------


def test_forward_the_same_call_under_the_same_key_needs_no_proof() -> None:
    unproven = Unproven(ask_at=NOW + 2 * MINUTE, call_until=NOW + HOUR)
    turn = answer(a_call(owner="me"), unproven)
    again = written(turn)
    assert (again.pending_at, again.owner, again.generation, turn.kick) == (NOW, "", 0, True)
    assert question(taken(again, NOW), MEMORY, probed=True) is Question.CALL
    late = written(answer(a_call(owner="me"), unproven, now=NOW + HOUR + MINUTE))
    assert late.pending_at == unproven.ask_at


@pytest.mark.parametrize(
    ("run", "gate"),
    [
        (a_call(undo=UndoStatus.WANTED, owner="me"), a_gate(GateState.CLOSED)),
        (a_call("pay.capture", owner="me"), a_gate(GateState.CLOSING)),
        (a_call("pay.capture", owner="me", status=RunStatus.FAILED), a_gate(GateState.CLOSING)),
        (a_call(owner="me"), a_gate(GateState.CLOSED)),
    ],
)
def test_who_wants_it_not_to_happen_waits_for_the_proof(run: RunRow, gate: GateRow) -> None:
    turn = answer(run, Unproven(ask_at=NOW + 2 * MINUTE, call_until=NOW + HOUR), gate)
    waiting = written(turn)
    assert (waiting.pending_at, turn.reports, turn.kick) == (NOW + 2 * MINUTE, (), False)
    assert question(taken(waiting, NOW, waiting.owner), MEMORY, probed=True) is Question.PROBE


def test_forward_a_call_proven_not_to_have_happened_is_made_anew_under_another_key() -> None:
    turn = answer(a_call(generation=4, owner="me"), NEVER)
    anew = written(turn)
    assert (anew.generation, anew.first_called_at, anew.called_at, anew.owner) == (5, None, None, "")
    assert (anew.status, anew.pending_at, anew.attempt, turn.kick) == (RunStatus.INTENT, NOW, 1, True)
    assert work_of(anew) is Work.ACT


def test_without_attempts_left_it_has_failed_and_is_in_no_doubt() -> None:
    turn = answer(a_call(attempt=2), NEVER)
    ended = written(turn)
    assert (ended.status, ended.pending_at, turn.emit) == (RunStatus.FAILED, None, ended)
    assert not in_doubt(OUTSIDE.steps["pay.hold"], ended)
    certain = a_topology(a_step("pay.hold", "placed.v1", kind=StepKind.RETRIABLE))
    run = a_call(attempt=50)
    assert written(answered(certain, run, None, [run], NEVER, NOW)).status is RunStatus.INTENT


def test_behind_a_closed_gate_it_is_not_called_again() -> None:
    turn = answer(a_call(), NEVER, a_gate(GateState.CLOSED))
    assert (written(turn).status, turn.reports) == (RunStatus.FAILED, ())


def test_a_step_beside_the_pivot_goes_on_while_that_is_in_doubt() -> None:
    assert written(answer(a_call(), NEVER, a_gate(GateState.CLOSING))).status is RunStatus.INTENT


def test_an_undo_of_what_has_not_happened_has_nothing_to_compensate() -> None:
    turn = answer(a_call(undo=UndoStatus.WANTED), NEVER, a_gate(GateState.CLOSED))
    assert (written(turn).undo, written(turn).called_at) == (UndoStatus.DONE, None)
    assert turn.reports == (Undone(step="pay.hold"),)


@pytest.mark.parametrize("status", [RunStatus.INTENT, RunStatus.FAILED])
def test_a_pivot_that_has_not_happened_lets_its_service_close(status: RunStatus) -> None:
    turn = answer(a_call("pay.capture", status=status), NEVER, a_gate(GateState.CLOSING))
    assert (turn.gate and turn.gate.state, turn.release) == (GateState.CLOSED, True)
    assert isinstance(turn.reports[0], Closed)
    assert [(fact.step, fact.status) for fact in turn.reports[0].runs] == [("pay.capture", RunStatus.FAILED)]


@pytest.mark.parametrize("undoing", [UndoStatus.NONE, UndoStatus.WANTED])
def test_what_cannot_be_answered_is_reported_once_and_left_to_a_person(undoing: UndoStatus) -> None:
    turn = answer(a_call(undo=undoing, owner="me"), Unanswerable(reason="forgotten"))
    left = written(turn)
    assert (left.pending_at, left.owner, left.undo, left.error) == (None, "", undoing, "forgotten")
    assert turn.reports == (InDoubt(step="pay.hold", reason="forgotten"),)
    assert in_doubt(OUTSIDE.steps["pay.hold"], left)


def test_a_person_may_still_bring_the_answer() -> None:
    left = written(answer(a_call(undo=UndoStatus.WANTED), Unanswerable(reason="forgotten")))
    happened = written(answer(left, Emitted(type="held.v1", payload=b"{}")))
    assert happened.undo is UndoStatus.INTENT
    assert written(answer(left, NEVER)).undo is UndoStatus.DONE


# --- close and undo ------------------------------------------------------------------------------------------------


def _undo(run: RunRow) -> Turn:
    decided = undo(OUTSIDE, "pay", SAGA_ID, HOLD, gate=None, run=run, expires_at=EXPIRES, now=NOW)
    assert isinstance(decided, Turn)
    return decided


def test_an_intent_that_nobody_has_called_is_undone_at_once() -> None:
    turn = _undo(a_call(first_called_at=None, called_at=None))
    assert (written(turn).undo, written(turn).pending_at) == (UndoStatus.DONE, None)
    assert turn.reports == (Undone(step="pay.hold"),)
    assert written(_undo(a_call())).undo is UndoStatus.WANTED


def test_a_pivot_that_nobody_has_called_is_closed_at_once_and_never_called() -> None:
    pivot = a_call("pay.capture", first_called_at=None, called_at=None)
    turn = close(OUTSIDE, "pay", SAGA_ID, gate=None, runs=[pivot], expires_at=EXPIRES, now=NOW)
    assert (written(turn).status, written(turn).pending_at, turn.emit) == (RunStatus.FAILED, None, turn.run)
    assert (turn.gate and turn.gate.state) is GateState.CLOSED
    assert isinstance(turn.reports[0], Closed)
    assert turn.reports[0].runs[0].status is RunStatus.FAILED


def test_an_undo_that_waits_for_a_person_says_so_again() -> None:
    left = written(answer(a_call(undo=UndoStatus.WANTED), Unanswerable(reason="forgotten")))
    assert _undo(left).reports == (InDoubt(step="pay.hold", reason="forgotten"),)
    assert _undo(a_call(undo=UndoStatus.WANTED)).reports == ()


def test_a_close_that_waits_for_a_person_asks_once_more() -> None:
    left = written(answer(a_call("pay.capture"), Unanswerable(reason="forgotten"), a_gate(GateState.CLOSING)))
    turn = close(OUTSIDE, "pay", SAGA_ID, gate=a_gate(GateState.CLOSING), runs=[left], expires_at=EXPIRES, now=NOW)
    assert written(turn).pending_at == NOW


def test_a_compensation_begins_with_a_key_that_nobody_has_seen() -> None:
    due = compensating(a_call(status=RunStatus.DONE), NOW + HOUR)
    assert (due.first_called_at, due.called_at) == (None, None)


def test_a_probe_that_raises_is_a_call_that_raises() -> None:
    again = written(answer(a_call(), Raised(error="boom", attempts=3, retry_at=NOW + MINUTE)))
    assert (again.attempt, again.pending_at, again.called_at) == (1, NOW + MINUTE, NOW)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(hours=24), "24 h"),
        (timedelta(minutes=90), "1.5 h"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(seconds=2), "2 s"),
    ],
)
def test_it_says_in_words_for_how_long_nobody_has_answered(span: timedelta, words: str) -> None:
    memory = Memory(max_in_flight=timedelta(seconds=1), key_ttl=span)
    assert f"no answer within {words};" in forgotten(memory).reason
