from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from examples.payment.gateway import Answer, Gateway, GatewayDown, Wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def authorize(gateway: Gateway, key: str = "a" * 16, *, card: str = "card-ok", now: datetime = NOW) -> Answer | Wait:
    return gateway.authorize(key, order_id="order-1", card=card, amount=500, now=now)


def authorized(gateway: Gateway, *, card: str = "card-ok") -> str:
    answer = authorize(gateway, card=card)
    assert isinstance(answer, Answer)
    assert answer.ok
    return answer.reference


def whats(gateway: Gateway) -> list[str]:
    return [entry.what for entry in gateway.ledger()]


def test_sets_money_aside_and_takes_it(gateway: Gateway) -> None:
    authorization = authorized(gateway)
    assert gateway.open_authorizations() == [authorization]
    answer = gateway.capture("c", authorization=authorization, now=after(1))
    assert answer == Answer(key="c", ok=True, reference="charge-c", amount=500)
    assert gateway.open_authorizations() == []
    assert [(e.what, e.amount, e.order_id, e.at) for e in gateway.ledger()] == [
        ("authorized", 500, "order-1", NOW),
        ("captured", 500, "order-1", after(1)),
    ]


def test_the_same_key_gets_the_same_answer_and_does_nothing_twice(gateway: Gateway) -> None:
    authorization = authorized(gateway)
    assert authorize(gateway) == authorize(gateway)
    once = gateway.capture("c", authorization=authorization, now=NOW)
    again = gateway.capture("c", authorization=authorization, now=after(9))
    assert once == again
    assert whats(gateway) == ["authorized", "captured"]


def test_what_is_voided_cannot_be_captured_and_the_other_way_round(gateway: Gateway) -> None:
    authorization = authorized(gateway)
    assert gateway.void("v", authorization=authorization, now=NOW) == gateway.void(
        "v", authorization=authorization, now=NOW
    )
    late = gateway.capture("c", authorization=authorization, now=NOW)
    assert isinstance(late, Answer)
    assert (late.ok, late.reason) == (False, "the authorization is voided")

    taken = Gateway()
    authorization = authorized(taken)
    taken.capture("c", authorization=authorization, now=NOW)
    void = taken.void("v", authorization=authorization, now=NOW)
    assert isinstance(void, Answer)
    assert not void.ok
    assert whats(taken) == ["authorized", "captured"]


def test_an_unknown_authorization_is_refused(gateway: Gateway) -> None:
    for answer in (
        gateway.capture("c", authorization="auth-x", now=NOW),
        gateway.void("v", authorization="auth-x", now=NOW),
    ):
        assert isinstance(answer, Answer)
        assert not answer.ok


def test_finds_the_answer_of_a_key_and_changes_nothing(gateway: Gateway) -> None:
    assert gateway.find("a" * 16, now=NOW) is None
    answer = authorize(gateway)
    assert gateway.find("a" * 16, now=NOW) == answer
    assert whats(gateway) == ["authorized"]


def test_a_forgotten_key_is_a_new_one() -> None:
    gateway = Gateway(forgets_after=timedelta(seconds=60))
    authorize(gateway)
    authorize(gateway, now=after(59))
    assert whats(gateway) == ["authorized"]
    authorize(gateway, now=after(60))
    assert whats(gateway) == ["authorized", "authorized"]


def test_a_late_answer_is_of_something_done_at_once(gateway: Gateway) -> None:
    assert authorize(gateway, card="card-late") == Wait(key="a" * 16, until=after(3))
    assert whats(gateway) == ["authorized"]
    assert gateway.answer_to("a" * 16, now=after(3)).ok
    assert authorize(gateway, card="card-late", now=after(1)) == gateway.find("a" * 16, now=after(1))


def test_a_call_that_comes_twice_is_carried_out_once(gateway: Gateway) -> None:
    authorization = authorized(gateway, card="card-twice")
    answer = gateway.capture("c", authorization=authorization, now=NOW)
    assert isinstance(answer, Answer)
    assert answer.ok
    assert gateway.calls("order-1", "capture") == 2
    assert whats(gateway) == ["authorized", "captured"]


def test_declines(gateway: Gateway) -> None:
    answer = authorize(gateway, card="card-declined")
    assert answer == Answer(key="a" * 16, ok=False, reason="declined by the bank")
    authorization = authorized(Gateway(), card="card-declined-late")
    assert authorization


def test_fails_some_times_and_then_answers(gateway: Gateway) -> None:
    for _ in range(2):
        with pytest.raises(GatewayDown):
            authorize(gateway, card="card-flaky")
    assert isinstance(authorize(gateway, card="card-flaky"), Answer)
    assert gateway.calls("order-1", "authorize") == 3


def test_a_lost_answer_does_not_charge_twice(gateway: Gateway) -> None:
    authorization = authorized(gateway, card="card-lost-answer")
    with pytest.raises(GatewayDown):
        gateway.capture("c", authorization=authorization, now=NOW)
    assert whats(gateway) == ["authorized", "captured"]
    answer = gateway.capture("c", authorization=authorization, now=after(1))
    assert isinstance(answer, Answer)
    assert answer.ok
    assert whats(gateway) == ["authorized", "captured"]


def test_is_down_for_everything_until_repaired(gateway: Gateway) -> None:
    with pytest.raises(GatewayDown):
        authorize(gateway, card="card-down")
    with pytest.raises(GatewayDown):
        gateway.find("a" * 16, now=NOW)
    gateway.repair("card-down")
    assert gateway.find("a" * 16, now=NOW) is None


def test_a_hung_call_is_carried_out_once_though_nobody_waits(gateway: Gateway) -> None:
    authorization = authorized(gateway, card="card-hangs")
    first = gateway.capture("c", authorization=authorization, now=NOW)
    second = gateway.capture("c", authorization=authorization, now=after(2))
    assert first == second == Wait(key="c", until=after(6))
    assert whats(gateway) == ["authorized"]
    with pytest.raises(GatewayDown):
        gateway.answer_to("c", now=after(5))
    assert gateway.find("c", now=after(5)) is None
    found = gateway.find("c", now=after(6))
    assert found is not None
    assert found.ok
    assert [(entry.what, entry.at) for entry in gateway.ledger()] == [("authorized", NOW), ("captured", after(6))]
    assert gateway.capture("c", authorization=authorization, now=after(7)) == gateway.answer_to("c", now=after(7))


def test_answers_survive_the_process(tmp_path: Path) -> None:
    file = tmp_path / "gateway.db"
    first = Gateway(file)
    answer = authorize(first)
    # Not closed: as if it had been killed.
    second = Gateway(file)
    assert authorize(second) == answer
    assert second.ledger() == first.ledger()
    assert second.open_authorizations() == first.open_authorizations()
    second.close()
    first.close()
