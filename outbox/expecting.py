"""Watch for the end of transactions that somebody else commits, and hand over the rows that were in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from outbox.waking import waker
from saga._core.rows import OutboxRow
from saga.errors import StoreError
from saga.ports import OpenRows, OutboxStore, Watch

LOOK_SECONDS = 0.001
LOOK_CAP_SECONDS = 0.005
DOUBT_CAP_SECONDS = 1.0
AGAIN_SECONDS = (0.005, 0.025, 0.1)
"""A driver may say a moment early that a transaction is over: rows not seen are asked for again, then forgotten."""


@dataclass(slots=True, eq=False)
class _Open:
    """Be the rows of one transaction, by `seq`, and when to look at it again in which way."""

    seqs: set[int]
    watch: Watch
    until: float
    pause: float
    ask_at: float
    over: int = 0

    def is_due(self, now: float) -> bool:
        """Return whether the database is to be asked: the transaction seems over, or it is time for a doubt."""
        if not self.over and self.watch.is_over():
            self.over, self.ask_at = 1, now
        return now >= self.ask_at

    def asked(self, now: float) -> bool:
        """Plan the next question after one that has not found everything; return whether there is one."""
        if self.over > len(AGAIN_SECONDS):
            return False  # rolled back, or with a savepoint
        if self.over:
            self.ask_at = now + AGAIN_SECONDS[self.over - 1]
            self.over += 1
        else:
            self.pause = min(DOUBT_CAP_SECONDS, self.pause * 2)
            self.ask_at = now + self.pause
        return now < self.until


class Expected:
    """Hand rows over once their transaction has committed.

    Whether it has ended is looked up in this process, every millisecond at first and every five later; only then,
    and now and then out of doubt, the database is asked which rows there are. A row not seen was rolled back, or is
    left to the sweep after the window.
    """

    def __init__(
        self, store: OutboxStore, hand_over: Callable[[Sequence[OutboxRow]], None], *, window_seconds: float, limit: int
    ) -> None:
        self._store = store
        self._hand_over = hand_over
        self._window_seconds = window_seconds
        self._limit = limit
        self._new: deque[tuple[set[int], Watch]] = deque()
        self._open: list[_Open] = []
        self._held = 0
        self._arrived = anyio.Event()
        self._wake: Callable[[], None] | None = None
        self._looking = anyio.Lock()

    def expect(self, open_rows: OpenRows) -> None:
        """Take rows whose transaction is still open, in any thread; does not block.

        Rows over the bound are left to the sweep.
        """
        if open_rows.rows and self._held + len(self._new) < self._limit:
            self._new.append(({row.seq for row in open_rows.rows}, open_rows.watch()))
            wake = self._wake
            if wake is not None:
                wake()

    async def run(self) -> None:
        """Watch until cancelled; what is still open then is left to the sweep."""
        self._wake = waker(lambda: self._arrived.set())  # noqa: PLW0108 - the event is made anew each time
        try:
            while True:
                if not self._open and not self._new:
                    self._arrived = anyio.Event()
                    if not self._new:
                        await self._arrived.wait()
                pause = await self.look()
                await anyio.sleep(pause)
        finally:
            self._wake = None
            for watch in (*(each.watch for each in self._open), *(watch for _, watch in self._new)):
                watch.drop()
            self._open, self._held = [], 0
            self._new.clear()

    async def look(self) -> float:
        """Hand over what has committed by now; return when to look again, in seconds."""
        async with self._looking:
            self._take_new()
            now = anyio.current_time()
            due = [each for each in self._open if each.is_due(now)]
            if due:
                await self._ask(due)
        self._held = sum(len(each.seqs) for each in self._open)
        youngest = max((each.until for each in self._open), default=now) - self._window_seconds
        return LOOK_SECONDS if now - youngest < 20 * LOOK_SECONDS else LOOK_CAP_SECONDS

    def _take_new(self) -> None:
        now = anyio.current_time()
        while self._new:
            seqs, watch = self._new.popleft()
            doubt = watch.doubt_seconds
            self._open.append(
                _Open(
                    seqs=seqs,
                    watch=watch,
                    until=now + self._window_seconds,
                    pause=doubt,
                    ask_at=now + doubt,
                )
            )

    async def _ask(self, due: Sequence[_Open]) -> None:
        try:
            # As they are stored: the numbers of rows that were rolled back are used again by SQLite.
            rows = await self._store.committed(sorted({seq for each in due for seq in each.seqs}))
        except StoreError:
            rows = ()
        seen = {row.seq for row in rows}
        now = anyio.current_time()
        for each in due:
            each.seqs -= seen
            if not each.seqs or not each.asked(now):
                self._open.remove(each)
                each.watch.drop()
        if rows:
            self._hand_over(rows)
