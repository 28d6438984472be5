"""Be a participant's store in which no payload lies in clear."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from saga._core.frozen import replace
from saga._core.locks import LockRequest, LockView
from saga._core.rows import Changes, DeliveryRow, InboxKey, OutboxRow, RunId, RunRow, Snapshot, TakenRun, numbered
from saga._core.run import SessionTurn, session_of
from saga._runtime.context import HandOver
from saga._runtime.sealing import Sealing
from saga.errors import StoreUnavailable
from saga.ports import AdoptedUnit, Beat, Claim, Database, OpenRows, ParticipantStore, UnitOfWork, Watch, unwatched

T = TypeVar("T")
_Column = tuple[str, str, str, str]


class SealedStore:
    """Be another store: payloads are closed on their way in, and opened on their way out.

    It hands committed rows over by itself, since they go out as they are stored; who uses it hands over nothing.
    What cannot be opened comes out closed, and goes in again as it was.
    """

    def __init__(
        self,
        inner: ParticipantStore,
        sealing: Sealing,
        *,
        hand_over: HandOver,
        expect: Callable[[OpenRows], None],
    ) -> None:
        self._inner = inner
        self._sealing = sealing
        self._hand_over = hand_over
        self._expect = expect

    @asynccontextmanager
    async def unit(self, claim: Claim) -> AsyncGenerator[UnitOfWork]:
        """Begin a transaction; see the port."""
        async with self._inner.unit(claim) as inner:
            unit = SealedUnit(inner, self._sealing)
            yield unit
        if unit.rows:
            self._hand_over(unit.rows)

    @property
    def transactions_at_once(self) -> int:
        """Return that of the store itself."""
        return self._inner.transactions_at_once

    @asynccontextmanager
    async def adopt(self, connection: Any, service: str) -> AsyncGenerator[AdoptedUnit]:
        """Work inside the caller's own transaction; see the port."""
        async with self._inner.adopt(connection, service) as inner:
            unit = SealedUnit(inner, self._sealing, inner.watch)
            yield unit
            if unit.rows:
                self._expect(OpenRows(unit.rows, inner.watch))

    async def take_deliveries(self, service: str, limit: int, lease_seconds: float) -> Sequence[DeliveryRow]:
        """Claim due rows; see the port."""
        rows = await self._inner.take_deliveries(service, limit, lease_seconds)
        with_raw: list[DeliveryRow] = []
        for row in rows:
            raw = await _reaching(self._sealing.open_delivery(row.raw))
            with_raw.append(row if raw is row.raw else replace(row, raw=raw))
        return with_raw

    async def take_runs(self, service: str, owner: str, limit: int, lease_seconds: float) -> Sequence[TakenRun]:
        """Claim runs with outside work; see the port."""
        taken = await self._inner.take_runs(service, owner, limit, lease_seconds)
        return [replace(each, run=await open_run(self._sealing, each.run)) for each in taken]

    async def beat(self, service: str, owner: str, runs: Sequence[RunRow], lease_seconds: float) -> Beat:
        """Move leases on; see the port."""
        return await self._inner.beat(service, owner, runs, lease_seconds)

    async def load_runs(self, runs: Sequence[RunId]) -> Sequence[RunRow]:
        """Read runs; see the port."""
        return [await open_run(self._sealing, run) for run in await self._inner.load_runs(runs)]


