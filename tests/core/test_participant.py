from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from saga._core.answers import Emitted, Raised, Refused, Work, answered, is_stale, work_of
from saga._core.bodies import Closed, Committed, TooLate, UndoFailed, Undone
from saga._core.participant import (
    Compensate,
    Meeting,
    Turn,
    close,
    compensated,
    compensation_raised,
    fact_of,
    meet,
    undo,
)
from saga._core.plan import Topology, Undoing
from saga._core.rows import GateRow, RunRow
from saga._core.words import GateState, RunKey, RunStatus, StepKind, UndoStatus
from tests.core.protocol_examples import (
    EXPIRES,
    NOW,
    OUTSIDE,
    PIVOTAL,
    PLAIN,
    SAGA_ID,
    a_gate,
    a_run,
    a_step,
    a_topology,
)

LATER = NOW + timedelta(seconds=5)
RAISED = Raised(error="boom", attempts=2, retry_at=LATER)
YES = Emitted(type="held.v1", payload=b"{}")
NO = Refused(type="declined.v1", payload=b"{}")
HOLD, CAPTURE = RunKey(step="pay.hold"), RunKey(step="pay.capture")


# --- meeting an event ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(GateState))
@pytest.mark.parametrize("status", [status for status in RunStatus if status is not RunStatus.WAITING])
def test_a_run_that_exists_is_a_duplicate_whatever_the_gate(state: GateState, status: RunStatus) -> None:
    run = a_run("pay.hold", status)
    assert meet(gate=a_gate(state), run=run, expires_at=EXPIRES, now=EXPIRES) is Meeting.DUPLICATE


@pytest.mark.parametrize(
    ("gate", "meeting"),
    [
        (None, Meeting.RUN),
        (GateState.OPEN, Meeting.RUN),
        (GateState.CLOSING, Meeting.HELD),
        (GateState.CLOSED, Meeting.TURNED_AWAY),
    ],
)
def test_the_gate_decides_about_what_is_new(gate: GateState | None, meeting: Meeting) -> None:
    row = a_gate(gate) if gate else None
    assert meet(gate=row, run=None, expires_at=EXPIRES, now=NOW) is meeting
    waiting = a_run("pay.hold", RunStatus.WAITING)
    assert meet(gate=row, run=waiting, expires_at=EXPIRES, now=NOW) is meeting


def test_nothing_new_runs_after_the_expiry_unless_the_saga_is_kept() -> None:
    assert meet(gate=None, run=None, expires_at=EXPIRES, now=EXPIRES) is Meeting.EXPIRED
    kept = a_gate(GateState.OPEN, keep_until=EXPIRES + timedelta(days=1))
    assert meet(gate=kept, run=None, expires_at=EXPIRES, now=EXPIRES) is Meeting.RUN
    earlier = a_gate(GateState.OPEN, keep_until=NOW)
    assert meet(gate=earlier, run=None, expires_at=EXPIRES, now=LATER) is Meeting.RUN


def test_a_closed_gate_speaks_before_the_expiry() -> None:
    shut = a_gate(GateState.CLOSED)
    assert meet(gate=shut, run=None, expires_at=EXPIRES, now=EXPIRES) is Meeting.TURNED_AWAY


# --- close ---------------------------------------------------------------------------------------------------


def _close(topology: Topology, service: str, *runs: RunRow, gate: GateRow | None = None) -> Turn:
    return close(topology, service, SAGA_ID, gate=gate, runs=runs, expires_at=EXPIRES, now=NOW)


def test_close_shuts_the_gate_and_lists_what_has_run() -> None:
    run = a_run("stock.reserve", RunStatus.DONE)
    turn = _close(PLAIN, "stock", run)
    assert turn.gate is not None
    assert turn.gate.state is GateState.CLOSED
    assert turn.reports == (Closed(service="stock", runs=(fact_of(run),)),)
    assert turn.release


def test_close_of_a_saga_never_seen_inserts_the_gate() -> None:
    turn = _close(PLAIN, "ship")
    assert turn.gate == GateRow(
        saga_id=SAGA_ID, service="ship", plan=PLAIN.plan.hash, state=GateState.CLOSED, expires_at=EXPIRES
    )
    assert turn.reports == (Closed(service="ship", runs=()),)


def test_close_of_a_saga_never_seen_is_too_late_after_its_expiry() -> None:
    turn = close(PLAIN, "ship", SAGA_ID, gate=None, runs=(), expires_at=EXPIRES, now=EXPIRES)
    (report,) = turn.reports
    assert isinstance(report, TooLate)
    assert (report.service, report.step, turn.gate) == ("ship", "", None)


