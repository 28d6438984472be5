"""Decide whether a failed attempt is made again, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import cast

from saga._core.words import StepKind
from saga.errors import DeclarationError, Permanent, Transient

RETRY_AFTER_CAP_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Describe exponential backoff with full jitter.

    Before attempt `n + 1` waits a random time between 0 and `min(cap_seconds, base_seconds * 2**(n-1))`
    (Brooker, "Exponential Backoff And Jitter", full jitter). The run has failed after `attempts`, or when
    `window_seconds` have passed since its first attempt, whatever comes first; an exception of a class in
    `permanent` fails it at once. Steps that must succeed ignore all three.
    """

    attempts: int = 5
    base_seconds: float = 0.2
    cap_seconds: float = 60.0
    window_seconds: float | None = None
    permanent: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        if self.attempts < 1:
            msg = f"Retry(attempts={self.attempts}): at least 1 attempt is made; use attempts=1 for no retry"
            raise DeclarationError(msg)
        if not 0 <= self.base_seconds <= self.cap_seconds < math.inf:
            msg = (
                f"Retry(base_seconds={self.base_seconds}, cap_seconds={self.cap_seconds}): "
                "both must be positive and the cap not below the base"
            )
            raise DeclarationError(msg)
        if self.window_seconds is not None and not 0 < self.window_seconds < math.inf:
            msg = f"Retry(window_seconds={self.window_seconds}): write a number of seconds above 0, or None for no end"
            raise DeclarationError(msg)
        if not _are_exceptions(self.permanent):
            msg = f"Retry(permanent={self.permanent!r}): write a tuple of exception classes, such as (ValueError,)"
            raise DeclarationError(msg)

    def delay_seconds(self, attempt: int, jitter: float) -> float:
        """Return the pause after attempt number `attempt` (from 1); `jitter` in [0, 1) is the caller's random draw."""
        return jitter * min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 30))


def _are_exceptions(found: object) -> bool:
    classes = cast("tuple[object, ...]", found) if isinstance(found, tuple) else (None,)
    return all(isinstance(each, type) and issubclass(each, Exception) for each in classes)


class Failure(StrEnum):
    """Say what kind of failure an attempt has met: another one may do better, or none can."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"


class Promise(StrEnum):
    """Say whether what is tried may be given up."""

    MAY_FAIL = "may_fail"
    MUST_SUCCEED = "must_succeed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Be what an attempt has died of, and how long it asked to be left alone."""

    failure: Failure = Failure.TRANSIENT
    retry_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Make another attempt, not before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Make no attempt any more, and say why; `at` is for those who find that they may not give up."""

    reason: str
    at: datetime


def promise_of(kind: StepKind) -> Promise:
    """Return whether a step of this kind may be given up."""
    return Promise.MUST_SUCCEED if kind is StepKind.RETRIABLE else Promise.MAY_FAIL


def fault_of(error: BaseException | None, policy: Retry) -> Fault:
    """Return what an exception of the user's code means under a policy; what says nothing is transient.

    A handler that returns what its annotation does not allow returns it again: that is permanent.
    """
    if isinstance(error, Transient):
        return Fault(retry_after_seconds=error.retry_after_seconds)
    permanent = isinstance(error, (Permanent, DeclarationError, *policy.permanent))
    return Fault(failure=Failure.PERMANENT if permanent else Failure.TRANSIENT)


def decide_retry(
    policy: Retry,
    promise: Promise,
    fault: Fault,
    *,
    tried: int,
    first_at: datetime,
    now: datetime,
    jitter: float,
) -> Again | GiveUp:
    """Return what follows attempt number `tried`, which has just failed; the first one was made at `first_at`.

    A pause that would outlast the window ends with it, for a last attempt. One that the other side has asked for
    is never cut short: if it outlasts the window, that is the end. `jitter` is in [0, 1).
    """
    must = promise is Promise.MUST_SUCCEED
    asked = min(max(0.0, fault.retry_after_seconds), RETRY_AFTER_CAP_SECONDS)
    pause = max(policy.delay_seconds(tried, jitter), asked)
    if fault.failure is Failure.PERMANENT:
        at = now + timedelta(seconds=policy.cap_seconds)
        return Again(at=at) if must else GiveUp(reason="it cannot succeed", at=at)
    at = now + timedelta(seconds=pause)
    if must:
        return Again(at=at)
    if tried >= policy.attempts:
        return GiveUp(reason=f"{tried} attempts were made", at=at)
    if policy.window_seconds is None:
        return Again(at=at)
    end = first_at + timedelta(seconds=policy.window_seconds)
    if now >= end or now + timedelta(seconds=asked) > end:
        return GiveUp(reason=f"its {policy.window_seconds:g} s are over", at=at)
    return Again(at=min(at, end))


def attempts_allowed(verdict: Again | GiveUp, tried: int) -> int:
    """Return how many attempts may be made in all when `tried` have failed: one more, or none."""
    return tried + 1 if isinstance(verdict, Again) else tried
