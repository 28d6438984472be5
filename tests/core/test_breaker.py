from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import Breaker, DeclarationError, Dependency
from saga._core.breaker import (
    FIRST_SHARE,
    LONGEST_RELEASE_SECONDS,
    BreakerState,
    CallOutcome,
    FleetWord,
    Phase,
    called,
    moved,
    new_breaker,
    permits,
    rate_per_second,
    told,
    wait_seconds,
)
from saga._core.bucket import Bucket, filled, taken

BREAKER = Breaker(sliding_window=10, minimum_calls=4, half_open_permits=3)
ANSWERED, FAILED = CallOutcome.ANSWERED, CallOutcome.FAILED
SIZE = 20


def after(state: BreakerState, *outcomes: CallOutcome, now: float, took: float = 0.1) -> BreakerState:
    for outcome in outcomes:
        state = called(BREAKER, state, outcome, began=now - took, now=now)
    return state


def opened(at: float = 10.0) -> BreakerState:
    return after(new_breaker(0.0), *[FAILED] * 4, now=at)


def recovering(at: float = 30.0) -> BreakerState:
    return after(moved(opened(), at), *[ANSWERED] * 3, now=at + 1)


# --- its states ----------------------------------------------------------------------------------------------


def test_it_opens_once_enough_of_enough_calls_have_failed() -> None:
    state = after(new_breaker(0.0), FAILED, FAILED, FAILED, now=1.0)
    assert (state.phase, permits(BREAKER, state, SIZE, 1.0)) == (Phase.CLOSED, SIZE)
    state = after(state, FAILED, now=1.0)
    assert (state.phase, permits(BREAKER, state, SIZE, 1.0)) == (Phase.OPEN, 0)
    assert wait_seconds(state, 4.0) == 7.0


def test_a_few_failures_among_answers_do_not_open_it() -> None:
    state = after(new_breaker(0.0), *[ANSWERED, ANSWERED, FAILED] * 10, now=1.0)
    assert state.phase is Phase.CLOSED


def test_only_the_newest_calls_count() -> None:
    state = after(new_breaker(0.0), *[ANSWERED] * 100, *[FAILED] * 4, now=1.0)
    assert state.phase is Phase.CLOSED
    assert after(state, FAILED, now=1.0).phase is Phase.OPEN


def test_slow_answers_open_it_too() -> None:
    state = after(new_breaker(0.0), *[ANSWERED] * 3, now=50.0, took=11.0)
    assert after(state, ANSWERED, now=50.0, took=9.0).phase is Phase.CLOSED
    assert after(state, ANSWERED, now=50.0, took=11.0).phase is Phase.OPEN


def test_canaries_go_after_the_wait_and_no_more_than_permitted() -> None:
    state = opened(10.0)
    assert permits(BREAKER, state, SIZE, 19.9) == 0
    assert permits(BREAKER, state, SIZE, 20.0) == 3
    assert permits(BREAKER, state, 2, 20.0) == 2
    state = after(moved(state, 20.0), ANSWERED, now=20.5)
    assert (state.phase, permits(BREAKER, state, SIZE, 20.5)) == (Phase.HALF_OPEN, 2)


def test_failed_canaries_open_it_again() -> None:
    state = after(moved(opened(10.0), 20.0), ANSWERED, FAILED, FAILED, now=21.0)
    assert (state.phase, wait_seconds(state, 21.0), state.opened_at) == (Phase.OPEN, 10.0, 10.0)


def test_there_may_be_more_canaries_than_the_window_holds() -> None:
    breaker = Breaker(sliding_window=1, minimum_calls=1, half_open_permits=2)
    state = called(breaker, new_breaker(0.0), FAILED, began=1.0, now=1.0)
    for now in (12.0, 13.0):
        state = called(breaker, moved(state, now), ANSWERED, began=now, now=now)
    assert state.phase is Phase.RECOVERING


def test_a_call_from_before_the_canaries_tells_nothing() -> None:
    state = moved(opened(10.0), 20.0)
    assert called(BREAKER, state, FAILED, began=19.0, now=21.0) == state
    assert called(BREAKER, state, FAILED, began=20.0, now=21.0) != state


def test_it_lets_go_in_growing_waves() -> None:
    state = recovering(30.0)
    assert state.phase is Phase.RECOVERING
    assert [permits(BREAKER, state, SIZE, 31.0 + wave * 5.0) for wave in range(5)] == [3, 5, 10, 20, 20]
    # What has piled up in the 21 seconds of the outage and the 15 of the waves takes half as long again.
    assert moved(state, 31.0 + 15 + 1.5 * 36 - 0.1).phase is Phase.RECOVERING
    assert moved(state, 31.0 + 15 + 1.5 * 36 + 0.1).phase is Phase.CLOSED


