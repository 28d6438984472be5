"""Ask the services' databases whose `on_end` keeps failing."""

from __future__ import annotations

from collections.abc import Sequence

from saga.errors import SettingsError
from saga.operating import UntoldEnd, open_operating_store
from saga.ports import OperatingStore


async def untold_ends(
    coordinator: OperatingStore, services: Sequence[str], saga_ids: Sequence[str] = ()
) -> dict[str, UntoldEnd]:
    """Return the ends whose handler fails, of these sagas or of all, by saga; empty where nobody can know.

    Without `services` the coordinator's database is asked, if it is theirs, too. Raises SettingsError and
    StoreUnavailable.
    """
    found: list[UntoldEnd] = []
    if not services:
        try:
            found += await coordinator.untold_ends(saga_ids)
        except SettingsError:  # it belongs to no service
            return {}
    for url in services:
        async with open_operating_store(url) as opened:
            found += await opened.untold_ends(saga_ids)
    return {end.saga_id: end for end in sorted(found, key=lambda end: end.attempt)}
