from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core.breaker import Phase
from saga._core.envelope import Delivery, Message
from saga._core.fleet import (
    LONGEST_WORD_SECONDS,
    CallReport,
    FleetRules,
    FleetVerdict,
    Heard,
    Standing,
    added,
    judged,
    percent,
    read_breaker_message,
    report_message,
    verdict_message,
)
from saga._core.limits import Limits
from saga.errors import Undecodable

RULES = FleetRules()
AT = datetime(2026, 1, 1, tzinfo=UTC)
OPEN = Standing(phase=Phase.OPEN, share=0.0, since=100.0)


def report(calls: int, failures: int) -> CallReport:
    return CallReport(dependency="gateway", service="payment", slot="0", calls=calls, failures=failures, at=AT)


def heard(*reports: tuple[float, int, int]) -> list[Heard]:
    return [Heard(at=at, calls=calls, failures=failures) for at, calls, failures in reports]


# --- verdicts ------------------------------------------------------------------------------------------------


def test_it_opens_for_all_when_most_calls_of_the_window_have_failed() -> None:
    seconds = [(float(second), 10, 5) for second in range(1, 5)]
    assert judged(RULES, Standing(), heard(*seconds), 4.0) == Standing(phase=Phase.OPEN, share=0.0, since=4.0)
    mostly_fine = [(at, calls, 4) for at, calls, _ in seconds]
    assert judged(RULES, Standing(), heard(*mostly_fine), 4.0) == Standing()


def test_it_waits_for_what_the_healthy_ones_report() -> None:
    """The first report comes from whoever fails; the others report once they have heard of it."""
    assert judged(RULES, Standing(), heard((1.0, 100, 100)), 2.0).phase is Phase.CLOSED
    assert judged(RULES, Standing(), heard((1.0, 100, 100), (2.0, 900, 0)), 4.0).phase is Phase.CLOSED
    assert judged(RULES, Standing(), heard((1.0, 100, 100), (2.0, 90, 0)), 4.0).phase is Phase.OPEN


def test_a_few_calls_or_old_calls_open_nothing() -> None:
    assert judged(RULES, Standing(), heard((1.0, 19, 19)), 5.0).phase is Phase.CLOSED
    assert judged(RULES, Standing(), heard((1.0, 100, 100)), 12.0).phase is Phase.CLOSED


def test_it_stays_open_while_canaries_fail_and_lets_go_once_they_do_not() -> None:
    assert judged(RULES, OPEN, heard((105.0, 3, 3)), 106.0) is OPEN
    assert judged(RULES, OPEN, heard((105.0, 3, 3), (109.0, 1, 0)), 110.0) == Standing(
        phase=Phase.RECOVERING, share=0.125, since=110.0
    )


def test_what_was_reported_before_it_opened_does_not_let_go() -> None:
    assert judged(RULES, OPEN, heard((99.5, 10, 0), (99.5, 10, 9)), 101.0) is OPEN


def test_it_lets_go_in_growing_shares() -> None:
    standing, shares = Standing(phase=Phase.RECOVERING, share=0.125, since=100.0), list[int]()
    for second in range(100, 125):
        standing = judged(RULES, standing, heard((second - 0.5, 9, 1)), float(second))
        shares.append(percent(standing.share))
    assert [shares[second] for second in (0, 4, 5, 10, 15, 24)] == [12, 12, 25, 50, 100, 100]
    assert standing.phase is Phase.CLOSED


def test_failures_during_the_release_open_it_again() -> None:
    standing = Standing(phase=Phase.RECOVERING, share=0.25, since=100.0)
    assert judged(RULES, standing, heard((101.0, 3, 2)), 102.0).phase is Phase.OPEN
    assert judged(RULES, standing, heard((101.0, 2, 2)), 102.0) is standing


