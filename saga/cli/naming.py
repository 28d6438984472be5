"""Find the saga that the beginning of an ID names."""

from __future__ import annotations

from outbox.urls import open_overseeing_store
from saga._core.sagas import SagaFilter, SagaQuery
from saga.errors import SettingsError
from saga.ports.overseeing import Side

WHOLE = 36
SHORTEST = 4
SHOWN = 5


async def whole_id(store: str, given: str) -> str:
    """Return the ID that begins with `given`, from four characters on; what fits no saga comes back as it is.

    Raises SettingsError for one that fits several sagas, StoreUnavailable.
    """
    if not SHORTEST <= len(given) < WHOLE:
        return given
    async with open_overseeing_store(store) as opened:
        if Side.COORDINATOR not in await opened.sides():
            return given
        found = await opened.lines(SagaQuery(wanted=SagaFilter(saga_id=given)), limit=SHOWN + 1)
    ids = [line.saga_id for line in found]
    if given in ids or not ids:
        return given
    if len(ids) == 1:
        return ids[0]
    more = ", …" if len(ids) > SHOWN else ""
    raise SettingsError(f"several sagas begin with {given}: {', '.join(ids[:SHOWN])}{more}; write more of the ID")
