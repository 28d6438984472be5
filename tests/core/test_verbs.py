"""What a person says to the coordinator: each rule, each refusal, and that everything may be said twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from saga._core.acting import owed_services
from saga._core.bodies import (
    Hold,
    InDoubt,
    Keep,
    Obeyed,
    Release,
    Report,
    ResolveRun,
    RetryRun,
    SkipRun,
    TooLate,
    UndoFailed,
    Undone,
)
from saga._core.by_hand import RESULT_BYTES, aimed, blocking
from saga._core.coordinator import Decision, Due, Input, decide
from saga._core.effects import Send, SendClose, SendUndo, Tell
from saga._core.instance import Answer, Instance, Phase, UndoStep
from saga._core.plan import PlanInput, Topology, Undoing
from saga._core.stored_instance import instance_of, instance_row
from saga._core.trail import audit_of
from saga._core.verbs import CancelSaga, HoldSaga, ReleaseSaga, ResolveStep, RetryStep, SkipStep, Verb
from saga._core.words import Cause, Effects, Ending, Kind, Mark, Part, RunKey, RunStatus, Takes, Verdict
from saga.errors import VerbRefused
from tests.core.protocol_examples import (
    CAPTURED,
    EXPIRES,
    NOW,
    OUTSIDE,
    PIVOTAL,
    PLAIN,
    RESERVED,
    SENT_PLAIN,
    START,
    TIMEOUT_AT,
    a_fact,
    a_step,
    a_topology,
    closed,
    new_instance,
    ran,
    told,
)

START_KEY = RunKey(step="orders.start")
RESERVE, SEND, CAPTURE = RunKey(step="stock.reserve"), RunKey(step="ship.send"), RunKey(step="pay.capture")
HOLD = RunKey(step="pay.hold")
CANCEL, HOLD_IT, LET_GO = CancelSaga(reason="asked"), HoldSaga(), ReleaseSaga()
LATER = NOW + timedelta(minutes=1)
SEND_FAILED = a_fact("ship.send", RunStatus.FAILED, cause="stock.reserve")
HELD_STEP = a_fact("pay.hold", RunStatus.DONE, emits="held.v1")
PLAIN_SERVICES = ("orders", "ship", "stock")


def skipping(key: RunKey, result_type: str = "", result: bytes = b"{}") -> SkipStep:
    return SkipStep(key=key, reason="by hand", result_type=result_type, result=result if result_type else b"")


def resolving(key: RunKey, verdict: Verdict, result_type: str = "", result: bytes = b"{}") -> ResolveStep:
    given = result if result_type else b""
    return ResolveStep(key=key, reason="looked it up", verdict=verdict, result_type=result_type, result=given)


def refused(topology: Topology, instance: Instance, verb: Verb) -> str:
    """Return the sentence that a verb is refused with."""
    with pytest.raises(VerbRefused) as raised:
        decide(topology, instance, verb, LATER)
    return str(raised.value)


def undoing(*reports: Report) -> Instance:
    """Return a saga whose two services have closed and whose reservation is being undone."""
    inputs = (ran(START), ran(RESERVED), ran(SEND_FAILED), closed("stock", RESERVED), closed("ship", SEND_FAILED))
    decision = told(PLAIN, *inputs)
    assert decision.instance.undos == {RESERVE: UndoStep.ASKED}
    return told(PLAIN, *reports, at=decision.instance).instance if reports else decision.instance


FAILED_FOR_GOOD = UndoFailed(step="stock.reserve", reason="boom")


# --- cancel --------------------------------------------------------------------------------------------------


def test_a_cancelled_saga_is_closed_and_says_why() -> None:
    decision = told(PLAIN, ran(START), ran(RESERVED), CANCEL)
    assert decision.effects == (SendClose(service="ship"), SendClose(service="stock"))
    assert (decision.instance.cause, decision.instance.detail) == (Cause.CANCELLED, "asked")
    again = told(PLAIN, CANCEL, at=decision.instance, now=LATER)
    assert (again.instance, again.effects) == (decision.instance, ())


def test_with_a_pivot_its_service_is_asked_first() -> None:
    decision = told(PIVOTAL, ran(START), CANCEL)
    assert decision.effects == (SendClose(service="pay"),)
    again = told(PIVOTAL, CANCEL, at=decision.instance, now=LATER)
    assert (again.instance, again.effects) == (decision.instance, ())


def test_past_the_pivot_nothing_is_cancelled() -> None:
    committed = told(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED)).instance
    assert "past its pivot" in refused(PIVOTAL, committed, CANCEL)


def test_a_child_that_waits_for_its_parent_is_cancelled_through_that() -> None:
    start = replace(START, causes=(RunKey(step="office.book"),))
    ready = told(PLAIN, ran(start), ran(RESERVED), ran(SENT_PLAIN)).instance
    assert ready.phase is Phase.READY
    assert "cancel the one that started it" in refused(PLAIN, ready, CANCEL)


@pytest.mark.parametrize(
    "verb", [CANCEL, HOLD_IT, LET_GO, RetryStep(key=SEND), skipping(SEND), resolving(SEND, Verdict.NOT_HAPPENED)]
)
def test_nothing_is_done_about_a_saga_that_has_ended(verb: Verb) -> None:
    ended = told(PLAIN, ran(START), ran(RESERVED), ran(SENT_PLAIN)).instance
    assert refused(PLAIN, ended, verb) == "saga S has ended (completed); nothing can be done about it any more"


# --- hold and release ------------------------------------------------------------------------------------------


def held_by(decision: Decision) -> tuple[tuple[str, int], ...]:
    """Return which services are told to hold or to release, and under which number."""
    return tuple(
        (effect.service, effect.command.number)
        for effect in decision.effects
        if isinstance(effect, Send) and isinstance(effect.command, Hold | Release)
    )


def test_every_service_and_the_starter_is_told_under_a_new_number() -> None:
    assert owed_services(PLAIN) == PLAIN_SERVICES
    held = told(PLAIN, ran(START), HOLD_IT)
    assert held_by(held) == (("orders", 1), ("ship", 1), ("stock", 1))
    assert held.instance.owed == {(name, Kind.HOLD): 1 for name in PLAIN_SERVICES}
    free = told(PLAIN, LET_GO, at=held.instance)
    assert held_by(free) == (("orders", 2), ("ship", 2), ("stock", 2))
    assert free.instance.owed == {(name, Kind.RELEASE): 2 for name in PLAIN_SERVICES}
    third = told(PLAIN, HOLD_IT, at=free.instance)
    assert (third.instance.number, third.instance.mark) == (3, Mark.HELD)


def test_a_held_saga_is_held_once() -> None:
    held = told(PLAIN, ran(START), HOLD_IT)
    again = told(PLAIN, HOLD_IT, at=held.instance, now=LATER)
    assert (again.instance, again.effects) == (held.instance, ())
    free = told(PLAIN, LET_GO, at=held.instance)
    again = told(PLAIN, LET_GO, at=free.instance, now=LATER)
    assert (again.instance, again.effects) == (free.instance, ())
    never = told(PLAIN, ran(START), LET_GO)
    assert (held_by(never), never.instance.number) == ((), 0)


def test_a_hold_is_said_again_until_it_is_answered() -> None:
    held = told(PLAIN, ran(START), HOLD_IT)
    one = told(PLAIN, Obeyed(service="ship", command=Kind.HOLD, number=1), at=held.instance)
    assert one.instance.due_at == NOW + timedelta(seconds=30)
    again = told(PLAIN, Due(), at=one.instance, now=NOW + timedelta(seconds=30))
    assert held_by(again) == (("orders", 1), ("stock", 1))
    assert again.instance.due_at == NOW + timedelta(seconds=90)
    rest = told(
        PLAIN, *(Obeyed(service=name, command=Kind.HOLD, number=1) for name in PLAIN_SERVICES), at=again.instance
    )
    assert rest.instance.owed == {}
    assert rest.instance.due_at == EXPIRES - timedelta(days=1), "what is left is to keep its rows"


def test_an_answer_to_an_older_hold_is_none_to_the_newer_release() -> None:
    free = told(PLAIN, ran(START), HOLD_IT, LET_GO).instance
    late = told(PLAIN, Obeyed(service="ship", command=Kind.HOLD, number=1), at=free).instance
    assert late.owed == free.owed
    third = told(PLAIN, HOLD_IT, at=free).instance
    late = told(PLAIN, Obeyed(service="ship", command=Kind.HOLD, number=1), at=third).instance
    assert late.owed == third.owed


@pytest.mark.parametrize(
    "received",
    [
        Due(),
        ran(SEND_FAILED),
        ran(a_fact("ship.send", RunStatus.REFUSED)),
        ran(SENT_PLAIN),
        CANCEL,
        closed("stock", RESERVED),
    ],
)
def test_a_held_saga_learns_and_does_nothing(received: Input) -> None:
    held = told(PLAIN, ran(START), ran(RESERVED), HOLD_IT)
    answered = [Obeyed(service=name, command=Kind.HOLD, number=1) for name in PLAIN_SERVICES]
    held = told(PLAIN, *answered, at=held.instance)
    decision = told(PLAIN, received, at=held.instance, now=TIMEOUT_AT)
    assert (decision.effects, decision.instance.phase) == ((), Phase.RUNNING)


def test_what_a_held_saga_has_learnt_counts_once_it_is_released() -> None:
    held = told(PLAIN, ran(START), ran(RESERVED), HOLD_IT, ran(SEND_FAILED)).instance
    free = told(PLAIN, LET_GO, at=held)
    assert free.effects[-2:] == (SendClose(service="ship"), SendClose(service="stock"))
    done = told(PLAIN, LET_GO, at=told(PLAIN, ran(START), ran(RESERVED), HOLD_IT, ran(SENT_PLAIN)).instance)
    assert done.instance.phase is Phase.COMPLETED
    assert [type(effect) for effect in done.effects] == [Send, Send, Send, Tell], "who holds it has to hear of it"


def test_undos_wait_while_it_is_held() -> None:
    held = told(PLAIN, HOLD_IT, at=undoing())
    assert held.instance.due_at == NOW + timedelta(seconds=30)
    due = told(PLAIN, Due(), at=held.instance, now=NOW + timedelta(seconds=30))
    assert not [effect for effect in due.effects if isinstance(effect, SendUndo)]
    free = told(PLAIN, LET_GO, at=due.instance, now=LATER)
    due = told(PLAIN, Due(), at=free.instance, now=LATER + timedelta(seconds=30))
    assert SendUndo(key=RESERVE) in due.effects


def test_a_held_saga_that_gets_stuck_says_so() -> None:
    held = told(PLAIN, HOLD_IT, FAILED_FOR_GOOD, at=undoing())
    (effect,) = held.effects
    assert isinstance(effect, Tell)
    assert (effect.outcome.ending, effect.outcome.cause) == (Ending.STUCK, Cause.UNDO_FAILED)


def test_the_rows_of_a_held_saga_are_kept() -> None:
    held = told(PLAIN, ran(START), HOLD_IT, Due(), now=EXPIRES)
    sent = [(effect.service, effect.command) for effect in held.effects if isinstance(effect, Send)]
    kept = Keep(until=EXPIRES + timedelta(days=3))
    assert [pair for pair in sent if isinstance(pair[1], Keep)] == [(name, kept) for name in PLAIN_SERVICES]
    assert held.instance.stuck is None, "who holds it knows that it is late"


# --- retry -----------------------------------------------------------------------------------------------------


def test_a_failed_compensation_is_tried_again_and_the_saga_is_stuck_no_more() -> None:
    stuck = undoing(FAILED_FOR_GOOD)
    assert (stuck.stuck, stuck.told) == (Cause.UNDO_FAILED, Ending.STUCK)
    decision = told(PLAIN, RetryStep(key=RESERVE), at=stuck, now=LATER)
    assert decision.effects == (Send(service="stock", command=RetryRun(step="stock.reserve")),)
    assert (decision.instance.stuck, decision.instance.told) == (None, None)
    assert decision.instance.undos == {RESERVE: UndoStep.ASKED}
    assert decision.instance.due_at == LATER + timedelta(seconds=30)
    again = told(PLAIN, RetryStep(key=RESERVE), at=decision.instance, now=LATER)
    assert (again.instance, again.effects) == (decision.instance, decision.effects)
    failed = told(PLAIN, FAILED_FOR_GOOD, at=again.instance)
    assert (failed.instance.stuck, len(failed.effects)) == (Cause.UNDO_FAILED, 1), "it is told again"
    undone = told(PLAIN, Undone(step="stock.reserve"), at=again.instance)
    assert undone.instance.phase is Phase.COMPENSATED


TWO = a_topology(
    a_step("stock.reserve", "placed.v1", "reserved.v1"),
    a_step("ship.book", "placed.v1", "booked.v1"),
    a_step("ship.send", "reserved.v1"),
)
BOOK = RunKey(step="ship.book")
BOOKED = a_fact("ship.book", RunStatus.DONE, emits="booked.v1")


def twice_stuck() -> Instance:
    """Return a saga with two compensations that have failed."""
    facts = (RESERVED, BOOKED, SEND_FAILED)
    closing = told(TWO, ran(START), *map(ran, facts), closed("stock", RESERVED), closed("ship", BOOKED, SEND_FAILED))
    return told(TWO, FAILED_FOR_GOOD, UndoFailed(step="ship.book", reason="boom"), at=closing.instance).instance


def test_the_saga_is_stuck_for_as_long_as_any_compensation_has_failed() -> None:
    one = told(TWO, RetryStep(key=RESERVE), at=twice_stuck()).instance
    assert one.stuck is Cause.UNDO_FAILED
    both = told(TWO, RetryStep(key=BOOK), at=one).instance
    assert both.stuck is None


def test_what_waits_for_an_attempt_is_tried_at_once() -> None:
    committed = told(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED)).instance
    decision = told(PIVOTAL, RetryStep(key=SEND), at=committed)
    assert decision.effects == (Send(service="ship", command=RetryRun(step="ship.send")),)
    assert decision.instance.phase is Phase.COMMITTED


@pytest.mark.parametrize(
    ("instance", "key", "sentence"),
    [
        (told(PLAIN, ran(START), ran(RESERVED)).instance, RESERVE, "stock.reserve is done; there is nothing to try"),
        (undoing(), SEND, "ship.send is failed; there is nothing to try again"),
        (twice_stuck(), SEND, "ship.send is failed"),
        (told(PLAIN, ran(START)).instance, SEND, "ship.send is not what the saga waits for"),
        (
            new_instance(),
            RunKey(step="ship.fly"),
            "checkout v1 has no step 'ship.fly'; its steps are ship.send, stock.reserve",
        ),
    ],
)
def test_what_is_not_tried_again(instance: Instance, key: RunKey, sentence: str) -> None:
    assert refused(PLAIN, instance, RetryStep(key=key)).startswith(sentence)


def test_what_is_undone_is_not_tried_again() -> None:
    one = told(TWO, RetryStep(key=RESERVE), Undone(step="stock.reserve"), at=twice_stuck()).instance
    assert refused(TWO, one, RetryStep(key=RESERVE)) == "stock.reserve is undone; there is nothing to try again"
    assert refused(TWO, one, skipping(RESERVE)) == "stock.reserve is undone already"


# --- skip: what is to be undone ----------------------------------------------------------------------------------


def test_an_undo_is_skipped_by_its_service() -> None:
    stuck = undoing(FAILED_FOR_GOOD)
    decision = told(PLAIN, skipping(RESERVE), at=stuck, now=LATER)
    command = SkipRun(step="stock.reserve", part=Part.COMPENSATION, reason="by hand")
    assert decision.effects == (Send(service="stock", command=command),)
    assert decision.instance.stuck is Cause.UNDO_FAILED, "until its service has said so"
    again = told(PLAIN, skipping(RESERVE), at=decision.instance, now=LATER)
    assert (again.instance, again.effects) == (decision.instance, decision.effects)
    undone = told(PLAIN, Undone(step="stock.reserve"), at=again.instance)
    assert undone.instance.phase is Phase.COMPENSATED
    assert "has no result" in refused(PLAIN, stuck, skipping(RESERVE, "reserved.v1"))


def test_a_run_that_was_too_late_to_undo_is_skipped() -> None:
    late = undoing(TooLate(service="stock", step="stock.reserve", reason="gone"))
    assert late.stuck is Cause.TOO_LATE
    decision = told(PLAIN, skipping(RESERVE), at=late)
    assert (decision.instance.stuck, decision.instance.told) == (None, None)
    assert told(PLAIN, Undone(step="stock.reserve"), at=decision.instance).instance.phase is Phase.COMPENSATED


def test_a_service_that_was_too_late_to_close_is_skipped() -> None:
    closing = told(PLAIN, ran(START), ran(RESERVED), CANCEL, closed("stock", RESERVED)).instance
    assert "only when it has come too late" in refused(PLAIN, closing, skipping(RunKey(step="ship")))
    late = told(PLAIN, TooLate(service="ship", reason="gone"), at=closing).instance
    assert "only when it has come too late" in refused(PLAIN, late, skipping(RunKey(step="stock")))
    decision = told(PLAIN, skipping(RunKey(step="ship")), at=late)
    assert decision.instance.answers["ship"] is Answer.CLOSED
    assert (decision.instance.stuck, decision.effects) == (None, (SendUndo(key=RESERVE),))
    assert "only when it has come too late" in refused(PLAIN, decision.instance, skipping(RunKey(step="ship")))


# --- skip: what is still to run ------------------------------------------------------------------------------------


def test_a_step_is_skipped_with_its_result_and_its_causes() -> None:
    committed = told(PIVOTAL, ran(START), ran(RESERVED)).instance
    decision = told(PIVOTAL, skipping(CAPTURE, "captured.v1", b'{"a":1}'), at=committed, now=LATER)
    command = SkipRun(
        step="pay.capture",
        part=Part.ACTION,
        reason="by hand",
        result_type="captured.v1",
        result=b'{"a":1}',
        causes=(RESERVE,),
    )
    assert decision.effects == (Send(service="pay", command=command),)
    assert (decision.instance.phase, decision.instance.runs) == (committed.phase, committed.runs)
    again = told(PIVOTAL, skipping(CAPTURE, "captured.v1", b'{"a":1}'), at=decision.instance, now=LATER)
    assert (again.instance, again.effects) == (decision.instance, decision.effects)
    told_it = told(PIVOTAL, ran(CAPTURED), at=again.instance).instance
    assert refused(PIVOTAL, told_it, skipping(CAPTURE, "captured.v1")) == "pay.capture is done already"


def test_what_ends_the_saga_is_skipped_with_nothing() -> None:
    committed = told(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED)).instance
    decision = told(PIVOTAL, skipping(SEND), at=committed)
    (effect,) = decision.effects
    assert isinstance(effect, Send)
    assert isinstance(effect.command, SkipRun)
    assert (effect.command.result_type, effect.command.result) == ("", b"")


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        (skipping(RESERVE, "reserved.v1"), "stock.reserve is done already"),
        (skipping(SEND), "ship.send is not what the saga waits for: nothing it reacts to has happened"),
        (skipping(CAPTURE), "pay.capture emits captured.v1, not nothing; give the result"),
        (skipping(CAPTURE, "caught.v1"), "pay.capture emits captured.v1, not caught.v1; give the result"),
        (skipping(CAPTURE, "captured.v1", b"[1]"), "the result is no captured.v1: write it as a JSON object"),
        (skipping(CAPTURE, "captured.v1", b"{"), "the result is no captured.v1: write it as a JSON object"),
        (skipping(CAPTURE, "captured.v1", b" " * (RESULT_BYTES + 1)), "the result has 524289 bytes; at most 524288"),
        (skipping(RunKey(step="orders.start")), "checkout v1 has no step 'orders.start'"),
    ],
)
def test_what_is_not_skipped(verb: SkipStep, sentence: str) -> None:
    running = told(PIVOTAL, ran(START), ran(RESERVED)).instance
    assert refused(PIVOTAL, running, verb).startswith(sentence)


def test_nothing_is_skipped_forward_once_the_saga_is_closed() -> None:
    closing = told(PLAIN, ran(START), ran(RESERVED), CANCEL).instance
    sentence = "ship.send cannot be skipped while the saga is closing; only what is to be undone can"
    assert refused(PLAIN, closing, skipping(SEND)) == sentence


def fanned() -> Topology:
    listed = replace(a_step("stock.pack", "placed.v1", "packed.v1"), fan_out="packed.v1")
    weigh = a_step("ship.weigh", "packed.v1", "weighed.v1")
    parts = (PlanInput(event="weighed.v1", takes=Takes.EVERY), PlanInput(event="checked.v1"))
    load = replace(a_step("ship.load", "", "loaded.v1"), joins=parts)
    check = a_step("shop.check", "placed.v1", "checked.v1")
    book = a_step("shop.book", "placed.v1", effects=Effects.CHILD, undoing=Undoing.CHILD)
    return a_topology(listed, weigh, load, check, book)


FANNED = fanned()


def weighed(branch: str) -> Report:
    cause = RunKey(step="stock.pack")
    fact = a_fact("ship.weigh", RunStatus.DONE, emits="weighed.v1")
    return ran(replace(fact, branch=branch, causes=(cause,)))


PACKED = ran(replace(a_fact("stock.pack", RunStatus.DONE, emits="packed.v1"), fan_out=2))
CHECKED = ran(a_fact("shop.check", RunStatus.DONE, emits="checked.v1"))
LOAD = RunKey(step="ship.load")


def test_a_join_is_not_skipped_before_its_causes() -> None:
    skip = skipping(LOAD, "loaded.v1")
    one = told(FANNED, ran(START), PACKED, CHECKED, weighed("1of2")).instance
    assert "joins weighed.v1, which has not happened yet" in refused(FANNED, one, skip)
    other = told(FANNED, ran(START), PACKED, weighed("1of2"), weighed("2of2")).instance
    assert "joins checked.v1, which has not happened yet" in refused(FANNED, other, skip)
    decision = told(FANNED, CHECKED, skip, at=other)
    (effect,) = decision.effects
    assert isinstance(effect, Send)
    assert isinstance(effect.command, SkipRun)
    causes = {(cause.step, cause.branch) for cause in effect.command.causes}
    assert causes == {("ship.weigh", "1of2"), ("ship.weigh", "2of2"), ("shop.check", "")}


def test_a_list_is_nothing_a_person_can_give() -> None:
    sentence = refused(FANNED, told(FANNED, ran(START)).instance, skipping(RunKey(step="stock.pack"), "packed.v1"))
    assert sentence.startswith("stock.pack emits a list, which nobody can give by hand, not packed.v1")


def test_a_step_that_is_a_child_saga_is_not_skipped() -> None:
    running = told(FANNED, ran(START)).instance
    assert "ends with its child saga" in refused(FANNED, running, skipping(RunKey(step="shop.book")))


# --- resolve -------------------------------------------------------------------------------------------------------


def with_refusal() -> Topology:
    """Return a plan whose outside call may be refused."""
    step = a_step("pay.hold", "placed.v1", "held.v1", effects=Effects.EXTERNAL, undoing=Undoing.EXTERNAL)
    return a_topology(replace(step, refuses=("declined.v1",)), a_step("ship.send", "held.v1"))


CALLING = with_refusal()
DOUBT = InDoubt(step="pay.hold", reason="no answer within 24 h")


def doubtful() -> Instance:
    """Return a saga with a call that only a person can resolve."""
    instance = told(CALLING, ran(START), DOUBT).instance
    assert (instance.stuck, instance.doubts) == (Cause.IN_DOUBT, frozenset({HOLD}))
    return instance


@pytest.mark.parametrize(
    ("verb", "result_type", "result"),
    [
        (resolving(HOLD, Verdict.HAPPENED, "held.v1", b'{"a":1}'), "held.v1", b'{"a":1}'),
        (resolving(HOLD, Verdict.HAPPENED, "declined.v1"), "declined.v1", b"{}"),
        (resolving(HOLD, Verdict.NOT_HAPPENED), "", b""),
        (resolving(HOLD, Verdict.NOT_HAPPENED, "held.v1"), "", b""),
    ],
)
def test_what_a_person_found_out_is_passed_on(verb: ResolveStep, result_type: str, result: bytes) -> None:
    decision = told(CALLING, verb, at=doubtful(), now=LATER)
    command = ResolveRun(
        step="pay.hold", reason="looked it up", verdict=verb.verdict, result_type=result_type, result=result
    )
    assert decision.effects == (Send(service="pay", command=command),)
    assert decision.instance.stuck is Cause.IN_DOUBT, "until its service has said so"
    again = told(CALLING, verb, at=decision.instance, now=LATER)
    assert (again.instance, again.effects) == (decision.instance, decision.effects)
    answered = told(CALLING, ran(HELD_STEP), at=again.instance).instance
    assert (answered.stuck, answered.doubts) == (None, frozenset())


@pytest.mark.parametrize(
    ("verb", "sentence"),
    [
        (resolving(SEND, Verdict.NOT_HAPPENED), "ship.send calls nothing outside, so it cannot be in doubt"),
        (resolving(HOLD, Verdict.HAPPENED), "pay.hold emits held.v1 or declined.v1, not nothing; give the result"),
        (resolving(HOLD, Verdict.HAPPENED, "held.v1", b"1"), "the result is no held.v1"),
        (resolving(HOLD, Verdict.HAPPENED, "declined.v1", b"{" + b" " * 1024 + b"}"), "the refusal has 1026 bytes"),
        (resolving(RunKey(step="pay.fly"), Verdict.HAPPENED), "checkout v1 has no step 'pay.fly'"),
    ],
)
def test_what_is_not_resolved(verb: ResolveStep, sentence: str) -> None:
    assert refused(CALLING, doubtful(), verb).startswith(sentence)


def test_a_call_that_is_asked_again_by_itself_is_not_said_to_have_not_happened() -> None:
    running = told(CALLING, ran(START)).instance
    assert "asked again by itself" in refused(CALLING, running, resolving(HOLD, Verdict.NOT_HAPPENED))
    happened = told(CALLING, resolving(HOLD, Verdict.HAPPENED, "held.v1"), at=running)
    assert len(happened.effects) == 1, "who knows the answer may give it"


def test_what_has_been_answered_is_not_resolved() -> None:
    answered = told(CALLING, ran(START), ran(HELD_STEP)).instance
    assert refused(CALLING, answered, resolving(HOLD, Verdict.HAPPENED, "held.v1")) == "pay.hold is done already"


def test_a_call_in_doubt_is_not_made_again() -> None:
    assert "must not be repeated" in refused(CALLING, doubtful(), RetryStep(key=HOLD))


# --- what a verb stands for ------------------------------------------------------------------------------------------


def keys_of(topology: Topology, instance: Instance, verb: Verb) -> list[str]:
    return [
        f"{each.key.step}/{each.key.branch}"
        for each in aimed(topology, instance, verb)
        if isinstance(each, RetryStep | SkipStep | ResolveStep)
    ]


ALL = RetryStep(key=RunKey(step=""))


def test_a_retry_of_everything_is_of_what_the_saga_waits_for() -> None:
    assert keys_of(TWO, twice_stuck(), ALL) == ["ship.book/", "stock.reserve/"]
    assert keys_of(CALLING, doubtful(), ALL) == ["pay.hold/"]
    assert keys_of(PLAIN, undoing(), ALL) == ["stock.reserve/"], "an undo that is not answered yet"
    running = told(FANNED, ran(START), PACKED, weighed("2of2")).instance
    assert keys_of(FANNED, running, ALL) == ["ship.load/", "ship.weigh/1of2", "shop.book/", "shop.check/"]
    with pytest.raises(VerbRefused, match="saga S waits for no step"):
        aimed(PLAIN, new_instance(), ALL)


def test_a_step_without_a_branch_is_of_all_branches_that_wait() -> None:
    running = told(FANNED, ran(START), PACKED).instance
    skip = skipping(RunKey(step="ship.weigh"), "weighed.v1")
    assert keys_of(FANNED, running, skip) == ["ship.weigh/1of2", "ship.weigh/2of2"]
    one = told(FANNED, weighed("1of2"), at=running).instance
    assert keys_of(FANNED, one, skip) == ["ship.weigh/2of2"]
    exact = replace(skip, key=RunKey(step="ship.weigh", branch="1of2"))
    assert keys_of(FANNED, one, exact) == ["ship.weigh/1of2"]
    assert keys_of(FANNED, one, skipping(LOAD, "loaded.v1")) == ["ship.load/"]
    assert keys_of(FANNED, one, skipping(RunKey(step="x.y"))) == ["x.y/"], "to be refused by its name"


def test_only_a_retry_may_leave_the_step_out() -> None:
    with pytest.raises(VerbRefused, match="name the step"):
        aimed(TWO, twice_stuck(), skipping(RunKey(step="")))
    for verb in (CANCEL, HOLD_IT, LET_GO):
        assert aimed(TWO, twice_stuck(), verb) == (verb,)


def test_what_is_failed_or_in_doubt_comes_alone() -> None:
    assert blocking(TWO, twice_stuck()) == (BOOK, RESERVE)
    assert blocking(OUTSIDE, told(OUTSIDE, ran(START), ran(HELD_STEP)).instance) == (CAPTURE,)


# --- what is written down --------------------------------------------------------------------------------------------


def row_of(instance: Instance) -> object:
    return instance_row(
        instance,
        saga="checkout",
        version=1,
        plan="h",
        tenant="",
        partition=0,
        revision=1,
        started_at=NOW,
    )


@pytest.mark.parametrize(
    ("verb", "word", "target"),
    [
        (CANCEL, "cancel", "S"),
        (HOLD_IT, "hold", "S"),
        (LET_GO, "release", "S"),
        (RetryStep(key=RESERVE), "retry", "stock.reserve"),
        (skipping(RunKey(step="ship.weigh", branch="1of2"), "weighed.v1"), "skip", "ship.weigh/1of2"),
        (resolving(HOLD, Verdict.HAPPENED, "held.v1", b'{"card":"4711"}'), "resolve", "pay.hold"),
    ],
)
def test_the_trail_says_what_was_done_without_what_was_in_it(verb: Verb, word: str, target: str) -> None:
    stuck = undoing(FAILED_FOR_GOOD)
    before, after = row_of(stuck), row_of(told(PLAIN, RetryStep(key=RESERVE), at=stuck).instance)
    row = audit_of(verb, before, after, who="ann", why="mended", at=NOW)  # type: ignore[arg-type]
    assert (row.verb, row.target, row.saga_id, row.who, row.why) == (word, target, "S", "ann", "mended")
    assert b'"stuck":"stock.reserve: boom"' in row.before
    assert b'"undos":{"stock.reserve":"failed"}' in row.before
    assert b'"undos":{"stock.reserve":"asked"}' in row.after
    assert b'"stuck"' not in row.after
    assert b"4711" not in row.after
    assert (b'"verdict":"happened"' in row.after) == (word == "resolve")


def test_marks_numbers_and_doubts_survive_the_row() -> None:
    for instance in (doubtful(), told(PLAIN, ran(START), HOLD_IT, LET_GO).instance, undoing(FAILED_FOR_GOOD)):
        assert instance_of(row_of(instance)) == instance  # type: ignore[arg-type]