@given(
    st.sampled_from([Phase.CLOSED, Phase.OPEN, Phase.RECOVERING]),
    st.floats(0.01, 1.0),
    st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(0, 50), st.integers(0, 50))),
)
def test_without_reports_every_verdict_ends(
    phase: Phase, share: float, reports: Iterable[tuple[float, int, int]]
) -> None:
    standing = Standing(phase=phase, share=share, since=100.0)
    known = heard(*((at, calls + failures, failures) for at, calls, failures in reports))
    for second in range(100, 200):
        standing = judged(RULES, standing, known, float(second))
    assert standing.phase is Phase.CLOSED


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 9)), max_size=200))
def test_what_is_kept_of_the_reports_is_bounded_and_complete(reports: list[tuple[float, int]]) -> None:
    known, now, all_of_them = tuple[Heard, ...](), 0.0, list[tuple[float, int]]()
    for pause, calls in reports:
        now += pause
        known = added(known, report(calls, 0), now)
        all_of_them.append((now, calls))
        assert len(known) <= LONGEST_WORD_SECONDS + 1
    recent = sum(calls for at, calls in all_of_them if at > now - LONGEST_WORD_SECONDS + 1)
    assert sum(one.calls for one in known) >= recent


# --- the wire ------------------------------------------------------------------------------------------------


def arrived(message: Message) -> Delivery:
    return Delivery(topic=message.topic, partition=0, offset=0, key=message.key, value=message.value)


def test_a_report_and_a_verdict_are_read_as_they_were_written() -> None:
    told = report(7, 3)
    verdict = FleetVerdict(dependency="gateway", phase=Phase.RECOVERING, share=25, valid_until=AT)
    assert read_breaker_message(arrived(report_message(told)), Limits()) == told
    assert read_breaker_message(arrived(verdict_message(verdict)), Limits()) == verdict
    assert report_message(told).key == b"report/gateway/payment-0"
    assert verdict_message(verdict).key == b"verdict/gateway"


def test_the_docs_show_both_as_they_are_written() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    at = datetime(2025, 3, 1, 12, tzinfo=UTC)
    until = at + timedelta(seconds=15)
    verdict = FleetVerdict(dependency="gateway", phase=Phase.RECOVERING, share=25, valid_until=until)
    for message in (report_message(replace(report(12, 9), at=at)), verdict_message(verdict)):
        assert (message.value or b"").decode() in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "rumour"),
        ("dependency", ""),
        ("dependency", "x" * 600),
        ("service", None),
        ("slot", 3),
        ("calls", -1),
        ("calls", True),
        ("calls", 10**12),
        ("failures", 8),
        ("failures", 1.5),
        ("at", "yesterday"),
    ],
)
def test_a_report_that_cannot_be_meant_is_not_read(field: str, value: object) -> None:
    body = orjson.loads(report_message(report(7, 3)).value or b"") | {field: value}
    message = Message(topic="saga.breakers", key=b"", value=orjson.dumps(body))
    with pytest.raises(Undecodable):
        read_breaker_message(arrived(message), Limits())


@pytest.mark.parametrize(
    ("field", "value"), [("state", "half_open"), ("share", 101), ("share", 0.5), ("valid_until", 7), ("kind", None)]
)
def test_a_verdict_that_cannot_be_meant_is_not_read(field: str, value: object) -> None:
    verdict = FleetVerdict(dependency="gateway", phase=Phase.OPEN, share=0, valid_until=AT)
    body = orjson.loads(verdict_message(verdict).value or b"") | {field: value}
    message = Message(topic="saga.breakers", key=b"", value=orjson.dumps(body))
    with pytest.raises(Undecodable):
        read_breaker_message(arrived(message), Limits())


def test_limits_are_checked_before_anything_is_decoded() -> None:
    for value in (b"[" * 100, b'"' + b"x" * (2 << 20) + b'"', b"not json", b"[]"):
        with pytest.raises(Undecodable):
            read_breaker_message(arrived(Message(topic="saga.breakers", key=b"", value=value)), Limits())
