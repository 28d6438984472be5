from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from saga._core.audit import AuditRow
from saga._core.bodies import CancelRequested, InDoubt, TooLate, UndoFailed, Undone
from saga._core.coordinator import Due, Input
from saga._core.envelope import Delivery
from saga._core.explaining import About, Explanation, explain
from saga._core.ids import idempotency_key
from saga._core.inspecting import SagaRows
from saga._core.instance import Instance
from saga._core.plan import PlanStep, Topology
from saga._core.rows import DeliveryRow
from saga._core.stored_instance import instance_row
from saga._core.verbs import HoldSaga
from saga._core.words import Effects, Reason, RunStatus, UndoStatus
from tests.core.protocol_examples import (
    CAPTURED,
    EXPIRES,
    NOW,
    OUTSIDE,
    PIVOTAL,
    PLAIN,
    RESERVED,
    SENT,
    SENT_PLAIN,
    START,
    TIMEOUT_AT,
    a_fact,
    a_run,
    a_step,
    a_topology,
    closed,
    committed,
    ran,
    told,
)

LATER = NOW + timedelta(seconds=90)
SENT_BADLY = replace(a_fact("ship.send", RunStatus.FAILED, cause="stock.reserve"), attempts=5)


def about(
    topology: Topology, *inputs: Input, rows: SagaRows | None = None, audits: tuple[AuditRow, ...] = ()
) -> Explanation:
    return explained(topology, told(topology, *inputs).instance, rows, audits)


def explained(
    topology: Topology | None, instance: Instance, rows: SagaRows | None = None, audits: tuple[AuditRow, ...] = ()
) -> Explanation:
    row = instance_row(
        instance, saga="checkout", version=1, plan="h", tenant="", partition=0, revision=0, started_at=NOW
    )
    plan = topology.plan if topology is not None else None
    return explain(row, plan=plan, rows=rows, audits=audits, now=LATER)


def texts(found: Explanation, kind: About) -> list[str]:
    return [line.text for line in found.about(kind)]


def commands(found: Explanation) -> list[str]:
    return [mend.command for mend in found.mends]


def a_letter(reason: Reason, step: str, **changes: object) -> DeliveryRow:
    raw = Delivery(topic="stock.events", partition=0, offset=1, key=b"S", value=b"{}", headers=())
    service = step.partition(".")[0]
    row = DeliveryRow(service=service, saga_id="S", due_at=LATER, reason=reason, step=step, raw=raw, id=12)
    return replace(row, **changes)  # type: ignore[arg-type]


def an_act(verb: str, target: str = "S", why: str = "asked to") -> AuditRow:
    return AuditRow(at=NOW, who="ann", why=why, verb=verb, saga_id="S", target=target)


def test_a_completed_saga_says_so() -> None:
    found = about(PLAIN, ran(START), ran(RESERVED), ran(SENT_PLAIN))
    assert (found.title, found.phase, found.verdict) == (
        "checkout v1",
        "completed",
        "it completed at 2026-01-01 12:00:00Z",
    )
    assert texts(found, About.BEGAN) == ["orders.start started it"]
    assert texts(found, About.ENDED) == ["it completed with 3 runs: orders.start, ship.send, stock.reserve"]
    assert found.mends == ()


def test_an_undone_saga_names_the_step_its_error_its_attempts_and_the_way_there() -> None:
    answers = (closed("stock", RESERVED), closed("ship", SENT_BADLY))
    found = about(PLAIN, ran(START), ran(RESERVED), ran(SENT_BADLY), *answers, Undone(step="stock.reserve"))
    assert found.verdict == "it was undone because ship.send failed: boom"
    assert texts(found, About.CAUSE) == [
        "ship.send failed after 5 attempts: boom (it came from orders.start -> stock.reserve)"
    ]
    assert texts(found, About.UNDONE) == ["stock.reserve was undone"]
    assert found.phase == "compensated"


def test_a_refusal_is_told_by_its_type_and_never_by_what_is_in_it() -> None:
    refused = a_fact("ship.send", RunStatus.REFUSED, cause="stock.reserve")
    found = about(PLAIN, ran(START), ran(RESERVED), ran(refused))
    assert found.verdict.startswith("it is being undone because ship.send refused with stock.out.v1; ")
    assert texts(found, About.CAUSE)[0].startswith("ship.send refused with stock.out.v1 at its first attempt")
    assert "sku" not in str(found)
    waits = texts(found, About.WAITS)
    assert waits[0].startswith("ship has been asked to close and has not answered; asked again at 2026-01-01 12:00:30Z")
    assert "stock.reserve" not in commands(found)


