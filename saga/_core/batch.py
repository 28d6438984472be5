"""Let a step take many events at once: one statement for all instead of one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from saga._core.run import Database, Run

Item = TypeVar("Item")


class Batch(tuple[Item, ...]):
    """Be the events of one batch, or what a step makes of each of them, in the same order.

    A step that takes `Batch[OrderPlaced]` is called once for many sagas, inside one transaction, and returns
    `Batch[StockReserved | OutOfStock]`: an event or a refusal for each event, at its place. How many there are follows
    the load; there may be one.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs(Sequence[Run]):
    """Tell a step that takes a batch what it runs for, event by event, and lend it the one transaction of all.

    The runs themselves have no transaction: `runs.db`, `runs.connection` and `runs.session` do, until the step returns;
    they are those of `lead`.
    """

    runs: tuple[Run, ...]
    lead: Run = field(repr=False)

    @property
    def db(self) -> Database:
        """Return the open transaction's database; raises NotRunning where no transaction is open."""
        return self.lead.db

    @property
    def connection(self) -> Any:
        """Return the transaction's own driver connection; raises NotRunning where no transaction is open."""
        return self.lead.connection

    @property
    def session(self) -> Any:
        """Return the session of all; see `Run.session`."""
        return self.lead.session

    def __len__(self) -> int:
        """Return how many runs there are, as many as events."""
        return len(self.runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | Sequence[Run]:
        """Return the run of the event at the same place."""
        return self.runs[index]
