"""Turn rows into column values and back; the two databases differ only in how a point in time is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from outbox.headers import dump_headers, load_headers
from saga._core.envelope import Delivery
from saga._core.frozen import builder
from saga._core.rows import Cursor, DeliveryRow, GateRow, InstanceRow, PlanRow, RunRow
from saga._core.words import GateState, Mark, Priority, Reason, RunKey, RunStatus, UndoStatus

Row = Mapping[str, Any]
Values = tuple[object, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# A lookup costs a fraction of what a call of the enumeration does.
_STATUS = {each.value: each for each in RunStatus}
_UNDO = {each.value: each for each in UndoStatus}
_LANE = {each.value: each for each in Priority}
_run, _instance = builder(RunRow), builder(InstanceRow)


def to_micros(time: datetime) -> int:
    """Return microseconds since 1970 in UTC."""
    return (time - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the time of `to_micros`."""
    return _EPOCH + timedelta(microseconds=micros)


def as_it_is(time: datetime) -> datetime:
    """Return the time itself: PostgreSQL's driver speaks datetime."""
    return time


def storable(text: str) -> str:
    """Return an error's text without what a database refuses: NUL and lone surrogates."""
    if text.isprintable():
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class Codec:
    """Encode rows in the order of the columns in `sql/`, and decode them by name."""

    to_time: Callable[[datetime], Any]
    from_time: Callable[[Any], datetime]

    def time(self, at: datetime | None) -> Any:
        """Encode a point in time that may be missing."""
        return None if at is None else self.to_time(at)

    def moment(self, value: Any) -> datetime | None:
        """Decode a point in time that may be missing."""
        return None if value is None else self.from_time(value)

    def run(self, row: RunRow) -> Values:
        """Encode all columns of a run but its revision."""
        return (
            row.saga_id,
            row.step,
            row.branch,
            row.service,
            row.plan,
            row.tenant,
            row.status.value,
            row.undo.value,
            causes_text(row.causes),
            row.input_type,
            row.input,
            row.result_type,
            row.result,
            row.attempt,
            row.owner,
            self.time(row.pending_at),
            storable(row.error),
            row.outcome,
            row.traceparent,
            self.to_time(row.expires_at),
            self.to_time(row.created_at),
            self.time(row.done_at),
            self.time(row.undone_at),
            row.fan_out,
            row.generation,
            self.time(row.first_called_at),
            self.time(row.called_at),
            row.lane.value,
        )

    def as_run(self, row: Row) -> RunRow:
        """Decode a run."""
        at, pending_at, done_at = self.from_time, row["pending_at"], row["done_at"]
        undone_at, first_called_at, called_at = row["undone_at"], row["first_called_at"], row["called_at"]
        return _run(
            saga_id=row["saga_id"],
            step=row["step"],
            branch=row["branch"],
            plan=row["plan"],
            tenant=row["tenant"],
            status=_STATUS[row["status"]],
            undo=_UNDO[row["undo"]],
            causes=tuple([RunKey(step=step, branch=branch) for step, branch in orjson.loads(row["causes"])]),
            input_type=row["input_type"],
            input=row["input"],
            result_type=row["result_type"],
            result=row["result"],
            attempt=row["attempt"],
            owner=row["owner"],
            pending_at=None if pending_at is None else at(pending_at),
            error=row["error"],
            outcome=row["outcome"],
            traceparent=row["traceparent"],
            expires_at=at(row["expires_at"]),
            created_at=at(row["created_at"]),
            done_at=None if done_at is None else at(done_at),
            undone_at=None if undone_at is None else at(undone_at),
            fan_out=row["fan_out"],
            generation=row["generation"],
            first_called_at=None if first_called_at is None else at(first_called_at),
            called_at=None if called_at is None else at(called_at),
            lane=_LANE[row["lane"]],
            revision=row["revision"],
        )

    def gate(self, row: GateRow) -> Values:
        """Encode a gate."""
        return (
            row.saga_id,
            row.service,
            row.plan,
            row.state.value,
            row.mark.value,
            row.mark_number,
            self.time(row.keep_until),
            self.to_time(row.expires_at),
            row.traceparent,
        )

    def as_gate(self, row: Row) -> GateRow:
        """Decode a gate."""
        return GateRow(
            saga_id=row["saga_id"],
            service=row["service"],
            plan=row["plan"],
            state=GateState(row["state"]),
            mark=Mark(row["mark"]),
            mark_number=row["mark_number"],
            keep_until=self.moment(row["keep_until"]),
            expires_at=self.from_time(row["expires_at"]),
            traceparent=row["traceparent"],
        )

    def delivery(self, row: DeliveryRow) -> Values:
        """Encode a waiting delivery without its ID."""
        raw = row.raw
        return (
            row.service,
            row.saga_id,
            self.to_time(row.due_at),
            row.reason.value,
            row.attempt,
            storable(row.error),
            row.step,
            storable(row.message_id),
            raw.topic,
            raw.partition,
            raw.offset,
            raw.key,
            raw.value,
            dump_headers(raw.headers),
            self.time(row.first_at),
        )

    def delivery_update(self, row: DeliveryRow) -> Values:
        """Encode what may change of a waiting delivery, after its ID."""
        due_at, first_at = self.to_time(row.due_at), self.time(row.first_at)
        return (row.id, due_at, row.reason.value, row.attempt, storable(row.error), first_at)

    def as_delivery(self, row: Row) -> DeliveryRow:
        """Decode a waiting delivery."""
        raw = Delivery(
            topic=row["raw_topic"],
            partition=row["raw_partition"],
            offset=row["raw_offset"],
            key=row["raw_key"],
            value=row["raw_value"],
            headers=load_headers(row["raw_headers"]),
        )
        return DeliveryRow(
            service=row["service"],
            saga_id=row["saga_id"],
            due_at=self.from_time(row["due_at"]),
            reason=Reason(row["reason"]),
            attempt=row["attempt"],
            error=row["error"],
            step=row["step"],
            message_id=row["message_id"],
            first_at=self.moment(row["first_at"]),
            raw=raw,
            id=row["id"],
        )

    def instance(self, row: InstanceRow) -> Values:
        """Encode all columns of an instance but its revision."""
        return (
            row.saga_id,
            row.saga,
            row.version,
            row.plan,
            row.tenant,
            row.phase,
            row.partition,
            self.time(row.due_at),
            self.time(row.started_at),
            self.time(row.ended_at),
            row.state,
            row.step,
            storable(row.error),
        )

    def as_instance(self, row: Row) -> InstanceRow:
        """Decode an instance."""
        return _instance(
            saga_id=row["saga_id"],
            saga=row["saga"],
            version=row["version"],
            plan=row["plan"],
            tenant=row["tenant"],
            phase=row["phase"],
            partition=row["partition"],
            due_at=self.moment(row["due_at"]),
            started_at=self.moment(row["started_at"]),
            ended_at=self.moment(row["ended_at"]),
            state=row["state"],
            step=row["step"],
            error=row["error"],
            revision=row["revision"],
        )

    def cursor(self, row: Cursor) -> Values:
        """Encode a cursor."""
        return (row.partition, row.position, self.time(row.observed_until))

    def as_cursor(self, row: Row) -> Cursor:
        """Decode a cursor."""
        return Cursor(
            partition=row["partition"],
            position=row["position"],
            observed_until=self.moment(row["observed_until"]),
        )


def causes_text(causes: Sequence[RunKey]) -> str:
    """Encode the causes of a run."""
    return orjson.dumps([(cause.step, cause.branch) for cause in causes]).decode()


def plan_values(row: PlanRow) -> Values:
    """Encode a plan."""
    return (row.saga, row.version, row.revision, row.hash, row.body)


def as_plan(row: Row) -> PlanRow:
    """Decode a plan."""
    return PlanRow(
        saga=row["saga"], version=row["version"], revision=row["revision"], hash=row["hash"], body=row["body"]
    )


def plan_problems(wanted: list[PlanRow], stored: list[PlanRow]) -> list[str]:
    """Return a sentence for each wanted plan whose revision is stored with another hash."""
    hashes = {(row.saga, row.version, row.revision): row.hash for row in stored}
    return [
        f"plan {row.saga} v{row.version} revision {row.revision} is stored with hash {known[:12]}, "
        f"not {row.hash[:12]}: a changed plan needs a higher revision; write it again with `saga plan`"
        for row in wanted
        if (known := hashes[row.saga, row.version, row.revision]) != row.hash
    ]
