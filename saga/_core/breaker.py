"""Decide how many calls a dependency gets: it is left alone while it fails, tried, and let go in growing waves.

Every time here is a number of seconds of one clock that only goes
forward; the caller reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from saga._core.breaker_settings import Breaker

FIRST_SHARE = 0.125
"""What a dependency gets in the first wave after an outage, of all it may get."""
LONGEST_RELEASE_SECONDS = 600.0
COUNT_SECONDS = 10.0
"""How long calls are counted before the usual rate is learned from them."""
_TOLERANCE_SECONDS = 1e-6


class Phase(StrEnum):
    """Say how a dependency is treated: called freely, left alone, tried with canaries, or let go in waves."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RECOVERING = "recovering"


class CallOutcome(StrEnum):
    """Say what a call has told about its dependency; one that refuses has answered."""

    ANSWERED = "answered"
    SLOW = "slow"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWord:
    """Be what the fleet says of a dependency (closed, open or recovering), until a time; then it says nothing."""

    phase: Phase
    share: float = 1.0
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """Be what one process knows of one dependency.

    `since` is when the phase began, `until` when it is over by itself (open, recovering), `opened_at` when the
    outage began. `outcomes` are the calls of this phase, newest last. `usual_per_second` is how often the dependency
    is called while all is well, 0 while that is not known.
    """

    phase: Phase = Phase.CLOSED
    since: float = 0.0
    until: float = 0.0
    opened_at: float = 0.0
    outcomes: tuple[CallOutcome, ...] = ()
    usual_per_second: float = 0.0
    counted: int = 0
    counted_since: float = 0.0
    fleet: FleetWord | None = None


def new_breaker(now: float) -> BreakerState:
    """Return the state of a dependency nobody has called yet."""
    return BreakerState(since=now, counted_since=now)


# --- what moves it ---------------------------------------------------------------------------------------------


def moved(state: BreakerState, now: float) -> BreakerState:
    """Return the state as time alone has moved it: a wait is over, a release is complete, a word has expired."""
    if state.fleet is not None and now >= state.fleet.until:
        state = replace(state, fleet=None)
    match state.phase:
        case Phase.OPEN if now >= state.until:
            return replace(state, phase=Phase.HALF_OPEN, since=now, outcomes=())
        case Phase.RECOVERING if now >= state.until:
            return replace(state, phase=Phase.CLOSED, since=now, outcomes=(), counted=0, counted_since=now)
        case Phase.OPEN | Phase.RECOVERING | Phase.CLOSED | Phase.HALF_OPEN:
            return state
        case _:
            assert_never(state.phase)


def called(breaker: Breaker, state: BreakerState, outcome: CallOutcome, *, began: float, now: float) -> BreakerState:
    """Return the state after a call that began at `began` has ended now.

    Calls from before the phase tell nothing about it; while open nothing is learned.
    """
    state = moved(state, now)
    if outcome is CallOutcome.ANSWERED and now - began > breaker.slow_call_seconds:
        outcome = CallOutcome.SLOW
    match state.phase:
        case Phase.OPEN:
            return state
        case Phase.CLOSED:
            state = _count(_with(breaker, state, outcome), now)
            return _opened(breaker, state, now) if _is_bad(breaker, state, breaker.minimum_calls) else state
        case Phase.HALF_OPEN:
            if began < state.since - _TOLERANCE_SECONDS:
                return state
            canaries = (*state.outcomes, outcome)  # all of them, however small the window is
            return _canary_ended(breaker, replace(state, outcomes=canaries), now)
        case Phase.RECOVERING:
            if began < state.since - _TOLERANCE_SECONDS:
                return state
            state = _with(breaker, state, outcome)
            least = min(breaker.minimum_calls, breaker.half_open_permits)
            return _opened(breaker, state, now) if _is_bad(breaker, state, least) else state
        case _:
            assert_never(state.phase)


def told(breaker: Breaker, state: BreakerState, word: FleetWord, now: float) -> BreakerState:
    """Return the state after the fleet has spoken.

    Open drops to canaries, recovering begins a release where none has begun. Afterwards, or when the word expires,
    the process goes its own way: what the fleet says can hold nothing up for longer than it is repeated.
    """
    state = moved(state, now)
    before = state.fleet.phase if state.fleet is not None else Phase.CLOSED
    state = replace(state, fleet=word if word.until > now else None)
    if state.fleet is None:
        return state
    match word.phase:
        case Phase.OPEN:
            if state.phase is Phase.CLOSED:
                state = replace(_learned(state, now), opened_at=now)
            if state.phase in (Phase.CLOSED, Phase.RECOVERING):
                return replace(state, phase=Phase.HALF_OPEN, since=now, outcomes=())
        case Phase.RECOVERING:
            if state.phase is Phase.OPEN:
                return replace(state, phase=Phase.HALF_OPEN, since=now, outcomes=())
            if state.phase is Phase.CLOSED and before is Phase.CLOSED:
                return _recovering(breaker, replace(_learned(state, now), opened_at=now), now)
        case Phase.CLOSED | Phase.HALF_OPEN:
            return replace(state, fleet=None)
        case _:
            assert_never(word.phase)
    return state