def test_close_after_the_expiry_answers_from_the_rows_that_are_there() -> None:
    run = a_run("ship.send", RunStatus.DONE)
    turn = close(PLAIN, "ship", SAGA_ID, gate=None, runs=(run,), expires_at=EXPIRES, now=EXPIRES)
    assert turn.reports == (Closed(service="ship", runs=(fact_of(run),)),)


def test_a_repeated_close_answers_again_with_what_is_known_now() -> None:
    run = a_run("pay.hold", RunStatus.DONE)
    turn = _close(OUTSIDE, "pay", run, gate=a_gate(GateState.CLOSED))
    assert turn == Turn(reports=(Closed(service="pay", runs=(fact_of(run),)),))


def test_a_waiting_join_is_not_a_run() -> None:
    turn = _close(PLAIN, "stock", a_run("stock.reserve", RunStatus.WAITING))
    assert turn.reports == (Closed(service="stock", runs=()),)


def test_a_service_whose_pivot_has_run_stays_open() -> None:
    pivot = a_run("pay.capture", RunStatus.DONE)
    assert _close(PIVOTAL, "pay", pivot) == Turn(reports=(Committed(service="pay", runs=(fact_of(pivot),)),))


@pytest.mark.parametrize("status", [RunStatus.REFUSED, RunStatus.FAILED])
def test_a_pivot_that_has_not_happened_lets_its_service_close(status: RunStatus) -> None:
    turn = _close(PIVOTAL, "pay", a_run("pay.capture", status))
    assert isinstance(turn.reports[0], Closed)


def test_an_outside_pivot_under_way_holds_the_answer_back() -> None:
    pivot = a_run("pay.capture", RunStatus.INTENT, pending_at=LATER, owner="me", called_at=NOW)
    turn = _close(OUTSIDE, "pay", pivot)
    assert (turn.gate and turn.gate.state, turn.run, turn.reports, turn.kick) == (GateState.CLOSING, None, (), True)


def test_an_outside_pivot_that_has_failed_is_asked_again() -> None:
    turn = _close(OUTSIDE, "pay", a_run("pay.capture", RunStatus.FAILED, called_at=NOW))
    assert turn.run is not None
    assert (turn.run.pending_at, work_of(turn.run)) == (NOW, Work.RESOLVE)
    assert (turn.gate and turn.gate.state, turn.reports) == (GateState.CLOSING, ())


# --- answers from outside --------------------------------------------------------------------------------------


def _answer(run: RunRow, answer: Emitted | Refused | Raised, gate: GateRow | None = None) -> Turn:
    return answered(OUTSIDE, run, gate, [run], answer, NOW)


def _intent(step: str, **changes: object) -> RunRow:
    return a_run(step, RunStatus.INTENT, attempt=0, pending_at=NOW, owner="me", **changes)


def test_an_answer_ends_the_run_and_is_published() -> None:
    turn = _answer(_intent("pay.hold"), YES)
    assert turn.run is not None
    assert (turn.run.status, turn.run.result_type, turn.run.pending_at) == (RunStatus.DONE, "held.v1", None)
    assert (turn.emit, turn.reports) == (turn.run, ())
    assert _answer(_intent("pay.hold"), NO).emit is not None


@pytest.mark.parametrize(
    ("answer", "state", "report"), [(YES, GateState.OPEN, Committed), (NO, GateState.CLOSED, Closed)]
)
def test_in_a_closing_gate_the_pivots_answer_is_the_services_answer(
    answer: Emitted | Refused, state: GateState, report: type[object]
) -> None:
    turn = _answer(_intent("pay.capture"), answer, a_gate(GateState.CLOSING))
    assert (turn.gate and turn.gate.state, turn.release) == (state, True)
    assert isinstance(turn.reports[0], report)
    assert turn.run is not None
    assert fact_of(turn.run) in turn.reports[0].runs  # type: ignore[union-attr]


def test_in_a_closing_gate_another_steps_answer_settles_nothing() -> None:
    turn = _answer(_intent("pay.hold"), YES, a_gate(GateState.CLOSING))
    assert (turn.gate, turn.reports, turn.release) == (None, (), False)


def test_a_call_that_raises_is_tried_again_and_then_has_failed() -> None:
    again = _answer(_intent("pay.hold"), RAISED).run
    assert again is not None
    assert (again.status, again.attempt, again.pending_at, again.owner) == (RunStatus.INTENT, 1, LATER, "")
    last = _answer(again, RAISED)
    assert last.run is not None
    assert (last.run.status, last.run.pending_at, last.emit) == (RunStatus.FAILED, None, last.run)