def test_the_waves_are_bounded_by_the_usual_rate() -> None:
    state = new_breaker(0.0)
    for second in range(40):
        state = after(state, *[ANSWERED] * 10, now=float(second))
    state = after(moved(after(state, *[FAILED] * 10, now=40.0), 50.0), *[ANSWERED] * 3, now=51.0)
    assert state.phase is Phase.RECOVERING
    rates = [rate_per_second(BREAKER, state, 51.0 + wave * 5.0) for wave in range(5)]
    assert [round(rate or 0, 1) for rate in rates] == [2.5, 5.0, 10.0, 20.0, 20.0]
    assert rate_per_second(BREAKER, state, 200.0) is None


def test_a_release_that_fails_opens_it_again() -> None:
    state = after(recovering(30.0), ANSWERED, FAILED, FAILED, now=32.0)
    assert (state.phase, state.opened_at) == (Phase.OPEN, 10.0)


def test_calls_from_the_outage_do_not_end_a_release() -> None:
    assert after(recovering(30.0), *[FAILED] * 20, now=32.0, took=10.0).phase is Phase.RECOVERING


# --- what the fleet says -------------------------------------------------------------------------------------


def word(phase: Phase, share: float = 0.0, until: float = 60.0) -> FleetWord:
    return FleetWord(phase=phase, share=share, until=until)


def test_an_open_verdict_drops_to_canaries_and_keeps_to_them() -> None:
    state = told(BREAKER, new_breaker(0.0), word(Phase.OPEN), 50.0)
    assert (state.phase, permits(BREAKER, state, SIZE, 50.0)) == (Phase.HALF_OPEN, 3)
    state = after(state, *[ANSWERED] * 3, now=51.0)
    assert (state.phase, wait_seconds(state, 51.0)) == (Phase.OPEN, 9.0)


def test_a_verdict_nobody_repeats_is_none() -> None:
    state = after(told(BREAKER, new_breaker(0.0), word(Phase.OPEN), 50.0), *[ANSWERED] * 3, now=51.0)
    state = moved(state, 60.0)
    assert (state.phase, state.fleet) == (Phase.HALF_OPEN, None)
    assert after(state, *[ANSWERED] * 3, now=61.0).phase is Phase.RECOVERING


def test_a_recovering_verdict_lets_canaries_go_at_once_and_bounds_the_waves() -> None:
    verdict = word(Phase.RECOVERING, 0.25, until=200.0)
    state = told(BREAKER, opened(10.0), verdict, 11.0)
    assert state.phase is Phase.HALF_OPEN
    state = after(state, *[ANSWERED] * 3, now=12.0)
    assert [permits(BREAKER, state, SIZE, at) for at in (12.0, 20.0, 28.0, 199.0, 200.0)] == [3, 5, 5, 5, 20]
    fresh = told(BREAKER, new_breaker(0.0), verdict, 11.0)
    assert (fresh.phase, permits(BREAKER, fresh, SIZE, 11.0)) == (Phase.RECOVERING, 3)
    done = moved(fresh, 60.0)
    assert told(BREAKER, done, verdict, 60.0).phase is Phase.CLOSED


def test_a_closed_verdict_leaves_the_process_to_itself() -> None:
    state = told(BREAKER, opened(10.0), word(Phase.OPEN), 11.0)
    assert told(BREAKER, state, word(Phase.CLOSED), 12.0) == replace(state, fleet=None)


# --- properties ----------------------------------------------------------------------------------------------


def settings(window: int, least: int, rate: float, permitted: int, growth: float) -> Breaker:
    return Breaker(
        sliding_window=window + least,
        minimum_calls=least,
        failure_rate=rate,
        half_open_permits=permitted,
        release_growth=growth,
    )


SETTINGS = st.builds(
    settings,
    st.integers(0, 10),
    st.integers(1, 10),
    st.floats(0.1, 1.0),
    st.integers(1, 5),
    st.floats(1.1, 4.0),
)
STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 20.0),  # seconds until then
        st.floats(0.0, 30.0),  # how long the call took
        st.sampled_from([*CallOutcome, *Phase]),
    ),
    max_size=60,
)


