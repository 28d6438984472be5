"""Watch for the commit of rows that somebody else's transaction has written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from saga._core.rows import OutboxRow
from saga.errors import StoreError
from saga.ports import OutboxStore

POLL_FIRST_SECONDS = 0.01
POLL_CAP_SECONDS = 0.1


class Expected:
    """Hand rows over once they can be seen: drivers have no hook for a commit that is not ours.

    Looks every 10 ms, then ever more rarely up to 100 ms. A row not seen within the window was rolled
    back, or is left to the sweep.
    """

    def __init__(
        self, store: OutboxStore, hand_over: Callable[[Sequence[OutboxRow]], None], *, window_seconds: float, limit: int
    ) -> None:
        self._store = store
        self._hand_over = hand_over
        self._window_seconds = window_seconds
        self._limit = limit
        self._rows: dict[int, tuple[OutboxRow, float]] = {}
        self._arrived = anyio.Event()

    def expect(self, rows: Sequence[OutboxRow]) -> None:
        """Take rows whose transaction is still open; never blocks. Rows over the bound are left to the sweep."""
        until = anyio.current_time() + self._window_seconds
        for row in rows[: max(0, self._limit - len(self._rows))]:
            self._rows[row.seq] = (row, until)
        self._arrived.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = POLL_FIRST_SECONDS
        while True:
            if not self._rows:
                self._arrived = anyio.Event()
                await self._arrived.wait()
                pause = POLL_FIRST_SECONDS
            await anyio.sleep(pause)
            pause = min(POLL_CAP_SECONDS, pause * 2)
            try:
                seen = await self._store.committed(list(self._rows))
            except StoreError:
                continue
            self._hand_over([self._rows.pop(seq)[0] for seq in seen if seq in self._rows])
            now = anyio.current_time()
            self._rows = {seq: (row, until) for seq, (row, until) in self._rows.items() if until > now}