def test_in_a_closing_gate_a_call_is_repeated_until_it_is_answered() -> None:
    run = replace(_intent("pay.capture"), attempt=50)
    again = _answer(run, RAISED, a_gate(GateState.CLOSING)).run
    assert again is not None
    assert (again.status, again.pending_at) == (RunStatus.INTENT, LATER)


def test_a_step_that_must_succeed_is_called_until_it_does() -> None:
    certain = a_topology(a_step("pay.hold", "placed.v1", kind=StepKind.RETRIABLE))
    run = replace(_intent("pay.hold"), attempt=50)
    again = answered(certain, run, None, [run], RAISED, NOW).run
    assert again is not None
    assert again.status is RunStatus.INTENT


def test_an_answer_counts_only_for_the_row_it_was_asked_for() -> None:
    taken = _intent("pay.hold")
    assert not is_stale(taken, taken)
    assert is_stale(taken, replace(taken, revision=2))
    assert is_stale(taken, None)


# --- undo ----------------------------------------------------------------------------------------------------


def _undo(topology: Topology, key: RunKey, run: RunRow | None, gate: GateRow | None = None) -> Turn | Compensate:
    return undo(topology, key.service, SAGA_ID, key, gate=gate, run=run, expires_at=EXPIRES, now=NOW)


def _turn(decided: Turn | Compensate) -> Turn:
    assert isinstance(decided, Turn)
    return decided


def test_an_undo_of_a_saga_never_seen_closes_the_gate_for_ever() -> None:
    turn = _turn(_undo(PLAIN, RunKey(step="ship.send"), None))
    assert turn.gate is not None
    assert (turn.gate.state, turn.reports) == (GateState.CLOSED, (Undone(step="ship.send"),))


def test_an_undo_without_a_row_is_too_late_after_the_expiry() -> None:
    key = RunKey(step="ship.send")
    decided = undo(PLAIN, "ship", SAGA_ID, key, gate=None, run=None, expires_at=EXPIRES, now=EXPIRES)
    (report,) = _turn(decided).reports
    assert isinstance(report, TooLate)
    assert (report.service, report.step) == ("ship", "ship.send")


def test_a_local_compensation_runs_in_the_transaction() -> None:
    run = a_run("stock.reserve", RunStatus.DONE)
    decided = _undo(PLAIN, run.key, run)
    assert isinstance(decided, Compensate)
    turn = compensated(decided.run, NOW)
    assert turn.run is not None
    assert (turn.run.undo, turn.run.undone_at, turn.reports) == (UndoStatus.DONE, NOW, (Undone(step=run.step),))


def test_an_outside_compensation_becomes_outside_work() -> None:
    run = a_run("pay.hold", RunStatus.DONE)
    turn = _turn(_undo(OUTSIDE, HOLD, run, a_gate(GateState.CLOSED)))
    assert turn.run is not None
    assert (turn.run.undo, turn.run.pending_at, turn.run.attempt) == (UndoStatus.INTENT, NOW, 0)
    assert (work_of(turn.run), turn.kick, turn.reports) == (Work.COMPENSATE, True, ())


@pytest.mark.parametrize("status", [RunStatus.WAITING, RunStatus.REFUSED, RunStatus.FAILED])
def test_there_is_nothing_to_undo_in_what_has_not_happened(status: RunStatus) -> None:
    run = a_run("stock.reserve", status)
    turn = _turn(_undo(PLAIN, run.key, run))
    assert turn.run is not None
    assert (turn.run.undo, turn.reports) == (UndoStatus.DONE, (Undone(step=run.step),))


@pytest.mark.parametrize("status", [RunStatus.INTENT, RunStatus.FAILED])
def test_what_is_in_doubt_is_resolved_first(status: RunStatus) -> None:
    run = a_run("pay.hold", status, attempt=7, called_at=NOW)
    turn = _turn(_undo(OUTSIDE, HOLD, run))
    assert turn.run is not None
    assert (turn.run.undo, turn.run.pending_at, turn.run.attempt) == (UndoStatus.WANTED, NOW, 0)
    assert (work_of(turn.run), turn.reports) == (Work.RESOLVE, ())


