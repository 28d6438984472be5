from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import DeclarationError, Permanent, Retry, Saga, Transient
from saga._core.closure import attempts_made
from saga._core.instance import Phase
from saga._core.plan import Topology, topology_of
from saga._core.planning import plan_from_json, plan_hash, plan_to_json
from saga._core.retry import (
    Again,
    Failure,
    Fault,
    GiveUp,
    Promise,
    attempts_allowed,
    decide_retry,
    fault_of,
)
from saga._core.stored_instance import instance_of, instance_row
from saga._core.words import Cause, Ending
from tests.core.protocol_examples import CAPTURED, PIVOTAL, PLAIN, RESERVED, SENT_PLAIN, START, closed, ran, told

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Retry(attempts=3, base_seconds=8.0, cap_seconds=60.0, window_seconds=100.0, permanent=(ValueError,))
MAY, MUST = Promise.MAY_FAIL, Promise.MUST_SUCCEED
PERMANENT = Fault(failure=Failure.PERMANENT)


def at(seconds: float) -> datetime:
    return FIRST + timedelta(seconds=seconds)


def decided(
    *,
    tried: int = 1,
    passed: float = 0.0,
    fault: Fault | None = None,
    promise: Promise = MAY,
    policy: Retry = POLICY,
    jitter: float = 0.5,
) -> Again | GiveUp:
    return decide_retry(policy, promise, fault or Fault(), tried=tried, first_at=FIRST, now=at(passed), jitter=jitter)


def test_the_pause_doubles_up_to_the_cap_and_is_drawn_anew() -> None:
    patient = Retry(attempts=99, base_seconds=8.0, cap_seconds=60.0)
    waits = [decided(policy=patient, tried=n, jitter=1.0).at for n in (1, 2, 3, 4, 50)]
    assert waits == [at(8), at(16), at(32), at(60), at(60)]
    assert decided(policy=patient, tried=2, jitter=0.25) == Again(at=at(4))


def test_attempts_end_it() -> None:
    assert decided(tried=2) == Again(at=at(8))
    assert decided(tried=3) == GiveUp(reason="3 attempts were made", at=at(16))


def test_the_last_attempt_is_made_when_the_window_ends() -> None:
    assert decided(tried=2, passed=98) == Again(at=at(100))
    given_up = decided(tried=2, passed=100)
    assert isinstance(given_up, GiveUp)
    assert given_up.reason == "its 100 s are over"


def test_retry_after_is_waited_for_and_never_cut_short() -> None:
    assert decided(fault=Fault(retry_after_seconds=30)) == Again(at=at(30))
    assert decided(fault=Fault(retry_after_seconds=1)) == Again(at=at(4))
    assert isinstance(decided(passed=80, fault=Fault(retry_after_seconds=30)), GiveUp)


def test_a_permanent_failure_ends_it_at_once() -> None:
    assert decided(fault=PERMANENT) == GiveUp(reason="it cannot succeed", at=at(60))


def test_what_must_succeed_knows_no_end() -> None:
    assert decided(promise=MUST, tried=99, passed=999) == Again(at=at(999 + 30))
    assert decided(promise=MUST, fault=PERMANENT) == Again(at=at(60))
    assert decided(promise=MUST, passed=90, fault=Fault(retry_after_seconds=3600)) == Again(at=at(3690))


@given(
    tried=st.integers(1, 200),
    passed=st.floats(0, 1e6),
    jitter=st.floats(0, 1, exclude_max=True),
    asked=st.floats(allow_nan=True, allow_infinity=True),
    promise=st.sampled_from(Promise),
    failure=st.sampled_from(Failure),
)
def test_the_next_attempt_is_never_in_the_past_and_never_after_the_window(
    tried: int, passed: float, jitter: float, asked: float, promise: Promise, failure: Failure
) -> None:
    fault = Fault(failure=failure, retry_after_seconds=asked)
    found = decided(tried=tried, passed=passed, jitter=jitter, fault=fault, promise=promise)
    assert found.at >= at(passed)
    assert attempts_allowed(found, tried) - tried == isinstance(found, Again)
    if promise is MUST:
        assert isinstance(found, Again)
    elif isinstance(found, Again):
        assert found.at <= at(100)


