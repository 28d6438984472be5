"""Take events from outside into sagas: a run without a cause, its event and its record in one local transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio

from saga._core import emit
from saga._core.events import Event
from saga._core.frozen import replace
from saga._core.limits import check_outgoing
from saga._core.plan import Topology
from saga._core.receive import Receive
from saga._core.relay import messages_of
from saga._core.rows import Changes, OutboxRow, RunId, RunRow
from saga._core.words import Priority, RunStatus
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import payload_of
from saga.errors import Conflict, Contended, KeyConflict, SettingsError
from saga.ports import Claim, OpenRows, SpanKind, UnitOfWork

RECEIVE_TRIES = 10


class EventReceiver:
    """Take events in for one service; bound to its `Receive` objects while the app runs."""

    def __init__(self, context: ServiceContext) -> None:
        """Serve `context`."""
        self._context = context

    async def receive(self, receive: Receive[Any], event: Event, *, saga_id: str, tenant: str, connection: Any) -> None:
        """Write the event of a saga; see `Receive.__call__`.

        Raises PlanUnknown, KeyConflict for another event under the same saga, SettingsError for an unusable ID or
        tenant, TooLarge, StoreUnavailable, CommitUnknown.
        """
        if not saga_id or not saga_id.isprintable() or not tenant.isprintable():
            msg = f"{receive.name}: saga {saga_id!r} of tenant {tenant!r} cannot stand in a header; use printable text"
            raise SettingsError(msg)
        new = _NewEvent(
            topology=self._context.plans.current(receive.saga.name, receive.saga.version, self._context.service),
            run_id=(saga_id, receive.name, ""),
            tenant=tenant,
            type=event.wire_type,
            payload=payload_of(event),
        )
        service = self._context.service
        if connection is not None:
            async with self._context.store.adopt(connection, service) as theirs, theirs.savepoint():
                self._context.expect(OpenRows(await self._write(theirs, new), theirs.watch))
            return
        for attempt in range(RECEIVE_TRIES):
            try:
                async with self._context.store.unit(Claim(service=service, sagas=(saga_id,))) as unit:
                    rows = await self._write(unit, new)
            except (Conflict, Contended):
                if attempt == RECEIVE_TRIES - 1:
                    raise
                await anyio.sleep(0.02 * 2.0**attempt * self._context.rng.random())
            else:
                self._context.hand_over(rows)
                return

    async def _write(self, unit: UnitOfWork, new: _NewEvent) -> Sequence[OutboxRow]:
        """Write the run, or find the one already there; returns the rows to hand over."""
        plan = new.topology.plan
        saga_id, step, _ = new.run_id
        start_id = (saga_id, plan.start, "")
        seen = await unit.read((), [new.run_id, start_id])
        known, start = seen.runs.get(new.run_id), seen.runs.get(start_id)
        if known is not None:
            if (known.result_type, known.result) != (new.type, new.payload):
                msg = f"saga {saga_id} has received another {new.type} before; the first one counts"
                raise KeyConflict(msg)
            return ()
        if start is not None:
            self._check_saga(start, plan.saga, new)
        lifetime = timedelta(milliseconds=plan.timeout_ms + plan.forward_window_ms)
        # Where the start is known here, the event belongs to that plan; elsewhere the current one is the best guess.
        row = RunRow(
            saga_id=saga_id,
            step=step,
            plan=plan.hash if start is None else start.plan,
            tenant=new.tenant if start is None else start.tenant,
            status=RunStatus.DONE,
            result_type=new.type,
            result=new.payload,
            attempt=1,
            lane=Priority.NORMAL if start is None else start.lane,
            expires_at=seen.now + lifetime if start is None else start.expires_at,
            created_at=seen.now,
            done_at=seen.now,
        )
        attributes = {"saga.id": saga_id, "saga.name": plan.saga}
        with self._context.tracer.span(f"create {new.type}", SpanKind.PRODUCER, "", attributes) as span:
            row = replace(row, traceparent=span.traceparent)
            topology = self._context.plans.topology(row.plan) or new.topology
            outbox = emit.ended_run(row, topology.plan, seen.now, row.traceparent)
            for message in messages_of(outbox[0]):
                check_outgoing(message, self._context.limits)
            seqs = await unit.write(Changes(insert_runs=(row,), outbox=outbox))
        return [replace(out, seq=seq) for out, seq in zip(outbox, seqs, strict=True)]

    def _check_saga(self, start: RunRow, saga: str, new: _NewEvent) -> None:
        """Raise SettingsError for the ID of a saga, started here, that does not receive such an event."""
        saga_id, step, _ = new.run_id
        theirs = self._context.plans.topology(start.plan)
        if theirs is not None and (theirs.plan.saga != saga or step not in theirs.steps):
            name = f"{theirs.plan.saga}.v{theirs.plan.version}"
            msg = f"{step}: {saga_id} is of {name}, which does not receive {new.type}"
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewEvent:
    topology: Topology
    run_id: RunId
    tenant: str
    type: str
    payload: bytes