# --- what it allows --------------------------------------------------------------------------------------------


def permits(breaker: Breaker, state: BreakerState, concurrency: int, now: float) -> int:
    """Return how many calls that began in this phase may be under way, of at most `concurrency`."""
    state = moved(state, now)
    match state.phase:
        case Phase.OPEN:
            return 0
        case Phase.HALF_OPEN:
            return min(concurrency, breaker.half_open_permits - len(state.outcomes))
        case Phase.CLOSED | Phase.RECOVERING:
            wave = int(concurrency * _share(breaker, state, now))
            return min(concurrency, max(breaker.half_open_permits, wave))
        case _:
            assert_never(state.phase)


def rate_per_second(breaker: Breaker, state: BreakerState, now: float) -> float | None:
    """Return how many calls may begin in a second, None for as many as there are permits for."""
    state = moved(state, now)
    is_released = state.phase is Phase.RECOVERING or (state.phase is Phase.CLOSED and _is_let_go(state))
    if not is_released or not state.usual_per_second:
        return None
    full = state.usual_per_second * breaker.release_growth
    return max(full * _share(breaker, state, now), breaker.half_open_permits / breaker.release_seconds)


def wait_seconds(state: BreakerState, now: float) -> float:
    """Return how long no call can begin; 0 when one can, or when only calls under way are waited for."""
    state = moved(state, now)
    return max(0.0, state.until - now) if state.phase is Phase.OPEN else 0.0


# --- steps -----------------------------------------------------------------------------------------------------


def _share(breaker: Breaker, state: BreakerState, now: float) -> float:
    share = 1.0
    if state.phase is Phase.RECOVERING:
        wave = min(int((now - state.since) / breaker.release_seconds), _waves(breaker))
        share = min(1.0, FIRST_SHARE * breaker.release_growth**wave)
    if state.fleet is not None and _is_let_go(state):
        return min(share, max(state.fleet.share, FIRST_SHARE))
    return share


def _is_let_go(state: BreakerState) -> bool:
    return state.fleet is not None and state.fleet.phase is Phase.RECOVERING


def _waves(breaker: Breaker) -> int:
    return math.ceil(math.log(1 / FIRST_SHARE) / math.log(breaker.release_growth))


def _with(breaker: Breaker, state: BreakerState, outcome: CallOutcome) -> BreakerState:
    return replace(state, outcomes=(*state.outcomes, outcome)[-breaker.sliding_window :])


def _is_bad(breaker: Breaker, state: BreakerState, least: int) -> bool:
    return len(state.outcomes) >= least and _exceeds(breaker, state.outcomes, len(state.outcomes))


def _exceeds(breaker: Breaker, outcomes: Sequence[CallOutcome], of: int) -> bool:
    failed = outcomes.count(CallOutcome.FAILED)
    slow = outcomes.count(CallOutcome.SLOW)
    return failed >= breaker.failure_rate * of or slow >= breaker.slow_call_rate * of


def _canary_ended(breaker: Breaker, state: BreakerState, now: float) -> BreakerState:
    if _exceeds(breaker, state.outcomes, breaker.half_open_permits):
        return _opened(breaker, state, now)
    if len(state.outcomes) < breaker.half_open_permits:
        return state
    if state.fleet is not None and state.fleet.phase is Phase.OPEN:
        # Fine from here, but not for the fleet: the next canaries when it has spoken again.
        opened = _opened(breaker, state, now)
        return replace(opened, until=min(opened.until, state.fleet.until))
    return _recovering(breaker, state, now)


def _opened(breaker: Breaker, state: BreakerState, now: float) -> BreakerState:
    if state.phase is Phase.CLOSED:
        state = replace(_learned(state, now), opened_at=now)
    return replace(state, phase=Phase.OPEN, since=now, until=now + breaker.wait_open_seconds, outcomes=())


def _recovering(breaker: Breaker, state: BreakerState, now: float) -> BreakerState:
    # At twice the usual rate what has piled up takes as long as it has piled up; half of that again for good measure.
    waves = breaker.release_seconds * _waves(breaker)
    piled_up = 1.5 * (now - state.opened_at + waves) / (breaker.release_growth - 1)
    until = now + waves + min(LONGEST_RELEASE_SECONDS, piled_up)
    return replace(state, phase=Phase.RECOVERING, since=now, until=until, outcomes=())


def _count(state: BreakerState, now: float) -> BreakerState:
    passed = now - state.counted_since
    if passed < COUNT_SECONDS:
        return replace(state, counted=state.counted + 1)
    state = _learned(state, now)
    return replace(state, counted=1, counted_since=now)


def _learned(state: BreakerState, now: float) -> BreakerState:
    """Learn the usual rate from a whole count; an unfinished one is better than nothing only at the first time."""
    passed = now - state.counted_since
    if passed >= COUNT_SECONDS:
        rate = state.counted / passed
        return replace(state, usual_per_second=(state.usual_per_second + rate) / 2 if state.usual_per_second else rate)
    if not state.usual_per_second and passed >= 1:
        return replace(state, usual_per_second=state.counted / passed)
    return state
