"""Keep what this process knows of one dependency of one service: its breaker, its rate, its calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import anyio

from saga._core import breaker as breakers
from saga._core.breaker import BreakerState, CallOutcome, FleetWord, Phase, new_breaker
from saga._core.bucket import Bucket, filled, taken
from saga._core.definition import Dependency, ServiceDefinition

_ENOUGH = 1 - 1e-9
"""A token, whatever the rounding of a thousand small refills."""


class Throttle:
    """Say how many calls to a dependency may begin now; ask it again before each.

    Nothing here waits. Times are the event loop's.
    """

    def __init__(self, dependency: Dependency) -> None:
        """Begin with everything allowed."""
        self.dependency = dependency
        self._state: BreakerState | None = None
        self._bucket: Bucket | None = None
        self._calls = 0
        self._failures = 0

    @property
    def phase(self) -> Phase:
        """Return how the dependency is treated now."""
        return self._now().phase if self.dependency.breaker is not None else Phase.CLOSED

    def permits(self, began: Sequence[float]) -> int:
        """Return how many more calls may be under way, beside those that began at these times."""
        free = self.dependency.concurrency - len(began)
        if self.dependency.breaker is None:
            return free
        state = self._now()
        allowed = breakers.permits(self.dependency.breaker, state, self.dependency.concurrency, anyio.current_time())
        # Calls from before an outage may hang until they time out; canaries need not wait for them.
        return max(0, min(free, allowed - sum(at >= state.since for at in began)))

    def room(self, began: Sequence[float]) -> int:
        """Return how many more calls may begin now: permits, and tokens of the rate."""
        permits = self.permits(began)
        rate = self.rate_per_second()
        if rate is None or permits <= 0:
            return permits
        return min(permits, int(self._filled(rate).tokens / _ENOUGH))

    def begin(self) -> None:
        """Use up a token of the rate for a call that is about to begin."""
        rate = self.rate_per_second()
        if rate is not None:
            self._bucket = taken(self._filled(rate))

    def called(self, outcome: CallOutcome, *, began: float) -> None:
        """Learn from a call that has just ended."""
        self._calls += 1
        self._failures += outcome is CallOutcome.FAILED
        if self.dependency.breaker is not None:
            now = anyio.current_time()
            self._state = breakers.called(self.dependency.breaker, self._now(), outcome, began=began, now=now)

    def told(self, word: FleetWord) -> None:
        """Obey what the fleet says."""
        if self.dependency.breaker is not None:
            self._state = breakers.told(self.dependency.breaker, self._now(), word, anyio.current_time())

    def wait_seconds(self) -> float:
        """Return how long no call can begin at all, whatever is under way; 0 when one can or might."""
        if self.dependency.breaker is None:
            return 0.0
        return breakers.wait_seconds(self._now(), anyio.current_time())

    def rate_per_second(self) -> float | None:
        """Return how many calls may begin in a second, None when that is not bounded."""
        own = self.dependency.rate_per_second
        if self.dependency.breaker is None:
            return own
        waves = breakers.rate_per_second(self.dependency.breaker, self._now(), anyio.current_time())
        return min((rate for rate in (own, waves) if rate is not None), default=None)

    def short_seconds(self) -> float:
        """Return how long it takes until the rate has a token; 0 when it has one, or there is no rate."""
        rate = self.rate_per_second()
        missing = 1 - self._filled(rate).tokens if rate is not None else 0.0
        return missing / rate if rate is not None and missing > 1 - _ENOUGH else 0.0

    def counted(self) -> tuple[int, int]:
        """Return the calls and the failures since the last time this was asked."""
        counted = (self._calls, self._failures)
        self._calls = self._failures = 0
        return counted

    def _now(self) -> BreakerState:
        now = anyio.current_time()
        self._state = new_breaker(now) if self._state is None else breakers.moved(self._state, now)
        return self._state

    def _filled(self, rate: float) -> Bucket:
        now = anyio.current_time()
        self._bucket = filled(self._bucket or Bucket(at=now), rate, now)
        return self._bucket


def patience(throttles: Mapping[str, Throttle], dependency: Dependency | None, attempts: int, attempt: int) -> int:
    """Return how many attempts a run has when `attempt` has just failed: nobody is given up during an outage."""
    throttle = throttles.get(dependency.name) if dependency is not None else None
    return attempts if throttle is None or throttle.phase is Phase.CLOSED else max(attempts, attempt + 1)


def throttles_of(definition: ServiceDefinition) -> dict[str, Throttle]:
    """Return one for each dependency that a service's steps and compensations call, by name."""
    return {dependency.name: Throttle(dependency) for dependency in _dependencies(definition)}


def _dependencies(definition: ServiceDefinition) -> Iterable[Dependency]:
    for step in definition.steps:
        if step.dependency is not None:
            yield step.dependency
        if step.compensation is not None and step.compensation.dependency is not None:
            yield step.compensation.dependency
