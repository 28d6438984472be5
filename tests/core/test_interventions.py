"""What a participant does with the commands a person has asked for, delivered once or twice, early or late."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from saga._core.bodies import (
    Closed,
    Command,
    Committed,
    Hold,
    InDoubt,
    Keep,
    Obeyed,
    Release,
    ResolveRun,
    RetryRun,
    SkipRun,
    Undone,
    kind_of,
)
from saga._core.commands import decode_command, encode_command
from saga._core.interventions import Intervention, intervene, unfit
from saga._core.participant import Meeting, Turn, close, meet
from saga._core.plan import Topology
from saga._core.rows import GateRow, RunRow
from saga._core.words import Effects, GateState, Kind, Mark, Part, RunKey, RunStatus, UndoStatus, Verdict
from saga.errors import Undecodable
from tests.core.protocol_examples import EXPIRES, NOW, OUTSIDE, SAGA_ID, a_gate, a_run
from tests.core.test_verbs import CALLING

LATER = NOW + timedelta(minutes=1)
RESERVED = RunKey(step="stock.reserve")


def told(
    command: Intervention,
    *runs: RunRow,
    gate: GateRow | None = None,
    topology: Topology = CALLING,
    now: datetime = NOW,
) -> Turn:
    return intervene(
        topology,
        "pay",
        SAGA_ID,
        command,
        gate=gate,
        runs={run.key: run for run in runs},
        expires_at=EXPIRES,
        now=now,
    )


def obeyed(command: Hold | Release) -> tuple[Obeyed, ...]:
    return (Obeyed(service="pay", command=kind_of(command), number=command.number),)


def test_a_result_that_does_not_fit_changes_nothing_but_the_reason_of_a_doubt() -> None:
    calling = a_run("pay.capture", RunStatus.INTENT, called_at=NOW, revision=3)
    for doubted in (calling, replace(calling, status=RunStatus.FAILED, undo=UndoStatus.WANTED)):
        report = InDoubt(step="pay.capture", branch="", reason="no such field")
        assert unfit(OUTSIDE, doubted, "no such field") == Turn(
            run=replace(doubted, error="no such field"), reports=(report,)
        )
    asked = replace(calling, pending_at=NOW)
    gone = replace(calling, status=RunStatus.FAILED)
    inside = a_run("pay.capture", RunStatus.INTENT)
    plain = replace(OUTSIDE.steps["pay.capture"], effects=Effects.LOCAL)
    assert [unfit(OUTSIDE, run, "x") for run in (None, asked, gone)] == [None] * 3, "nobody waits for its answer"
    assert unfit(replace(OUTSIDE, steps={"pay.capture": plain}), inside, "x") is None


# --- hold and release ------------------------------------------------------------------------------------------


def test_a_hold_marks_the_gate_and_a_release_lets_go_of_what_waits() -> None:
    held = told(Hold(number=1))
    assert held == Turn(
        gate=replace(a_gate(GateState.OPEN), mark=Mark.HELD, mark_number=1), reports=obeyed(Hold(number=1))
    )
    assert meet(gate=held.gate, run=None, expires_at=EXPIRES, now=NOW) is Meeting.HELD
    free = told(Release(number=2), gate=held.gate)
    assert free.gate == a_gate(GateState.OPEN, mark_number=2)
    assert (free.reports, free.release) == (obeyed(Release(number=2)), True)
    assert meet(gate=free.gate, run=None, expires_at=EXPIRES, now=NOW) is Meeting.RUN


@pytest.mark.parametrize("command", [Hold(number=3), Release(number=3)])
def test_a_repeated_command_says_and_does_the_same(command: Hold | Release) -> None:
    first = told(command, gate=a_gate(GateState.OPEN))
    assert told(command, gate=first.gate, now=LATER) == first


@pytest.mark.parametrize("old", [Hold(number=1), Release(number=2)])
@pytest.mark.parametrize("mark", list(Mark))
def test_an_older_command_is_ignored_and_still_answered(old: Hold | Release, mark: Mark) -> None:
    gate = a_gate(GateState.OPEN, mark=mark, mark_number=3)
    assert told(old, gate=gate) == Turn(reports=obeyed(old))


@pytest.mark.parametrize("state", [GateState.CLOSING, GateState.CLOSED])
def test_a_release_opens_no_gate(state: GateState) -> None:
    free = told(Release(number=2), gate=a_gate(state, mark=Mark.HELD, mark_number=1))
    assert free.gate == a_gate(state, mark_number=2)
    held = told(Hold(number=3), gate=free.gate)
    assert held.gate == a_gate(state, mark=Mark.HELD, mark_number=3)


def test_a_held_gate_closes_and_stays_marked() -> None:
    held = a_gate(GateState.OPEN, mark=Mark.HELD, mark_number=1)
    turn = close(CALLING, "pay", SAGA_ID, gate=held, runs=(), expires_at=EXPIRES, now=NOW)
    assert turn.gate == a_gate(GateState.CLOSED, mark=Mark.HELD, mark_number=1)
    assert meet(gate=turn.gate, run=None, expires_at=EXPIRES, now=NOW) is Meeting.TURNED_AWAY


# --- keep ------------------------------------------------------------------------------------------------------


def test_rows_are_kept_for_the_longest_time_asked_for() -> None:
    until = EXPIRES + timedelta(days=3)
    first = told(Keep(until=until))
    answer = Obeyed(service="pay", command=Kind.KEEP, number=int(until.timestamp()))
    assert first == Turn(gate=a_gate(GateState.OPEN, keep_until=until), reports=(answer,))
    assert told(Keep(until=until), gate=first.gate) == first
    earlier = told(Keep(until=EXPIRES), gate=first.gate)
    assert earlier.gate == first.gate
    closed = told(Keep(until=until), gate=a_gate(GateState.CLOSED, mark=Mark.HELD))
    assert closed.gate == a_gate(GateState.CLOSED, mark=Mark.HELD, keep_until=until)


# --- retry -----------------------------------------------------------------------------------------------------


RETRY = RetryRun(step="pay.hold")


def test_a_failed_compensation_begins_anew() -> None:
    failed = a_run("pay.hold", RunStatus.DONE, undo=UndoStatus.FAILED, attempt=7, error="boom", called_at=NOW)
    turn = told(RETRY, failed, now=LATER)
    again = replace(failed, undo=UndoStatus.INTENT, pending_at=LATER, attempt=0, error="", called_at=None)
    assert turn == Turn(run=again, kick=True)
    twice = told(RETRY, again, now=LATER)
    assert twice == Turn(run=again, kick=True)


@pytest.mark.parametrize("undo", [UndoStatus.NONE, UndoStatus.WANTED, UndoStatus.INTENT])
def test_work_that_waits_is_due_at_once(undo: UndoStatus) -> None:
    waiting = a_run("pay.hold", RunStatus.INTENT, undo=undo, pending_at=NOW + timedelta(hours=1), attempt=3)
    assert told(RETRY, waiting, now=LATER) == Turn(run=replace(waiting, pending_at=LATER), kick=True)


@pytest.mark.parametrize(
    "run",
    [
        a_run("pay.hold", RunStatus.INTENT, pending_at=LATER, owner="somebody"),
        a_run("pay.hold", RunStatus.INTENT, error="in doubt"),
        a_run("pay.hold", RunStatus.DONE, undo=UndoStatus.WANTED, error="in doubt"),
        a_run("pay.hold", RunStatus.DONE, undo=UndoStatus.DONE),
        a_run("pay.hold", RunStatus.DONE),
    ],
    ids=["under way", "in doubt", "in doubt, to be undone", "undone", "done"],
)
def test_nothing_else_is_touched(run: RunRow) -> None:
    assert told(RETRY, run, gate=a_gate(GateState.OPEN)) == Turn(release=True)


def test_deliveries_that_wait_for_an_attempt_are_due_at_once() -> None:
    assert told(RETRY, gate=a_gate(GateState.OPEN)) == Turn(release=True)


# --- skip ------------------------------------------------------------------------------------------------------


def skip(part: Part, result_type: str = "", result: bytes = b"") -> SkipRun:
    return SkipRun(
        step="pay.hold",
        part=part,
        reason="by hand",
        result_type=result_type,
        result=result,
        causes=(RESERVED,),
    )


FORWARD = skip(Part.ACTION, "held.v1", b'{"a":1}')
UNDO = skip(Part.COMPENSATION)
UNDONE = Undone(step="pay.hold")


@pytest.mark.parametrize("undo", [UndoStatus.NONE, UndoStatus.WANTED, UndoStatus.INTENT, UndoStatus.FAILED])
def test_an_undo_that_is_skipped_counts_as_done(undo: UndoStatus) -> None:
    run = a_run("pay.hold", RunStatus.DONE, undo=undo, error="boom", pending_at=NOW, owner="somebody")
    turn = told(UNDO, run, gate=a_gate(GateState.CLOSED), now=LATER)
    done = replace(run, undo=UndoStatus.DONE, undone_at=LATER, pending_at=None, owner="", error="skipped: by hand")
    assert turn == Turn(run=done, reports=(UNDONE,))
    again = told(UNDO, done, gate=a_gate(GateState.CLOSED), now=LATER + timedelta(hours=1))
    assert again == Turn(reports=(UNDONE,)), "the row keeps when it was undone"


def test_an_undo_is_skipped_where_no_row_is_left_and_none_can_come() -> None:
    turn = told(UNDO, gate=None, now=EXPIRES)
    assert turn == Turn(gate=a_gate(GateState.CLOSED), reports=(UNDONE,))
    assert told(UNDO, gate=turn.gate) == Turn(reports=(UNDONE,))


def test_a_run_nobody_has_heard_of_is_done_with_the_given_result() -> None:
    turn = told(FORWARD, now=LATER)
    assert turn.run is not None
    run = turn.run
    assert (run.status, run.result_type, run.result, run.done_at) == (RunStatus.DONE, "held.v1", b'{"a":1}', LATER)
    assert (run.causes, run.error, run.expires_at, run.revision) == ((RESERVED,), "skipped: by hand", EXPIRES, 0)
    assert (turn.emit, turn.gate, turn.reports) == (run, None, ())


@pytest.mark.parametrize("status", [RunStatus.WAITING, RunStatus.INTENT, RunStatus.FAILED])
def test_a_run_that_has_begun_is_done_with_the_given_result(status: RunStatus) -> None:
    run = a_run("pay.hold", status, pending_at=NOW, owner="somebody", attempt=2)
    turn = told(FORWARD, run, gate=a_gate(GateState.OPEN), now=LATER)
    assert turn.run is not None
    assert turn.run == turn.emit
    assert (turn.run.status, turn.run.pending_at, turn.run.owner) == (RunStatus.DONE, None, "")
    gathered = (*run.causes, RESERVED) if status is RunStatus.WAITING else run.causes
    assert turn.run.causes == gathered, "its own ones, unless it has not gathered all of them yet"
    assert told(FORWARD, turn.run, gate=a_gate(GateState.OPEN)) == Turn()


@pytest.mark.parametrize("status", [RunStatus.DONE, RunStatus.REFUSED])
def test_a_run_that_has_ended_is_not_skipped(status: RunStatus) -> None:
    assert told(FORWARD, a_run("pay.hold", status), gate=a_gate(GateState.OPEN)) == Turn()


@pytest.mark.parametrize("state", [GateState.CLOSING, GateState.CLOSED])
@pytest.mark.parametrize("undo", list(UndoStatus))
def test_a_skip_that_comes_after_the_close_does_nothing(state: GateState, undo: UndoStatus) -> None:
    assert told(FORWARD, gate=a_gate(state)) == Turn()
    run = a_run("pay.hold", RunStatus.INTENT, undo=undo, pending_at=NOW)
    assert told(FORWARD, run, gate=a_gate(state)) == Turn(), "least of all is it a skip of the undo"


def test_a_step_is_skipped_while_its_saga_is_held() -> None:
    assert told(FORWARD, gate=a_gate(GateState.OPEN, mark=Mark.HELD)).emit is not None


# --- resolve ---------------------------------------------------------------------------------------------------


def resolve(verdict: Verdict, result_type: str = "") -> ResolveRun:
    return ResolveRun(
        step="pay.hold",
        reason="looked it up",
        verdict=verdict,
        result_type=result_type,
        result=b"{}" if result_type else b"",
    )


HAPPENED = resolve(Verdict.HAPPENED, "held.v1")
REFUSED = resolve(Verdict.HAPPENED, "declined.v1")
NEVER = resolve(Verdict.NOT_HAPPENED)
DOUBTED = a_run("pay.hold", RunStatus.INTENT, called_at=NOW, first_called_at=NOW, attempt=9, error="forgotten")
UNDO_DOUBTED = replace(DOUBTED, undo=UndoStatus.WANTED)


def test_what_happened_goes_forward() -> None:
    turn = told(HAPPENED, DOUBTED, gate=a_gate(GateState.OPEN), now=LATER)
    assert turn.run is not None
    assert turn.run == turn.emit
    assert (turn.run.status, turn.run.result_type, turn.run.done_at) == (RunStatus.DONE, "held.v1", LATER)
    for again in (HAPPENED, REFUSED, NEVER):
        assert told(again, turn.run, gate=a_gate(GateState.OPEN)) == Turn()


def test_what_was_refused_is_refused() -> None:
    turn = told(REFUSED, DOUBTED, gate=a_gate(GateState.OPEN))
    assert turn.run is not None
    assert (turn.run.status, turn.run.result_type, turn.run.result) == (RunStatus.REFUSED, "declined.v1", b"{}")
    for again in (HAPPENED, REFUSED, NEVER):
        assert told(again, turn.run) == Turn()


def test_what_never_happened_is_called_anew_once() -> None:
    turn = told(NEVER, DOUBTED, gate=a_gate(GateState.OPEN), now=LATER)
    assert turn.run is not None
    assert (turn.run.generation, turn.run.called_at, turn.run.pending_at, turn.kick) == (1, None, LATER, True)
    assert told(NEVER, turn.run, gate=a_gate(GateState.OPEN)) == Turn(), "delivered twice"
    called = replace(turn.run, called_at=LATER, first_called_at=LATER, pending_at=LATER + timedelta(minutes=1))
    assert told(NEVER, called, gate=a_gate(GateState.OPEN)) == Turn(), "the next call is under way"


def test_before_an_undo_it_decides_whether_there_is_anything_to_undo() -> None:
    gate = a_gate(GateState.CLOSED)
    happened = told(HAPPENED, UNDO_DOUBTED, gate=gate)
    assert happened.run is not None
    assert (happened.run.undo, happened.run.result_type, happened.kick) == (UndoStatus.INTENT, "held.v1", True)
    for command in (NEVER, REFUSED):
        turn = told(command, UNDO_DOUBTED, gate=gate)
        assert turn.run is not None
        assert (turn.run.undo, turn.reports) == (UndoStatus.DONE, (UNDONE,))
        assert told(command, turn.run, gate=gate) == Turn()
    assert told(NEVER, happened.run, gate=gate) == Turn()


@pytest.mark.parametrize("undo", [UndoStatus.INTENT, UndoStatus.FAILED, UndoStatus.DONE])
def test_a_run_whose_compensation_has_begun_is_not_in_doubt(undo: UndoStatus) -> None:
    assert told(HAPPENED, replace(DOUBTED, undo=undo)) == Turn()


def test_a_run_nobody_has_heard_of_is_not_resolved() -> None:
    assert told(HAPPENED) == Turn()


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_pivot_in_doubt_settles_its_closing_gate(verdict: Verdict) -> None:
    pivot = replace(DOUBTED, step="pay.capture")
    command = ResolveRun(step="pay.capture", reason="looked it up", verdict=verdict)
    turn = told(command, pivot, gate=a_gate(GateState.CLOSING), topology=OUTSIDE)
    assert turn.gate is not None
    assert turn.release
    (report,) = turn.reports
    if verdict is Verdict.HAPPENED:
        assert (turn.gate.state, type(report)) == (GateState.OPEN, Committed)
    else:
        assert (turn.gate.state, type(report)) == (GateState.CLOSED, Closed)


# --- on the wire -----------------------------------------------------------------------------------------------

COMMANDS: tuple[Command, ...] = (
    Hold(number=3),
    Release(number=4),
    Keep(until=EXPIRES),
    RetryRun(step="pay.hold", branch="2of5"),
    SkipRun(step="pay.hold", part=Part.COMPENSATION, reason="undone by hand"),
    replace(FORWARD, branch="2of5", causes=(RESERVED, RunKey(step="a.b", branch="1of2"))),
    replace(FORWARD, result=b'{"b": 1, "a": 2}', causes=()),
    ResolveRun(step="pay.hold", reason="", verdict=Verdict.NOT_HAPPENED),
    replace(HAPPENED, result=b'{"\xc3\xa9":1}'),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_is_read_as_it_was_written(command: Command) -> None:
    assert decode_command(kind_of(command), encode_command(command)) == command


@pytest.mark.parametrize(
    ("kind", "body", "complaint"),
    [
        (Kind.RUN, b"{}", "a run is not a command"),
        (Kind.HOLD, b'{"number":-1}', "write a whole number"),
        (Kind.KEEP, b'{"until":"soon"}', "until"),
        (Kind.RETRY, b"{}", "run is"),
        (Kind.SKIP, b'{"run":"a.b"}', "part is 'None': write one of action, compensation"),
        (Kind.SKIP, b'{"run":"a.b","part":"action","result":1}', "result is not a JSON object"),
        (Kind.SKIP, b'{"run":"a.b","part":"action","result":{"type":"x.v1"}}', "type and data (base64)"),
        (Kind.SKIP, b'{"run":"a.b","part":"action","result":{"type":"x.v1","data":"*"}}', "not base64"),
        (Kind.SKIP, b'{"run":"a.b","part":"action","result":{"type":"","data":""}}', "type"),
        (Kind.SKIP, b'{"run":"a.b","part":"action","causes":["/x"]}', "write it as 'service.function'"),
        (Kind.RESOLVE, b'{"run":"a.b","verdict":"maybe"}', "write one of happened, not_happened"),
        (Kind.RESOLVE, b'{"run":"a.b","verdict":"happened","reason":1}', "reason is not a string"),
    ],
)
def test_what_cannot_be_read_says_why(kind: Kind, body: bytes, complaint: str) -> None:
    with pytest.raises(Undecodable) as raised:
        decode_command(kind, body)
    assert complaint in str(raised.value)
