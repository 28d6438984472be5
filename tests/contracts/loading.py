"""Read one run."""

from __future__ import annotations

from saga._core.rows import RunId, RunRow
from saga.ports import ParticipantStore


async def loaded(store: ParticipantStore, run: RunId) -> RunRow | None:
    """Return a run as it is stored, None when there is none."""
    return next(iter(await store.load_runs([run])), None)
