"""Decide when a failed attempt is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from saga.errors import DeclarationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Describe exponential backoff with full jitter.

    Before attempt `n + 1` waits a random time between 0 and `min(cap_seconds, base_seconds * 2**(n-1))`
    (Brooker, "Exponential Backoff And Jitter", full jitter). After `attempts` the run has failed;
    steps that must succeed ignore `attempts`.
    """

    attempts: int = 5
    base_seconds: float = 0.2
    cap_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant."""
        if self.attempts < 1:
            msg = f"Retry(attempts={self.attempts}): at least 1 attempt is made; use attempts=1 for no retry"
            raise DeclarationError(msg)
        if self.base_seconds < 0 or self.cap_seconds < self.base_seconds:
            msg = (
                f"Retry(base_seconds={self.base_seconds}, cap_seconds={self.cap_seconds}): "
                "both must be positive and the cap not below the base"
            )
            raise DeclarationError(msg)

    def delay_seconds(self, attempt: int, jitter: float) -> float:
        """Return the pause after attempt number `attempt` (from 1); `jitter` in [0, 1) is the caller's random draw."""
        return jitter * min(self.cap_seconds, self.base_seconds * 2.0 ** min(attempt - 1, 30))
