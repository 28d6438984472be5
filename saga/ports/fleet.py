"""Declare what is asked of a database while a fleet changes: which sagas are open, and what they still need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class OpenPlans(Protocol):
    """Be a coordinator's database that can say under which plans sagas are open."""

    async def open_plans(self) -> Mapping[str, int]:
        """Return how many sagas have not ended yet, by the hash of their plan.

        Raises StoreError when this is no coordinator's database.
        """
        ...


@runtime_checkable
class OpenSteps(Protocol):
    """Be a participant's database that can say what open sagas may still need of a service."""

    async def open_steps(
        self, service: str, plan: str, steps: Sequence[str], undone: Sequence[str], window_seconds: float
    ) -> Mapping[str, int]:
        """Return how many sagas under the plan with hash `plan` need the code of each of `steps`; others are left out.

        A saga needs a step's code while a delivery waits for it, or outside work is outstanding. It needs the code
        of a step in `undone` also while what has been done may have to be undone, which is known here only by its
        times: until it expires in less than `window_seconds`, its forward window, so until its timeout has passed.
        """
        ...

    async def open_starts(self, service: str, plan: str) -> int:
        """Return how many sagas under the plan with hash `plan` the service has started and not heard the end of."""
        ...
