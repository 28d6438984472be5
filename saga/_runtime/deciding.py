"""Decide what a batch means for each saga: by what was stored from here where that is known, else by what is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import anyio

from saga._core.planning import plan_from_json
from saga._core.rows import InstanceRow
from saga._core.words import Kind
from saga._runtime.folding import Folded, Folder, Told
from saga._runtime.known import Known
from saga._runtime.planbook import PlanBook
from saga._runtime.reading import Work
from saga._runtime.reckoning import Reckoning
from saga.ports import CoordinatorStore

PLANS_SECONDS = 5.0


class Decider:
    """Fold batches; one for each coordinator.

    `known` is what it goes by, and `reckoning` the time: whoever stores and looks at the clock tells them.
    """

    def __init__(self, store: CoordinatorStore, plans: PlanBook, folder: Folder) -> None:
        """Start without having stored anything."""
        self._store = store
        self._plans = plans
        self._folder = folder
        self._looked_for: dict[str, float] = {}
        self.known = Known()
        self.reckoning = Reckoning()

    async def decide(self, work: Work, tries: int) -> list[Folded]:
        """Fold everything a batch holds.

        At first it goes by what was stored from here, and takes a saga whose start is reported for a new one: the
        write fails where that is wrong. Where nothing would be written, it is looked up.
        """
        if tries > 1 or work.due:
            return await self._decide(work, tries)
        now = self.reckoning.now(anyio.current_time())
        if now is None:
            return await self._decide(work, tries)
        found: list[Folded] = []
        left: dict[str, list[Told]] = {}
        for saga_id, told in work.reports.items():
            added = self._folder.add(saga_id, self.known.get(saga_id), told, now)
            if added is not None:
                found.append(added)
            else:
                left[saga_id] = told
        if left:
            found += await self._decide(Work(reports=left), tries)
        return found

    async def _decide(self, work: Work, tries: int) -> list[Folded]:
        rows = {row.saga_id: row for row in work.due} if tries == 1 else {}
        guessed = self._guessed(work) if tries == 1 else {}
        unknown = [saga_id for saga_id in work.reports if saga_id not in guessed]
        if tries > 1:
            unknown += [row.saga_id for row in work.due]
        rows |= await self._store.load(unknown) if unknown else {}
        known = {saga_id: stored for saga_id, stored in guessed.items() if stored is not None}
        rows |= {saga_id: stored.bare for saga_id, stored in known.items()}
        await self._learn_plans(work, rows)
        now = self.reckoning.now(anyio.current_time()) if not work.due else None
        now = now or await self._store.now()
        found: list[Folded] = []
        unchanged: list[str] = []
        due = {row.saga_id for row in work.due}
        for saga_id in dict.fromkeys([*work.reports, *due]):
            at = known.get(saga_id)
            folded = self._fold(work, saga_id, rows.get(saga_id), now, due=saga_id in due, known=at)
            if folded is not None:
                found.append(folded)
            elif saga_id in guessed and not self.known.is_held(saga_id):
                unchanged.append(saga_id)
        stored: Mapping[str, InstanceRow] = await self._store.load(unchanged) if unchanged else {}
        again = [self._fold(work, saga_id, stored.get(saga_id), now, due=False) for saga_id in unchanged]
        return found + [folded for folded in again if folded is not None]

    def _guessed(self, work: Work) -> dict[str, Folded | None]:
        """Return what is likely to be stored of the sagas of a batch: nothing of those that begin."""
        guessed: dict[str, Folded | None] = {}
        for saga_id, told in work.reports.items():
            known = self.known.get(saga_id)
            if known is not None:
                guessed[saga_id] = known
            elif self._begins(told):
                guessed[saga_id] = None
        return guessed

    def _begins(self, told: Sequence[Told]) -> bool:
        envelope = told[0][0]
        topology = self._plans.topology(envelope.plan)
        return topology is not None and envelope.kind is Kind.RUN and envelope.step == topology.plan.start

    def _fold(
        self,
        work: Work,
        saga_id: str,
        stored: InstanceRow | None,
        now: datetime,
        *,
        due: bool,
        known: Folded | None = None,
    ) -> Folded | None:
        # Not from `self.known`: a rebalance may have cleared that meanwhile.
        instance = known.instance if known is not None else None
        return self._folder.fold(saga_id, stored, work.reports.get(saga_id, ()), now, due=due, known=instance)

    async def _learn_plans(self, work: Work, stored: Mapping[str, InstanceRow]) -> None:
        """Look for plans unknown here where another coordinator has stored them before it published them."""
        named = {envelope.plan for told in work.reports.values() for envelope, _, _ in told}
        named |= {row.plan for row in stored.values()}
        now = anyio.current_time()
        missed = {one for one in named if one and self._plans.topology(one) is None}
        if all(now - self._looked_for.get(one, -PLANS_SECONDS) < PLANS_SECONDS for one in missed):
            return
        for row in await self._store.put_plans(()):
            self._plans.learn(plan_from_json(row.body))
        self._looked_for = {one: now for one in missed if self._plans.topology(one) is None}
