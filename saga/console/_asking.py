"""Know the stored plans, and turn what a person asks for into what a database is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import anyio

from saga._core.ids import saga_id_of
from saga._core.inspecting import UntoldEnd
from saga._core.plan import Plan
from saga._core.running import PlanState
from saga._core.sagas import OnEnd, SagaFilter, SagaQuery
from saga.console._maps import plan_states
from saga.console._places import Places
from saga.ports.overseeing import OverseeingStore, Side

FRESH_SECONDS = 5.0


class Asked:
    """Keep the plans for a few seconds: they change with a deploy."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._plans: tuple[PlanState, ...] = ()
        self._read_at = -FRESH_SECONDS

    async def plans(self) -> Sequence[PlanState]:
        """Return the stored plans, `open_sagas` left at 0; not older than five seconds."""
        if anyio.current_time() - self._read_at >= FRESH_SECONDS:
            store = await self._places.coordinator()
            self._plans = plan_states(await store.stored_plans(), {})
            self._read_at = anyio.current_time()
        return self._plans

    async def plan(self, plan_hash: str) -> Plan | None:
        """Return the plan of a hash, None when it is not stored, or cannot be read here."""
        found = next((one for one in await self.plans() if one.hash == plan_hash), None)
        return None if found is None else found.plan

    async def names(self, wanted: SagaFilter) -> Sequence[str]:
        """Return the names of sagas that a key may belong to."""
        if not (wanted.key or wanted.text):
            return ()
        return [wanted.saga] if wanted.saga else sorted({one.saga for one in await self.plans()})

    async def query(self, wanted: SagaFilter) -> SagaQuery:
        """Return what a database is asked for a filter."""
        untold = await untold_ends(self._places) if wanted.on_end is OnEnd.FAILS else ()
        return query_of(wanted, await self.names(wanted), untold)


async def untold_ends(places: Places, saga_ids: Sequence[str] = ()) -> Mapping[str, UntoldEnd]:
    """Return the ends whose handler keeps failing, of these sagas or of all, by saga; of the databases that answer."""

    async def ask(store: OverseeingStore) -> Sequence[UntoldEnd]:
        return await store.untold_ends(saga_ids) if Side.PARTICIPANT in await store.sides() else ()

    found, _ = await places.each(ask)
    return {end.saga_id: end for ends in found.values() for end in ends}


def query_of(wanted: SagaFilter, names: Iterable[str], untold: Iterable[str] = ()) -> SagaQuery:
    """Return what a database is asked: a key is the ID that a saga of each name would have under it.

    `untold` are the sagas whose handler of the end keeps failing, where the filter asks for them.
    """
    names = tuple(names)

    def ids(key: str) -> tuple[str, ...]:
        return tuple(saga_id_of(name, wanted.tenant, key) for name in names) if key else ()

    return SagaQuery(wanted=wanted, ids=ids(wanted.key), text_ids=ids(wanted.text.strip()), untold=tuple(untold))
