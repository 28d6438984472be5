"""Hold what a dependency's breaker goes by; the names are resilience4j's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from saga.errors import DeclarationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """Describe when calls to a dependency stop, and how they begin again.

    Of the last `sliding_window` calls, once there are `minimum_calls`, a share of `failure_rate` that raised or timed
    out, or of `slow_call_rate` that took longer than `slow_call_seconds`, opens the breaker: runs wait as rows, no
    attempt is used up. After `wait_open_seconds` the next `half_open_permits` calls show whether it answers
    again. If it does, it gets an eighth of its calls, and `release_growth` times as many every `release_seconds`,
    at most `release_growth` times the usual rate until what has piled up can be done.
    """

    sliding_window: int = 50
    minimum_calls: int = 20
    failure_rate: float = 0.5
    slow_call_seconds: float = 10.0
    slow_call_rate: float = 1.0
    wait_open_seconds: float = 10.0
    half_open_permits: int = 3
    release_growth: float = 2.0
    release_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        for name in ("minimum_calls", "half_open_permits"):
            if getattr(self, name) < 1:
                raise DeclarationError(f"Breaker({name}={getattr(self, name)}): it must be at least 1")
        if self.sliding_window < self.minimum_calls:
            msg = (
                f"Breaker(sliding_window={self.sliding_window}, minimum_calls={self.minimum_calls}): the window must "
                "hold at least minimum_calls, or the breaker never opens"
            )
            raise DeclarationError(msg)
        for name in ("failure_rate", "slow_call_rate"):
            if not 0 < getattr(self, name) <= 1:
                msg = f"Breaker({name}={getattr(self, name)}): write a share above 0 and up to 1, such as 0.5 for half"
                raise DeclarationError(msg)
        for name in ("slow_call_seconds", "wait_open_seconds", "release_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise DeclarationError(f"Breaker({name}={getattr(self, name)}): write seconds above 0")
        if not 1 < self.release_growth < math.inf:
            msg = f"Breaker(release_growth={self.release_growth}): it must be above 1, or it never lets go; write 2"
            raise DeclarationError(msg)
