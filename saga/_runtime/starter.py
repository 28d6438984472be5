"""Start sagas: the start run, its event and its record in one local transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import anyio
from pydantic import ValidationError

from saga._core import emit
from saga._core.bodies import CancelRequested
from saga._core.children import parent_of
from saga._core.driving import driven
from saga._core.events import Event
from saga._core.frozen import builder, replace
from saga._core.ids import saga_id_of
from saga._core.records import decode_outcome
from saga._core.rows import Changes, RunRow
from saga._core.run import Ended
from saga._core.start import Start, WhenOpen
from saga._core.upcasting import read_one_of
from saga._core.words import Priority
from saga._runtime.admission import admit
from saga._runtime.context import ServiceContext
from saga._runtime.ending import ended_of
from saga._runtime.endings import Waiting
from saga._runtime.handlers import payload_of
from saga._runtime.starting import GROUP, NewStart, StartWriter
from saga._runtime.together import Together
from saga.errors import (
    OutcomePending,
    SettingsError,
    Undecodable,
    VerbRefused,
)
from saga.ports import Claim, OpenRows, SpanKind

POLL_CAP_SECONDS = 1.0

_new = builder(NewStart)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SagaHandle:
    """Be one started saga in the starter's process; `saga_id` is its correlation ID everywhere."""

    saga_id: str
    _starter: SagaStarter

    async def outcome(self, timeout_seconds: float = 60.0) -> Ended:
        """Wait until the saga has ended (completed, compensated or stuck) and return how.

        Reads the start row, which the starter's service writes in the transaction that runs `on_end`.
        Raises OutcomePending after the timeout; the saga goes on regardless.
        """
        return await self._starter.outcome(self.saga_id, timeout_seconds)

    async def cancel(self, reason: str) -> None:
        """Ask the coordinator, through the outbox, to undo the saga; one past its pivot completes instead.

        Raises VerbRefused for a saga that a step of another has started.
        """
        await self._starter.cancel(self.saga_id, reason)