def test_what_has_happened_is_then_compensated_and_not_published() -> None:
    wanted = a_run("pay.hold", RunStatus.INTENT, undo=UndoStatus.WANTED, pending_at=NOW)
    turn = _answer(wanted, YES, a_gate(GateState.CLOSED))
    assert turn.run is not None
    assert (turn.run.status, turn.run.undo, turn.run.result) == (RunStatus.DONE, UndoStatus.INTENT, b"{}")
    assert (turn.emit, turn.reports, turn.kick) == (None, (), True)


def test_what_was_refused_needs_no_compensation() -> None:
    wanted = a_run("pay.hold", RunStatus.FAILED, undo=UndoStatus.WANTED, pending_at=NOW)
    turn = _answer(wanted, NO)
    assert turn.run is not None
    assert (turn.run.status, turn.run.undo) == (RunStatus.REFUSED, UndoStatus.DONE)
    assert (turn.emit, turn.reports) == (None, (Undone(step="pay.hold"),))


def test_while_nobody_answers_the_undo_waits() -> None:
    wanted = a_run("pay.hold", RunStatus.FAILED, undo=UndoStatus.WANTED, pending_at=NOW, attempt=99)
    turn = _answer(wanted, RAISED)
    assert turn.run is not None
    assert (turn.run.undo, turn.run.pending_at, turn.reports) == (UndoStatus.WANTED, LATER, ())


def test_a_call_in_doubt_with_nothing_to_undo_is_not_waited_for() -> None:
    step = replace(OUTSIDE.steps["pay.hold"], undoing=Undoing.NOTHING)
    turn = _turn(_undo(a_topology(step), HOLD, _intent("pay.hold")))
    assert turn.run is not None
    assert (turn.run.undo, turn.run.pending_at, turn.reports) == (UndoStatus.DONE, None, (Undone(step="pay.hold"),))


def test_a_repeated_undo_makes_the_same_answer_again() -> None:
    gate = a_gate(GateState.CLOSED)
    done = a_run("pay.hold", RunStatus.DONE, undo=UndoStatus.DONE)
    assert _undo(OUTSIDE, HOLD, done, gate) == Turn(reports=(Undone(step="pay.hold"),))
    failed = a_run("pay.hold", RunStatus.DONE, undo=UndoStatus.FAILED, error="boom")
    assert _undo(OUTSIDE, HOLD, failed, gate) == Turn(reports=(UndoFailed(step="pay.hold", reason="boom"),))
    for status in (UndoStatus.WANTED, UndoStatus.INTENT):
        under_way = a_run("pay.hold", RunStatus.DONE, undo=status, pending_at=NOW)
        assert _undo(OUTSIDE, HOLD, under_way, gate) == Turn(kick=True)


# --- compensations that raise --------------------------------------------------------------------------------


def test_a_local_compensation_that_raises_is_tried_again_outside_the_command() -> None:
    run = a_run("stock.reserve", RunStatus.DONE, attempt=3)
    turn = compensation_raised(run, "boom", attempts=2, retry_at=LATER)
    assert turn.run is not None
    assert (turn.run.undo, turn.run.attempt, turn.run.pending_at) == (UndoStatus.INTENT, 1, LATER)
    assert (work_of(turn.run), turn.reports) == (Work.COMPENSATE, ())


def test_a_compensation_out_of_attempts_fails_for_good_and_says_so() -> None:
    run = a_run("stock.reserve", RunStatus.DONE, undo=UndoStatus.INTENT, attempt=1, pending_at=NOW)
    turn = compensation_raised(run, "b" * 900, attempts=2, retry_at=LATER)
    assert turn.run is not None
    assert (turn.run.undo, turn.run.pending_at) == (UndoStatus.FAILED, None)
    assert turn.reports == (UndoFailed(step="stock.reserve", reason="b" * 200),)


def test_one_attempt_means_one() -> None:
    run = a_run("stock.reserve", RunStatus.DONE)
    turn = compensation_raised(run, "boom", attempts=1, retry_at=LATER)
    assert turn.run is not None
    assert turn.run.undo is UndoStatus.FAILED


# --- facts ---------------------------------------------------------------------------------------------------


def test_a_fact_carries_no_payload_but_a_refusals() -> None:
    assert fact_of(a_run("pay.hold", RunStatus.DONE)).emits == ("held.v1",)
    refused = a_run("pay.hold", RunStatus.REFUSED, result_type="declined.v1", result=b'{"why":1}')
    fact = fact_of(refused)
    assert fact.refusal is not None
    assert (fact.refusal.type, fact.refusal.data, fact.emits) == ("declined.v1", b'{"why":1}', ())
    assert len(fact_of(a_run("pay.hold", RunStatus.FAILED, error="e" * 900)).error) == 200