class SealedUnit:
    """Be one open transaction of a sealed store; `rows` are the outbox rows it has written, as they are stored."""

    def __init__(self, inner: UnitOfWork, sealing: Sealing, watch: Callable[[], Watch] = unwatched) -> None:
        self._inner = inner
        self._watch = watch
        self._sealing = sealing
        self._stored: dict[_Column, tuple[bytes, bytes]] = {}
        self.rows: list[OutboxRow] = []

    # --- payloads ------------------------------------------------------------------------------------------

    async def read(self, sagas: Sequence[str], runs: Sequence[RunId], inbox: Sequence[InboxKey] = ()) -> Snapshot:
        """Read gates, runs and inbox entries; see the port."""
        seen = await self._inner.read(sagas, runs, inbox)
        if not seen.runs:
            return seen
        found: Mapping[RunId, RunRow] = {key: await self._opened(run) for key, run in seen.runs.items()}
        return replace(seen, runs=found)

    async def write(self, changes: Changes) -> tuple[int, ...]:
        """Store all changes; see the port. Raises StoreUnavailable, TooLarge too: then nothing was written."""
        outbox = [await _reaching(self._sealing.close_outbox(row)) for row in changes.outbox]
        closed = replace(
            changes,
            insert_runs=tuple([await self._closed(run) for run in changes.insert_runs]),
            update_runs=tuple([await self._closed(run) for run in changes.update_runs]),
            outbox=tuple(outbox),
            insert_deliveries=tuple([await self._kept(row) for row in changes.insert_deliveries]),
            update_deliveries=tuple([await self._kept(row) for row in changes.update_deliveries]),
        )
        seqs = await self._inner.write(closed)
        self.rows += numbered(outbox, seqs)
        return seqs

    async def _opened(self, run: RunRow) -> RunRow:
        opened = await open_run(self._sealing, run)
        key = (run.saga_id, run.step, run.branch)
        for column, clear, stored in (
            ("input", opened.input, run.input),
            ("result", opened.result, run.result),
            ("outcome", opened.outcome, run.outcome),
        ):
            if clear is not None and stored is not None:
                self._stored[*key, column] = clear, stored
        return opened

    async def _closed(self, run: RunRow) -> RunRow:
        # What was read goes in as it was: after an erasure it must not come back under a new key.
        outcome, tenant = run.outcome, run.tenant
        return replace(
            run,
            input=self._as_read(run, "input", run.input) or await _reaching(self._sealing.close_input(run)),
            result=self._as_read(run, "result", run.result) or await _reaching(self._sealing.close_result(run)),
            outcome=None
            if outcome is None
            else self._as_read(run, "outcome", outcome)
            or await _reaching(self._sealing.close_refusals(outcome, run.saga_id, tenant)),
        )

    def _as_read(self, run: RunRow, column: str, payload: bytes | None) -> bytes | None:
        clear, stored = self._stored.get((run.saga_id, run.step, run.branch, column), (None, None))
        return stored if clear == payload else None

    async def _kept(self, row: DeliveryRow) -> DeliveryRow:
        return replace(row, raw=await _reaching(self._sealing.close_delivery(row.raw)))

    # --- the rest ------------------------------------------------------------------------------------------

    @property
    def watch(self) -> Callable[[], Watch]:
        """Return what begins to watch for the transaction's end."""
        return self._watch

    @property
    def db(self) -> Database:
        """Return the user's door to this transaction."""
        return self._inner.db

    @property
    def connection(self) -> Any:
        """Return the driver's own connection."""
        return self._inner.connection

    @property
    def writes(self) -> int:
        """Return how many of the user's statements may have changed a row."""
        return self._inner.writes

    def open_session(self) -> SessionTurn:
        """Begin a session on the transaction; raises SettingsError where its store has none."""
        return session_of(self._inner)

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """Open a savepoint; see the port."""
        before = len(self.rows)
        try:
            async with self._inner.savepoint():
                yield
        except BaseException:
            del self.rows[before:]
            raise

    async def see_lock(self, request: LockRequest) -> LockView:
        """Return what is stored of an entity; see the port."""
        return await self._inner.see_lock(request)

    async def take_lock(self, request: LockRequest) -> None:
        """Store the saga as the holder of an entity; see the port."""
        await self._inner.take_lock(request)

    async def wait_for_lock(self, request: LockRequest) -> None:
        """Give a delivery a place in the queue; see the port."""
        await self._inner.wait_for_lock(request)

    async def release_locks(self, saga_id: str) -> int:
        """Free whatever the saga holds; see the port."""
        return await self._inner.release_locks(saga_id)


async def open_run(sealing: Sealing, run: RunRow) -> RunRow:
    """Return a stored run with those of its payloads opened that can be; raises StoreUnavailable."""
    outcome = run.outcome
    return replace(
        run,
        input=await _reaching(sealing.open_input(run)),
        result=await _reaching(sealing.open_result(run)),
        outcome=None if outcome is None else await _reaching(sealing.open_refusals(outcome, run.saga_id)),
    )


async def _reaching(work: Awaitable[T]) -> T:
    try:
        return await work
    except OSError as error:
        raise StoreUnavailable(f"keys or blobs are out of reach: {error}") from error
