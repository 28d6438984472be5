"""Count what may begin in a second: a token bucket whose rate may change at any time."""

from __future__ import annotations

from dataclasses import dataclass, replace

SMOOTH_SECONDS = 0.25
"""What may begin at once, in seconds of the rate: for as long as nobody may have looked."""
SMALLEST = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Hold the tokens left at a time; it begins with one."""

    tokens: float = 1.0
    at: float


def filled(bucket: Bucket, rate_per_second: float, now: float) -> Bucket:
    """Return the bucket as it is now, at the rate since it was looked at last; two tokens or a quarter second's fit."""
    size = max(SMALLEST, rate_per_second * SMOOTH_SECONDS)
    tokens = min(size, bucket.tokens + max(0.0, now - bucket.at) * rate_per_second)
    return replace(bucket, tokens=tokens, at=max(now, bucket.at))


def taken(bucket: Bucket) -> Bucket:
    """Return the bucket with a token less; below zero it makes up for it first."""
    return replace(bucket, tokens=bucket.tokens - 1.0)
