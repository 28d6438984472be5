"""Write the start of sagas: the start run, its event and its record in one local transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio
from pydantic import ValidationError

from saga._core import emit
from saga._core.frozen import builder
from saga._core.limits import check_outgoing
from saga._core.plan import Topology
from saga._core.relay import messages_of
from saga._core.rows import Changes, OutboxRow, RunId, RunRow, numbered
from saga._core.upcasting import read_payload
from saga._core.words import Priority, RunStatus
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import payload_of
from saga._runtime.together import Together
from saga.errors import Conflict, Contended, KeyConflict, TooLarge, Undecodable
from saga.ports import Claim, UnitOfWork

START_TRIES = 10
GROUP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStart:
    """Be one start as it is asked for."""

    topology: Topology
    saga_id: str
    tenant: str
    type: str
    payload: bytes
    lane: Priority
    traceparent: str = ""

    @property
    def run_id(self) -> RunId:
        """Return the primary key of the start run."""
        return (self.saga_id, self.topology.plan.start, "")


_run = builder(RunRow)
_Written = Sequence[OutboxRow] | Exception


class StartWriter:
    """Write the starts of one service, those of the same moment together."""

    def __init__(self, context: ServiceContext) -> None:
        """Serve `context`."""
        self._context = context
        self._together: Together[NewStart, _Written] = Together(self._write_group, limit=GROUP)

    async def write(self, new: NewStart) -> None:
        """Write a start in a transaction of ours, together with others of the same moment; returns once committed.

        Raises KeyConflict, TooLarge, StoreUnavailable, CommitUnknown.
        """
        for attempt in range(START_TRIES):
            try:
                written = await self._together.ask(new)
                if isinstance(written, Exception):
                    raise written
            except (Conflict, Contended):
                if attempt == START_TRIES - 1:
                    raise
                await anyio.sleep(0.02 * 2.0**attempt * self._context.rng.random())
            else:
                return

    async def _write_group(self, group: Sequence[NewStart]) -> Sequence[_Written]:
        """Write what several callers start at the same time in one transaction of ours, and hand it over."""
        # Of several starts of one saga only the first is news; the others look at what it has written.
        first = {new.saga_id: new for new in reversed(group)}
        claim = Claim(service=self._context.service, sagas=tuple(sorted(first)))
        async with self._context.store.unit(claim) as unit:
            written = dict(zip(first, await self._write_all(unit, list(first.values())), strict=True))
        rows = [row for each in written.values() if not isinstance(each, Exception) for row in each]
        for row in rows:
            self._context.endings.began(row.aggregateid)
        self._context.hand_over(rows)
        again = Conflict("the same saga is being started twice at once")
        return [written[new.saga_id] if first[new.saga_id] is new else again for new in group]

    async def write_in(self, unit: UnitOfWork, new: NewStart) -> Sequence[OutboxRow]:
        """Write inside the caller's transaction; a lost race for the key must not abort it."""
        try:
            async with unit.savepoint():
                (written,) = await self._write_all(unit, [new])
        except Conflict:
            (written,) = await self._write_all(unit, [new])
        if isinstance(written, Exception):
            raise written
        return written

    async def _write_all(self, unit: UnitOfWork, group: Sequence[NewStart]) -> list[_Written]:
        """Write the starts that are not there yet; returns the rows of each to hand over, or why it cannot be."""
        seen = await unit.read((), [new.run_id for new in group])
        inserts: list[RunRow] = []
        outbox: list[OutboxRow] = []
        written: list[tuple[int, int] | Exception] = []
        for new in group:
            known = seen.runs.get(new.run_id)
            at = len(outbox)
            try:
                if known is None:
                    run, rows = self._begun(new, seen.now)
                    inserts.append(run)
                    outbox += rows
                else:
                    self._check_same(known, new)
            except (KeyConflict, TooLarge) as error:
                written.append(error)
            else:
                written.append((at, len(outbox)))
        if not inserts:
            return [each if isinstance(each, Exception) else () for each in written]
        seqs = await unit.write(Changes(insert_runs=tuple(inserts), outbox=tuple(outbox)))
        stored = numbered(outbox, seqs)
        return [each if isinstance(each, Exception) else stored[slice(*each)] for each in written]

    def _begun(self, new: NewStart, now: datetime) -> tuple[RunRow, tuple[OutboxRow, ...]]:
        plan = new.topology.plan
        row = _run(
            saga_id=new.saga_id,
            step=plan.start,
            plan=plan.hash,
            tenant=new.tenant,
            status=RunStatus.DONE,
            result_type=new.type,
            result=new.payload,
            attempt=1,
            lane=new.lane,
            traceparent=new.traceparent,
            expires_at=now + new.topology.lifetime,
            created_at=now,
            done_at=now,
        )
        outbox = emit.ended_run(row, plan, now, new.traceparent)
        for message in messages_of(outbox[0]):
            check_outgoing(message, self._context.limits)
        return row, outbox

    def _check_same(self, known: RunRow, new: NewStart) -> None:
        if not self._is_same(known, new):
            msg = (
                f"saga {new.saga_id} was started before under this key with another {new.type}; "
                "a key names one attempt: use a new key for a new one"
            )
            raise KeyConflict(msg)

    def _is_same(self, known: RunRow, new: NewStart) -> bool:
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