def test_who_cancelled_it_and_why_comes_from_the_trail() -> None:
    cancelled = CancelRequested(reason="the customer went away")
    found = about(PLAIN, ran(START), cancelled)
    assert texts(found, About.CAUSE) == ["its own services asked to cancel it: the customer went away"]
    found = about(PLAIN, ran(START), cancelled, audits=(an_act("cancel", why="fraud"),))
    assert texts(found, About.CAUSE) == ["ann cancelled it: fraud"]
    assert texts(found, About.PERSON) == ["ann cancelled it: fraud"]


def test_a_deadline_is_told() -> None:
    instance = told(PLAIN, Due(), at=told(PLAIN, ran(START)).instance, now=TIMEOUT_AT).instance
    found = explained(PLAIN, instance)
    assert texts(found, About.CAUSE) == ["a deadline passed: the saga's timeout passed"]


def test_what_a_saga_going_forward_waits_for() -> None:
    found = about(PLAIN, ran(START))
    assert found.verdict == ("it is going forward; stock.reserve is to run at stock, which has not said how it went")
    assert texts(found, About.WAITS)[1:] == ["it is undone if it has not completed by 2026-01-01 12:05:00Z"]
    found = about(PLAIN, ran(START), rows=SagaRows())
    assert texts(found, About.WAITS)[0] == "stock.reserve has not begun: stock has not taken its event yet"
    assert commands(found) == ["saga doctor"]
    retrying = a_letter(Reason.RETRY, "stock.reserve", attempt=3, error="TimeoutError: slow")
    found = about(PLAIN, ran(START), rows=SagaRows(deliveries=(retrying,)))
    assert texts(found, About.WAITS)[0] == (
        "stock.reserve waits: attempt 3 did not succeed, the next is due at 2026-01-01 12:01:30Z: TimeoutError: slow"
    )
    assert commands(found) == ["saga retry S stock.reserve --who NAME --why REASON"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.DELAYED, "its delay ends at"),
        (Reason.LOCKED, "another saga holds an entity"),
        (Reason.PARKED, "does not fit the plan"),
        (Reason.HELD, "its event is held at stock"),
    ],
)
def test_every_reason_to_lie_in_a_row_has_words(reason: Reason, words: str) -> None:
    found = about(PLAIN, ran(START), rows=SagaRows(deliveries=(a_letter(reason, "stock.reserve"),)))
    assert words in texts(found, About.WAITS)[0]


def test_a_dead_letter_is_replayed_in_its_services_database() -> None:
    dead = a_letter(Reason.DEAD, "stock.reserve", error="payload: no sku")
    found = about(PLAIN, ran(START), rows=SagaRows(deliveries=(dead,)))
    assert "a message for stock.reserve is a dead letter (number 12): payload: no sku" in texts(found, About.WAITS)
    mend = next(mend for mend in found.mends if "dlq" in mend.command)
    assert (mend.command, mend.service) == ("saga dlq replay 12 --who NAME --why REASON", "stock")


def test_a_failed_undo_says_what_it_holds_back_and_what_mends_it() -> None:
    chain = a_topology(
        a_step("stock.reserve", "placed.v1", "reserved.v1"),
        a_step("ship.book", "reserved.v1", "booked.v1"),
        a_step("ship.send", "booked.v1"),
    )
    booked = a_fact("ship.book", RunStatus.DONE, emits="booked.v1", cause="stock.reserve")
    failed = a_fact("ship.send", RunStatus.FAILED, cause="ship.book")
    inputs = (ran(START), ran(RESERVED), ran(booked), ran(failed))
    answers = (closed("stock", RESERVED), closed("ship", booked, failed))
    stuck = (*inputs, *answers, UndoFailed(step="ship.book", reason="gone"))
    row = a_run("ship.book", RunStatus.DONE, undo=UndoStatus.FAILED, attempt=4, error="gone for good")
    found = about(chain, *stuck, rows=SagaRows(runs=(row,)))
    assert found.verdict == "it is stuck and needs a person: ship.book: gone"
    assert texts(found, About.WAITS) == [
        "the undo of ship.book has failed for good after 4 attempts: gone for good",
        "stock.reserve is undone after ship.book",
    ]
    assert commands(found) == [
        "saga retry S ship.book --who NAME --why REASON",
        "saga skip S ship.book --who NAME --why REASON",
    ]
    assert "gone" in texts(about(chain, *stuck), About.WAITS)[0]
    assert commands(explained(None, told(chain, *stuck).instance)) == ["saga retry S --who NAME --why REASON"]


