from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from saga._core.envelope import Delivery
from saga._core.rows import Changes, DeliveryRow, GateRow, InstanceRow, OutboxRow, RunRow
from saga._core.words import GateState, Mark, Priority, Reason, RunKey, RunStatus, UndoStatus
from saga.ports import Claim, Lock, Store

SERVICE = "stock"
OTHER = "payment"
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def saga_id() -> str:
    return str(uuid4())


def claim(*sagas: str, service: str = SERVICE, lock: Lock = Lock.SHARED, timeout: float | None = None) -> Claim:
    return Claim(service=service, sagas=sagas, lock=lock, lock_timeout_seconds=timeout)


def run(
    saga: str,
    step: str = "stock.reserve",
    branch: str = "",
    status: RunStatus = RunStatus.DONE,
    pending_at: datetime | None = None,
    expires_at: datetime = NOW + timedelta(days=7),
) -> RunRow:
    return RunRow(
        saga_id=saga,
        step=step,
        branch=branch,
        plan="hash",
        status=status,
        pending_at=pending_at,
        expires_at=expires_at,
        created_at=NOW,
    )


def full_run(saga: str) -> RunRow:
    """A run with a value in every column, the odd ones too."""
    return RunRow(
        saga_id=saga,
        step="stock.reserve",
        branch="2of5",
        plan="hash",
        tenant="acme",
        status=RunStatus.FAILED,
        undo=UndoStatus.WANTED,
        causes=(RunKey(step="orders.start"), RunKey(step="a.b", branch="1of2")),
        input_type="order.placed",
        input='{"ä":"\\u0000"}'.encode(),
        result_type="stock.reserved",
        result=b"\x00\xff",
        attempt=3,
        owner="host-1",
        pending_at=NOW + timedelta(seconds=9),
        error="Traceback:\n  'quoted' ümlaut",
        outcome=b"{}",
        traceparent="00-abc-def-01",
        lane=Priority.URGENT,
        expires_at=NOW + timedelta(days=7),
        created_at=NOW,
        done_at=NOW + timedelta(microseconds=1),
        undone_at=NOW + timedelta(days=1),
        fan_out=0,
        generation=2,
        first_called_at=NOW + timedelta(seconds=1),
        called_at=NOW + timedelta(seconds=2),
    )


def gate(saga: str, state: GateState = GateState.CLOSED, service: str = SERVICE) -> GateRow:
    return GateRow(
        saga_id=saga,
        service=service,
        plan="hash",
        state=state,
        mark=Mark.HELD,
        mark_number=3,
        keep_until=NOW + timedelta(days=8),
        expires_at=NOW + timedelta(days=7),
        traceparent="00-abc-def-01",
    )


def outgoing(aggregate: str = "saga", payload: bytes | None = b"{}", record: bytes | None = None) -> OutboxRow:
    return OutboxRow(
        id=str(uuid4()),
        aggregatetype="stock.events",
        aggregateid=aggregate,
        type="stock.reserved",
        payload=payload,
        headers=(("ce_id", b"1"), ("odd", bytes(range(256)))),
        record=record,
        record_headers=(("ce_id", b"2"),) if record is not None else (),
        service=SERVICE,
    )


def waiting(
    saga: str,
    due_at: datetime,
    reason: Reason = Reason.RETRY,
    service: str = SERVICE,
    attempt: int = 1,
    step: str = "",
    message_id: str = "",
) -> DeliveryRow:
    raw = Delivery(topic="orders.events", partition=3, offset=2**40, key=b"\xff", value=None, headers=(("h", b"\x80"),))
    return DeliveryRow(
        service=service,
        saga_id=saga,
        due_at=due_at,
        reason=reason,
        attempt=attempt,
        error="e",
        step=step,
        message_id=message_id,
        raw=raw,
    )


def instance(saga: str, partition: int = 0, due_at: datetime | None = None) -> InstanceRow:
    return InstanceRow(
        saga_id=saga,
        saga="checkout",
        version=1,
        plan="hash",
        tenant="acme",
        phase="forward",
        partition=partition,
        due_at=due_at,
        started_at=NOW,
        ended_at=None,
        state=b'{"\x00":1}',
    )


async def put(store: Store, changes: Changes, *sagas: str) -> tuple[int, ...]:
    async with store.unit(claim(*sagas)) as unit:
        return await unit.write(changes)


def stored(row: RunRow, revision: int = 1) -> RunRow:
    return replace(row, revision=revision)