def test_what_an_exception_means() -> None:
    assert fault_of(RuntimeError("boom"), POLICY) == Fault()
    assert fault_of(None, POLICY) == Fault()
    assert fault_of(UnicodeError("a ValueError"), POLICY) == PERMANENT
    assert fault_of(Permanent("no such card"), Retry()) == PERMANENT
    assert fault_of(DeclarationError("orders.take returned str"), Retry()) == PERMANENT
    assert fault_of(Transient("busy", retry_after_seconds=30), POLICY) == Fault(retry_after_seconds=30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"base_seconds": -1.0},
        {"base_seconds": math.nan},
        {"base_seconds": 2.0, "cap_seconds": 1.0},
        {"cap_seconds": math.inf},
        {"window_seconds": 0.0},
        {"window_seconds": math.inf},
        {"permanent": ValueError},
        {"permanent": (ValueError("one"),)},
        {"permanent": (KeyboardInterrupt,)},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=next(iter(wrong))):
        Retry(**wrong)


# --- all attempts of a saga ------------------------------------------------------------------------------------


def limited(topology: Topology, attempts: int) -> Topology:
    return topology_of(replace(topology.plan, attempts=attempts))


def test_a_saga_that_has_taken_too_many_attempts_is_undone() -> None:
    tried = replace(RESERVED, attempts=10)
    there = told(limited(PLAIN, 10), ran(START), ran(tried))
    assert (there.instance.phase, there.instance.cause) == (Phase.CLOSING, Cause.FAILED)
    assert there.instance.detail == "its runs have taken 11 attempts, 10 are allowed"
    assert told(limited(PLAIN, 11), ran(START), ran(tried)).instance.phase is Phase.RUNNING


def test_it_completes_when_nothing_is_missing_all_the_same() -> None:
    there = told(limited(PLAIN, 2), ran(START), closed("stock", RESERVED), ran(SENT_PLAIN)).instance
    assert there.told is Ending.COMPLETED


def test_past_the_pivot_there_is_only_an_alarm() -> None:
    facts = [ran(START), ran(RESERVED), ran(replace(CAPTURED, attempts=50))]
    there = told(limited(PIVOTAL, 5), *facts).instance
    assert (there.phase, there.cause, there.attempts_alarm) == (Phase.COMMITTED, None, 52)


def test_the_alarm_rings_once_at_four_fifths_and_is_stored() -> None:
    limit = limited(PLAIN, 10)
    there = told(limit, ran(START), ran(replace(RESERVED, attempts=6))).instance
    assert (attempts_made(there), there.attempts_alarm) == (7, 0)
    there = told(limit, ran(START), ran(replace(RESERVED, attempts=7))).instance
    assert (there.phase, there.attempts_alarm) == (Phase.RUNNING, 8)
    row = instance_row(there, saga="a", version=1, plan="", tenant="", partition=0, revision=1, started_at=None)
    assert instance_of(row) == there
    assert told(limit, ran(SENT_PLAIN), at=there).instance.attempts_alarm == 8


def test_the_limit_stands_in_the_plan_and_not_in_its_hash() -> None:
    plan = replace(PLAIN.plan, attempts=7)
    plan = replace(plan, hash=plan_hash(plan))
    assert plan_from_json(plan_to_json(plan)) == plan
    assert plan_hash(replace(plan, attempts=0)) == plan.hash
    assert b"attempts" not in plan_to_json(replace(plan, attempts=0))
    with pytest.raises(DeclarationError, match="attempts"):
        Saga("checkout", version=1, attempts=0)
