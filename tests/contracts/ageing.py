from __future__ import annotations

from typing import Any

from saga._core.keeping import Aging

EXPIRED = (Aging.RUNS, Aging.LOCKS, Aging.LOCK_QUEUE, Aging.GATES)


async def prune_expired(store: Any, limit: int, age_seconds: float) -> int:
    """Delete up to `limit` runs, locks, places and gates each that expired that long ago."""
    return sum([int(await store.prune(what, limit, age_seconds)) for what in EXPIRED])