def test_what_was_undone_is_told_in_the_order_of_the_services_own_times() -> None:
    both = (ran(START), ran(RESERVED), ran(a_fact("pay.hold", RunStatus.DONE)))
    parallel = [a_step(name, "placed.v1") for name in ("stock.reserve", "pay.hold", "ship.send")]
    topology = a_topology(*parallel)
    instance = told(
        topology,
        *both,
        CancelRequested(reason="x"),
        closed("stock", RESERVED),
        closed("pay", both[2].fact),
        closed("ship"),
    ).instance
    instance = told(topology, Undone(step="stock.reserve"), Undone(step="pay.hold"), at=instance).instance
    assert texts(explained(topology, instance), About.UNDONE) == ["stock.reserve was undone", "pay.hold was undone"]
    rows = SagaRows(
        runs=(
            a_run("stock.reserve", RunStatus.DONE, undone_at=LATER),
            a_run("pay.hold", RunStatus.DONE, undone_at=NOW),
        )
    )
    assert texts(explained(topology, instance, rows), About.UNDONE) == [
        "pay.hold was undone",
        "stock.reserve was undone",
    ]


def test_what_people_did_about_a_dead_letter_names_it_once() -> None:
    acts = (an_act("replay", "dead letter 1"), an_act("discard", "dead letter 5"))
    assert texts(about(PLAIN, ran(START), audits=acts), About.PERSON) == [
        "ann let dead letter 1 be delivered again: asked to",
        "ann discarded dead letter 5: asked to",
    ]


def test_a_call_in_doubt_has_two_ways_out() -> None:
    held = a_fact("pay.hold", RunStatus.DONE, emits="held.v1")
    told_of = {"emits": ("captured.v1",), "ends": False, "refuses": ("declined.v1",), "calls": "bank"}
    capture = replace(OUTSIDE.steps["pay.capture"], **told_of)  # type: ignore[arg-type]
    row = a_run("pay.capture", RunStatus.INTENT, called_at=NOW, input_type="held.v1", generation=2, error="503")
    found = about(
        a_topology(OUTSIDE.steps["pay.hold"], capture),
        ran(START),
        ran(held),
        InDoubt(step="pay.capture", reason="past the life of its key"),
        rows=SagaRows(runs=(row,)),
    )
    assert texts(found, About.WAITS)[0] == (
        "nobody knows what came of the outside call of pay.capture to bank about a held.v1, "
        "last called at 2026-01-01 12:00:00Z: a person has to ask there for the idempotency key "
        + idempotency_key("S", "pay.capture", "", 2)
    )
    assert texts(found, About.WAITS)[1] == "the last that is known of pay.capture: 503"
    assert [command.split(" --who")[0] for command in commands(found)] == [
        "saga resolve S pay.capture --verdict happened --result-type captured.v1 --result JSON",
        "saga resolve S pay.capture --verdict happened --result-type declined.v1 --result JSON",
        "saga resolve S pay.capture --verdict not_happened",
    ]


def test_an_outside_call_that_is_open_says_its_attempt_and_when_it_is_looked_at_again() -> None:
    row = a_run("pay.hold", RunStatus.INTENT, attempt=2, pending_at=LATER + timedelta(seconds=5), error="503")
    found = about(OUTSIDE, ran(START), rows=SagaRows(runs=(row,)))
    assert texts(found, About.WAITS)[0] == (
        "pay.hold has an outside call open, attempt 2, looked at again at 2026-01-01 12:01:35Z; the last error was 503"
    )


def test_a_child_saga_is_the_next_one_to_be_explained() -> None:
    step = replace(a_step("trip.book", "placed.v1", effects=Effects.CHILD), child="trip.v1")
    found = about(a_topology(step), ran(START), rows=SagaRows(runs=(a_run("trip.book", RunStatus.INTENT),)))
    assert "waits for its child saga" in texts(found, About.WAITS)[0]
    assert commands(found)[0].startswith("saga explain ")


def test_a_held_saga_names_who_holds_it_and_the_release() -> None:
    found = about(PLAIN, ran(START), HoldSaga(), audits=(an_act("hold", why="the bank is down"),))
    assert found.verdict == (
        "it is held by ann (the bank is down) since 2026-01-01 12:00:00Z: "
        "nothing more of it begins until it is released"
    )
    assert commands(found) == ["saga release S --who NAME --why REASON"]
    assert "stock has not confirmed hold yet" in str(texts(found, About.WAITS))


