"""Find out what follows a failed outside call or compensation, and say so."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from saga._core.definition import CompensationDefinition, StepDefinition
from saga._core.retry import Again, Failure, GiveUp, Promise, attempts_allowed, decide_retry, fault_of
from saga._core.rows import RunRow
from saga._core.words import Part
from saga._runtime.context import ServiceContext
from saga._runtime.telling import extra_of, tell_retry
from saga._runtime.throttle import patience

log = logging.getLogger("saga")


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Say what follows a failed attempt: how many may be made in all, and when the next one is due."""

    attempts: int
    retry_at: datetime

    def verdict_of(self, *, is_over: bool) -> Again | GiveUp:
        """Return it as a verdict on the attempt, where what was decided about the run is known."""
        return GiveUp(reason="", at=self.retry_at) if is_over else Again(at=self.retry_at)


def following(
    context: ServiceContext,
    tried_out: StepDefinition | CompensationDefinition,
    run: RunRow,
    error: BaseException | None,
    *,
    first_at: datetime,
    now: datetime,
    what: str,
    text: str,
) -> Following:
    """Return what follows attempt number `run.attempt + 1`, log it, and have this process wake for the next one.

    The first attempt was made at `first_at`. `text` is the error's, fit for a log. Nobody is given up during an
    outage, unless the failure is permanent.
    """
    retry, tried = tried_out.retry, run.attempt + 1
    fault = fault_of(error, retry)
    jitter = context.rng.random()
    verdict = decide_retry(retry, Promise.MAY_FAIL, fault, tried=tried, first_at=first_at, now=now, jitter=jitter)
    permanent = fault.failure is Failure.PERMANENT
    level = logging.ERROR if permanent else logging.WARNING
    extra = extra_of(run.saga_id, run.traceparent, saga=context.saga_of(run.step), step=run.step)
    log.log(level, "%s of %s: attempt %d failed: %s", what, run.saga_id, tried, text, extra=extra)
    context.pending_alarm.ring((verdict.at - now).total_seconds())
    context.count("retried")
    if isinstance(verdict, Again):
        undoing = isinstance(tried_out, CompensationDefinition)
        tell_retry(context, run.step, Part.COMPENSATION if undoing else Part.ACTION)
    attempts = attempts_allowed(verdict, tried)
    if isinstance(verdict, GiveUp) and not permanent:
        attempts = patience(context.throttles, tried_out.dependency, attempts, tried)
    return Following(attempts=attempts, retry_at=verdict.at)