class SagaStarter:
    """Start sagas of one service; bound to its `Start` objects while the app runs."""

    def __init__(self, context: ServiceContext) -> None:
        """Serve `context`."""
        self._context = context
        self._starts = StartWriter(context)
        self._looks: Together[str, RunRow | None] = Together(self._start_rows, limit=GROUP)

    async def start(
        self, start: Start[Any], event: Event, *, key: str | None, tenant: str, priority: Priority, connection: Any
    ) -> SagaHandle:
        """Write the start and return the saga's handle; see `Start.__call__`.

        Raises PlanUnknown, KeyConflict, SettingsError for an unusable tenant, Overloaded, TooLarge,
        StoreUnavailable, CommitUnknown.
        """
        if not tenant.isprintable():
            msg = f"{start.name}: tenant {tenant!r} has characters that cannot stand in a header; use printable ones"
            raise SettingsError(msg)
        topology = self._context.plans.current(start.saga.name, start.saga.version, self._context.service)
        self._context.caps.check(start.name)
        if start.when_open is not WhenOpen.LET_THROUGH:
            await admit(self._context.fleet, start, topology, may_wait=connection is None)
        saga_id = saga_id_of(start.saga.name, tenant, key) if key is not None else str(uuid4())
        payload, wire_type = payload_of(event), event.wire_type
        attributes = {"saga.id": saga_id, "saga.name": start.saga.name}
        with self._context.tracer.span(f"create {wire_type}", SpanKind.PRODUCER, "", attributes) as span:
            row = _new(
                topology=topology,
                saga_id=saga_id,
                tenant=tenant,
                type=wire_type,
                payload=payload,
                lane=priority,
                traceparent=span.traceparent,
            )
            if connection is not None:
                async with self._context.store.adopt(connection, self._context.service) as unit:
                    self._context.expect(OpenRows(await self._starts.write_in(unit, row), unit.watch))
            else:
                await self._starts.write(row)
        return SagaHandle(saga_id=saga_id, _starter=self)

    def start_here(
        self, start: Start[Any], event: Event, *, key: str | None, tenant: str, priority: Priority, connection: Any
    ) -> SagaHandle:
        """Write the start inside the transaction of a connection that blocks; see `Start.sync`. Raises as `start`."""
        return driven(self.start(start, event, key=key, tenant=tenant, priority=priority, connection=connection))

    # --- afterwards --------------------------------------------------------------------------------------

    def handle(self, saga_id: str) -> SagaHandle:
        """Return the handle of a saga started earlier, perhaps by another process."""
        return SagaHandle(saga_id=saga_id, _starter=self)

    async def outcome(self, saga_id: str, timeout_seconds: float) -> Ended:
        """Wait for the outcome in the start row; see `SagaHandle.outcome`."""
        endings = self._context.endings
        # Whoever has little time gets an answer too, wherever the outcome has gone.
        pause, left_seconds = min(endings.patience_seconds, timeout_seconds / 2), timeout_seconds
        waiting = endings.wait_for(saga_id)
        try:
            if waits := endings.is_open(saga_id):
                with anyio.move_on_after(pause):
                    await waiting.told.wait()
                left_seconds -= pause
            row = waiting.row
            if row is None or row.outcome is None:
                row = await self._looked_for(saga_id, waiting, pause, left_seconds, waited=waits)
        finally:
            endings.leave(saga_id)
        if row is None or row.outcome is None:
            msg = f"saga {saga_id} had not ended after {timeout_seconds:g} s; it goes on, ask again later"
            raise OutcomePending(msg)
        return self._ended(row, row.outcome)

    async def _looked_for(
        self, saga_id: str, waiting: Waiting, pause: float, left_seconds: float, *, waited: bool
    ) -> RunRow | None:
        """Return the start row with its outcome, as told or looked up between two waits; None when time is up.

        The outcome may have reached another replica, which tells nobody here.
        """
        endings = self._context.endings
        with anyio.move_on_after(left_seconds):
            while True:
                if waited:
                    patience = endings.patience_seconds
                    pause = min(max(POLL_CAP_SECONDS, patience), max(pause * 2, patience))
                row = waiting.row or await self._looks.ask(saga_id)
                if row is not None and row.outcome is not None:
                    if waited and waiting.row is None:
                        endings.found(saga_id, anyio.current_time())
                    return row
                with anyio.move_on_after(pause):
                    await waiting.told.wait()
                waited = True
        return None

    async def _start_rows(self, saga_ids: Sequence[str]) -> Sequence[RunRow | None]:
        names = [start.name for start in self._context.definition.starts]
        rows = await self._context.store.load_runs([(saga_id, name, "") for saga_id in saga_ids for name in names])
        found = {row.saga_id: row for row in rows}
        return [found.get(saga_id) for saga_id in saga_ids]

    def _ended(self, row: RunRow, outcome: bytes) -> Ended:
        saga_id = row.saga_id
        definition = self._context.definition
        events = [start.event for start in definition.starts]
        try:
            event = read_one_of(events, row.result_type, row.result or b"{}", definition.upcasters)
            return ended_of(event, row, decode_outcome(outcome), self._context.refusals)
        except (Undecodable, ValidationError) as error:
            msg = (
                f"saga {saga_id} has ended, but its start event {row.result_type} cannot be read by this code: {error}"
            )
            raise OutcomePending(msg) from error

    async def cancel(self, saga_id: str, reason: str) -> None:
        """Send the cancel through the outbox.

        Raises OutcomePending for a saga never started here, VerbRefused for one that a step of another has started.
        """
        (row,) = await self._start_rows([saga_id])
        if row is None:
            msg = f"saga {saga_id} was not started by {self._context.service}; cancel it where it was started"
            raise OutcomePending(msg)
        if (parent := parent_of(row)) is not None:
            # Once it has completed, such a cancel can only be its parent's: that would go on as if nothing were undone.
            msg = f"saga {saga_id} is a part of saga {parent.saga_id}; cancel that one"
            raise VerbRefused(msg)
        claim = Claim(service=self._context.service, sagas=(saga_id,))
        async with self._context.store.unit(claim) as unit:
            seen = await unit.read((saga_id,), ())
            about = emit.About(
                saga_id=saga_id,
                plan=row.plan,
                tenant=row.tenant,
                expires_at=row.expires_at,
                now=seen.now,
                traceparent=row.traceparent,
                lane=row.lane,
            )
            report = emit.report(CancelRequested(reason=reason), service=self._context.service, about=about)
            seqs = await unit.write(Changes(outbox=(report,)))
        self._context.hand_over([replace(report, seq=seqs[0])])