def lived(breaker: Breaker, steps: list[tuple[float, float, CallOutcome | Phase]]) -> list[tuple[BreakerState, float]]:
    """Return every state of a breaker that meets these calls and verdicts, and when."""
    state, now = new_breaker(0.0), 0.0
    found = [(state, now)]
    for pause, took, met in steps:
        now += pause
        if isinstance(met, Phase):
            state = told(breaker, state, FleetWord(phase=met, share=took / 30, until=now + took), now)
        else:
            state = called(breaker, state, met, began=now - took, now=now)
        found.append((state, now))
    return found


@given(SETTINGS, STEPS, st.integers(1, 50))
def test_never_more_permits_than_the_phase_allows(
    breaker: Breaker, steps: list[tuple[float, float, CallOutcome | Phase]], size: int
) -> None:
    for state, now in lived(breaker, steps):
        allowed = permits(breaker, state, size, now)
        assert 0 <= allowed <= size
        assert len(state.outcomes) <= max(breaker.sliding_window, breaker.half_open_permits)
        phase = moved(state, now).phase
        if phase is Phase.OPEN:
            assert allowed == 0
        if phase is Phase.HALF_OPEN:
            assert allowed + len(moved(state, now).outcomes) <= breaker.half_open_permits
            assert allowed > 0, "a canary may always go, or it would never end"
        if phase is Phase.RECOVERING:
            assert allowed >= 1
        rate = rate_per_second(breaker, state, now)
        assert rate is None or 0 < rate <= max(
            breaker.release_growth * state.usual_per_second, breaker.half_open_permits / breaker.release_seconds
        )


@given(SETTINGS, STEPS)
def test_it_always_recovers_once_calls_are_answered(
    breaker: Breaker, steps: list[tuple[float, float, CallOutcome | Phase]]
) -> None:
    state, now = lived(breaker, steps)[-1]
    last_word = 30.0
    waves = breaker.release_seconds * 30
    bound = (
        last_word
        + 2 * breaker.wait_open_seconds
        + waves
        + LONGEST_RELEASE_SECONDS / min(1.0, breaker.release_growth - 1)
    )
    end = now + bound
    while moved(state, now).phase is not Phase.CLOSED:
        assert now < end
        now += 1.0
        if permits(breaker, state, SIZE, now):
            state = moved(state, now)
            state = called(breaker, state, ANSWERED, began=now, now=now)


@given(SETTINGS, STEPS)
def test_a_word_that_is_over_changes_nothing(
    breaker: Breaker, steps: list[tuple[float, float, CallOutcome | Phase]]
) -> None:
    state, now = lived(breaker, steps)[-1]
    now += 31.0
    assert moved(state, now).fleet is None
    assert permits(breaker, state, SIZE, now) == permits(breaker, replace(state, fleet=None), SIZE, now)


@given(st.floats(0.1, 200.0), st.lists(st.floats(0.0, 0.5), min_size=1, max_size=200))
def test_a_bucket_never_gives_more_than_its_rate(rate: float, pauses: list[float]) -> None:
    bucket, now, given_out = Bucket(at=0.0), 0.0, 0
    for pause in pauses:
        now += pause
        bucket = filled(bucket, rate, now)
        while bucket.tokens >= 1:
            bucket = taken(bucket)
            given_out += 1
    assert given_out <= rate * now + 1 + 1e-6
    assert bucket.tokens <= max(2.0, rate / 4)


# --- declaring it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("minimum_calls", 0, "at least 1"),
        ("half_open_permits", 0, "at least 1"),
        ("sliding_window", 5, "never opens"),
        ("failure_rate", 0.0, "0.5 for half"),
        ("failure_rate", 50, "0.5 for half"),
        ("slow_call_rate", float("nan"), "share"),
        ("slow_call_seconds", 0.0, "above 0"),
        ("wait_open_seconds", float("inf"), "above 0"),
        ("release_seconds", -1.0, "above 0"),
        ("release_growth", 1.0, "never lets go"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(setting: str, value: float, says: str) -> None:
    numbers: dict[str, float] = {setting: value}
    with pytest.raises(DeclarationError, match=setting) as refused:
        Breaker(**numbers)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert says in str(refused.value)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(DeclarationError, match="rate_per_second"):
        Dependency("gateway", rate_per_second=rate)


def test_a_dependency_with_a_breaker_can_be_a_key() -> None:
    assert len({Dependency("gateway", breaker=Breaker()), Dependency("gateway", breaker=Breaker())}) == 1
    assert FIRST_SHARE < 1
