"""Tell what happens in the sagas, as it happens, by looking at the services' own run rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import anyio

from examples.payment.databases import Query, Row
from examples.payment.inventory import reserve_stock, sell_stock
from examples.payment.orders import write_order
from examples.payment.payment import authorize, capture
from examples.payment.shipping import ship

EVERY_SECONDS = 0.1
RUNS = "select saga_id, step, status, undo, error, created_at, done_at, undone_at from saga_run"

SHOWN = (reserve_stock.name, authorize.name, capture.name, sell_stock.name, ship.name)
COLOURS = {"done": "green", "undone": "yellow", "undoing": "yellow", "refused": "red", "failed": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Say what became of one run."""

    saga_id: str
    step: str
    what: str


def state_of(row: Row) -> str:
    """Return what a person wants to know of a run, in a few words."""
    if row["undone_at"] is not None and row["status"] == "done":
        return "nothing to undo" if row["step"] == write_order.name else "undone"
    if row["undo"] in ("wanted", "intent"):
        return "undoing"
    if row["status"] == "intent":
        return f"no answer: {row['error']}" if row["error"] else "calling"
    if row["status"] == "failed":
        return f"failed: {row['error']}" if row["error"] else "failed"  # nothing is told where nothing has happened
    return str(row["status"])


def _word(state: str) -> str:
    return state.partition(":")[0]


def _latest(row: Row) -> int:
    return int(row["undone_at"] or row["done_at"] or row["created_at"])


@dataclass(slots=True, kw_only=True)
class Trail:
    """Remember what was seen; `fold` returns what is new."""

    states: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def fold(self, rows: Iterable[Row]) -> list[News]:
        news: list[News] = []
        for row in sorted(rows, key=_latest):
            key = (row["saga_id"], row["step"])
            state = state_of(row)
            if self.states.get(key) != state:
                self.states[key] = state
                news.append(News(saga_id=row["saga_id"], step=row["step"], what=state))
        return news


class Screen:
    """Show news: one line each, or a live table where a person is looking."""

    def __init__(self, names: Mapping[str, str], *, live: bool | None = None) -> None:
        """Call sagas by `names`, which grows while the demo runs."""
        self._names = names
        self._started = time.monotonic()
        self._live = sys.stdout.isatty() if live is None else live
        self.trail = Trail()

    async def follow(self, query: Query) -> None:
        """Watch until cancelled."""
        if self._live:
            await self._follow_live(query)
            return
        while True:
            self.look(await query(RUNS))
            await anyio.sleep(EVERY_SECONDS)

    def look(self, rows: Iterable[Row]) -> None:
        """Print what is new as lines."""
        for news in self.trail.fold(rows):
            self.say(f"{self._names.get(news.saga_id, news.saga_id[:8]):<18} {news.step:<26} {news.what}")

    def say(self, line: str) -> None:
        """Print one line with the time since the beginning."""
        print(f"{time.monotonic() - self._started:6.2f} s  {line}", flush=True)

    async def _follow_live(self, query: Query) -> None:
        from rich.live import Live  # noqa: PLC0415 - only a terminal needs rich
        from rich.table import Table  # noqa: PLC0415

        def table() -> Table:
            shown = Table("order", *(step.partition(".")[2] for step in SHOWN), title="checkout")
            for saga_id, name in self._names.items():
                words = [_word(self.trail.states.get((saga_id, step), "")) for step in SHOWN]
                shown.add_row(name, *(f"[{COLOURS.get(word, 'default')}]{word}" for word in words))
            return shown

        with Live(table(), refresh_per_second=10) as live:
            try:
                while True:
                    self.trail.fold(await query(RUNS))
                    live.update(table())
                    await anyio.sleep(EVERY_SECONDS)
            finally:
                live.update(table(), refresh=True)
