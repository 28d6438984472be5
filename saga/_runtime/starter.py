"""Start sagas: the start run, its event and its record in one local transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
from pydantic import ValidationError

from saga._core import emit
from saga._core.bodies import CancelRequested
from saga._core.children import parent_of
from saga._core.events import Event
from saga._core.ids import saga_id_of
from saga._core.limits import DEFAULT_LIMITS, check_outgoing
from saga._core.plan import Topology
from saga._core.records import decode_outcome
from saga._core.relay import messages_of
from saga._core.rows import Changes, OutboxRow, RunRow
from saga._core.run import Ended
from saga._core.start import Start
from saga._core.upcasting import read_one_of, read_payload
from saga._core.words import Priority, RunStatus
from saga._runtime.admission import admit
from saga._runtime.context import ServiceContext
from saga._runtime.ending import ended_of
from saga._runtime.handlers import payload_of
from saga.errors import Conflict, Contended, KeyConflict, OutcomePending, SettingsError, Undecodable, VerbRefused
from saga.ports import Claim, SpanKind, UnitOfWork

START_TRIES = 10
POLL_FIRST_SECONDS = 0.1
POLL_CAP_SECONDS = 1.0


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
        await admit(self._context.fleet, start, topology, may_wait=connection is None)
        saga_id = saga_id_of(start.saga.name, tenant, key) if key is not None else str(uuid4())
        payload = payload_of(event)
        row = _NewStart(
            topology=topology,
            saga_id=saga_id,
            tenant=tenant,
            type=event.wire_type,
            payload=payload,
            lane=priority,
        )
        if connection is not None:
            async with self._context.store.adopt(connection, self._context.service) as unit:
                self._context.expect(await self._write_guarded(unit, row))
            return SagaHandle(saga_id=saga_id, _starter=self)
        await self._write_alone(row)
        return SagaHandle(saga_id=saga_id, _starter=self)

    async def _write_alone(self, new: _NewStart) -> None:
        for attempt in range(START_TRIES):
            try:
                claim = Claim(service=self._context.service, sagas=(new.saga_id,))
                async with self._context.store.unit(claim) as unit:
                    rows = await self._write(unit, new)
            except (Conflict, Contended):
                if attempt == START_TRIES - 1:
                    raise
                await anyio.sleep(0.02 * 2.0**attempt * self._context.rng.random())
            else:
                self._context.hand_over(rows)
                return

    async def _write_guarded(self, unit: UnitOfWork, new: _NewStart) -> Sequence[OutboxRow]:
        """Write inside the caller's transaction; a lost race for the key must not abort it."""
        try:
            async with unit.savepoint():
                return await self._write(unit, new)
        except Conflict:
            return await self._write(unit, new)

    async def _write(self, unit: UnitOfWork, new: _NewStart) -> Sequence[OutboxRow]:
        """Write the start, or find the one already there; returns the rows to hand over."""
        plan = new.topology.plan
        run_id = (new.saga_id, plan.start, "")
        seen = await unit.read((), [run_id])
        known = seen.runs.get(run_id)
        if known is not None:
            if not self._is_same(known, new):
                msg = (
                    f"saga {new.saga_id} was started before under this key with another {new.type}; "
                    "a key names one attempt: use a new key for a new one"
                )
                raise KeyConflict(msg)
            return ()
        lifetime = timedelta(milliseconds=plan.timeout_ms + plan.forward_window_ms)
        row = RunRow(
            saga_id=new.saga_id,
            step=plan.start,
            plan=plan.hash,
            tenant=new.tenant,
            status=RunStatus.DONE,
            result_type=new.type,
            result=new.payload,
            attempt=1,
            lane=new.lane,
            expires_at=seen.now + lifetime,
            created_at=seen.now,
            done_at=seen.now,
        )
        attributes = {"saga.id": new.saga_id, "saga.name": plan.saga}
        with self._context.tracer.span(f"create {new.type}", SpanKind.PRODUCER, "", attributes) as span:
            row = replace(row, traceparent=span.traceparent)
            outbox = emit.ended_run(row, plan, seen.now, span.traceparent)
            for message in messages_of(outbox[0]):
                check_outgoing(message, DEFAULT_LIMITS)
            seqs = await unit.write(Changes(insert_runs=(row,), outbox=outbox))
        return [replace(out, seq=seq) for out, seq in zip(outbox, seqs, strict=True)]

    def _is_same(self, known: RunRow, new: _NewStart) -> bool:
        """Return whether a start under the same key has the same payload, also one of an older version."""
        if known.result_type == new.type:
            return known.result == new.payload
        plan = new.topology.plan
        start = self._context.starts[plan.saga, plan.version]
        try:
            event = read_payload(start.event, known.result_type, known.result or b"{}", start.upcasters)
        except (Undecodable, ValidationError):
            return False
        return payload_of(event) == new.payload

    # --- afterwards --------------------------------------------------------------------------------------

    def handle(self, saga_id: str) -> SagaHandle:
        """Return the handle of a saga started earlier, perhaps by another process."""
        return SagaHandle(saga_id=saga_id, _starter=self)

    async def outcome(self, saga_id: str, timeout_seconds: float) -> Ended:
        """Wait for the outcome in the start row; see `SagaHandle.outcome`."""
        pause = POLL_FIRST_SECONDS
        with anyio.move_on_after(timeout_seconds), self._context.endings.waiting(saga_id) as told:
            while True:
                ended = await self._read(saga_id)
                if ended is not None:
                    return ended
                with anyio.move_on_after(pause):
                    await told.wait()
                pause = min(POLL_CAP_SECONDS, pause * 2)
        msg = f"saga {saga_id} had not ended after {timeout_seconds:g} s; it goes on, ask again later"
        raise OutcomePending(msg)

    async def _start_row(self, saga_id: str) -> RunRow | None:
        for start in self._context.definition.starts:
            row = await self._context.store.load_run((saga_id, start.name, ""))
            if row is not None:
                return row
        return None

    async def _read(self, saga_id: str) -> Ended | None:
        row = await self._start_row(saga_id)
        if row is None or row.outcome is None:
            return None
        definition = self._context.definition
        events = [start.event for start in definition.starts]
        try:
            event = read_one_of(events, row.result_type, row.result or b"{}", definition.upcasters)
            return ended_of(event, row, decode_outcome(row.outcome), self._context.refusals)
        except (Undecodable, ValidationError) as error:
            msg = (
                f"saga {saga_id} has ended, but its start event {row.result_type} cannot be read by this code: {error}"
            )
            raise OutcomePending(msg) from error

    async def cancel(self, saga_id: str, reason: str) -> None:
        """Send the cancel through the outbox.

        Raises OutcomePending for a saga never started here, VerbRefused for one that a step of another has started.
        """
        row = await self._start_row(saga_id)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewStart:
    topology: Topology
    saga_id: str
    tenant: str
    type: str
    payload: bytes
    lane: Priority