def test_a_pivot_that_has_run_lets_it_only_go_forward() -> None:
    found = about(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED))
    assert found.verdict.startswith("its pivot has run, so it can only go forward; ship.send is to run at ship")
    assert about(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED), ran(SENT)).phase == "completed"


def test_the_question_to_the_pivots_service_says_what_hangs_on_it() -> None:
    found = about(PIVOTAL, ran(START), CancelRequested(reason="x"))
    assert "its pivot decides" in texts(found, About.WAITS)[0]
    assert committed("pay").service == "pay"


def test_what_came_too_late_and_what_is_overdue() -> None:
    late = about(PLAIN, ran(START), CancelRequested(reason="x"), TooLate(service="stock", reason="rows are gone"))
    assert texts(late, About.WAITS)[0] == "a command came too late, after the rows were gone: stock: rows are gone"
    assert "saga skip S stock --who NAME --why REASON" in commands(late)
    committed_ = told(PIVOTAL, ran(START), ran(RESERVED), ran(CAPTURED)).instance
    overdue = explained(PIVOTAL, told(PIVOTAL, Due(), at=committed_, now=EXPIRES).instance)
    assert texts(overdue, About.WAITS)[0] == "its time is over: still open at the end of its forward window"
    assert "saga skip S ship.send --who NAME --why REASON" in commands(overdue), "it emits nothing"


def test_an_unknown_plan_says_where_its_file_goes() -> None:
    instance = replace(told(PLAIN, ran(START)).instance, stuck=None)
    assert explained(None, instance).verdict == "it is going forward"
    from saga._core.learning import learn_unplanned

    found = explained(None, learn_unplanned(instance, (), "abc"))
    assert "does not know its plan" in texts(found, About.WAITS)[0]
    assert "plans folder" in found.mends[0].text


def test_a_state_of_another_version_is_said_to_be_so() -> None:
    row = instance_row(
        told(PLAIN, ran(START)).instance,
        saga="checkout",
        version=1,
        plan="h",
        tenant="",
        partition=0,
        revision=0,
        started_at=NOW,
    )
    found = explain(replace(row, state=b'{"runs":1}'), plan=None, now=NOW)
    assert "another version" in found.verdict


def test_a_step_with_nothing_to_undo_is_not_said_to_be_undone() -> None:
    from saga._core.plan import Undoing

    step: PlanStep = a_step("stock.reserve", "placed.v1", undoing=Undoing.NOTHING)
    done = a_fact("stock.reserve", RunStatus.DONE)
    topology = a_topology(step, a_step("ship.send", "placed.v1"))
    inputs = (ran(START), ran(done), CancelRequested(reason="x"), closed("stock", done), closed("ship"))
    found = about(topology, *inputs, Undone(step="stock.reserve"))
    assert texts(found, About.UNDONE) == ["stock.reserve had nothing to undo"]


def an_end(**changes: object) -> DeliveryRow:
    raw = Delivery(topic="saga.outcomes.urgent", partition=0, offset=1, key=b"S", value=b"{}", headers=())
    found = a_letter(Reason.RETRY, "", service="orders", attempt=11, error="SMTPError: no route", raw=raw)
    return replace(found, **changes)  # type: ignore[arg-type]


def test_an_ended_saga_tells_that_its_on_end_fails() -> None:
    ended = told(PLAIN, ran(START), ran(RESERVED), ran(SENT_PLAIN)).instance
    found = explained(PLAIN, ended, SagaRows(deliveries=(an_end(),)))
    sentence = (
        "on_end of orders, which started it, has failed 11 times: SMTPError: no route; the next attempt is at "
        "2026-01-01 12:01:30Z, and outcome() waits for it"
    )
    assert texts(found, About.WAITS) == [sentence]
    assert found.verdict == f"it completed at 2026-01-01 12:00:00Z; {sentence}"
    assert ["on_end in orders" in mend.text for mend in found.mends] == [True]
    once = explained(PLAIN, ended, SagaRows(deliveries=(an_end(attempt=1),)))
    assert "has failed once: " in once.verdict
    due = explained(PLAIN, ended, SagaRows(deliveries=(an_end(attempt=0),)))
    assert texts(due, About.WAITS)[0].startswith("orders has not taken the saga's end yet: ")


def test_a_command_that_waits_for_an_attempt_is_no_end() -> None:
    ended = told(PLAIN, ran(START), ran(RESERVED), ran(SENT_PLAIN)).instance
    found = explained(PLAIN, ended, SagaRows(deliveries=(a_letter(Reason.RETRY, "", service="orders", attempt=2),)))
    assert (texts(found, About.WAITS), found.mends) == ([], ())
