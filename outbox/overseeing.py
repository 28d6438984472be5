"""Be what both databases share when a console looks at them: which index a question goes by, and how rows are read."""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from outbox.audits import as_audit
from outbox.codec import Codec, Row, as_plan
from saga._core.audit import AuditRow
from saga._core.inspecting import InstanceCount
from saga._core.letters import LetterFilter
from saga._core.overview import Census, Minute
from saga._core.queues import AuditFilter, LetterLine
from saga._core.rows import InstanceRow
from saga._core.running import PartitionState, StoredPlan
from saga._core.sagas import Held, OnEnd, SagaLine, SagaQuery, is_open, is_troubled, line_place
from saga.ports.overseeing import Side

_NUMBER = re.compile(r"([$?])(\d+)")
_TABLE = re.compile(r'(?:"\w+"\.)?saga_instance i\b')
_ORDER = re.compile(r"\norder by .*$", re.DOTALL)
_ARGUMENTS = 15
"""What a list itself is asked with; the parameters of its source come behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Be rows that a list is made of: the name of a query, and what it is asked with."""

    name: str
    args: tuple[object, ...] = ()


class Overseen(ABC):
    """Answer what both databases are asked alike; see `saga.ports.overseeing.OverseeingStore`."""

    codec: Codec

    @abstractmethod
    async def rows_of(self, name: str, *args: object) -> Sequence[Row]:
        """Run one of our queries."""

    @abstractmethod
    async def looked(self, name: str, *args: object) -> Sequence[Row]:
        """Run one of our queries, planned for what it is asked with."""

    @abstractmethod
    async def now(self) -> datetime:
        """Read the clock."""

    @abstractmethod
    def listed(self, values: Collection[int]) -> object:
        """Return numbers as a query takes them."""

    async def partitions(self) -> Sequence[PartitionState]:
        """Read how far the coordinator is in each partition of `saga.runs`."""
        now = await self.now()
        return [as_partition(self.codec, row, now) for row in await self.rows_of("oversee_cursors")]

    async def stored_plans(self) -> Sequence[StoredPlan]:
        """Read all plans with the time they were stored at."""
        return [as_stored_plan(self.codec, row) for row in await self.rows_of("oversee_plans")]

    async def instance(self, saga_id: str) -> InstanceRow | None:
        """Read one saga, None when the coordinator knows none of that ID."""
        rows = await self.rows_of("oversee_instance", saga_id)
        return self.codec.as_instance(rows[0]) if rows else None

    async def saga_of_trace(self, trace_id: str, *, newest: int = 20_000) -> str:
        """Return the saga recorded under a trace, "" when it is none of the newest."""
        rows = await self.looked("saga_of_trace", trace_id, newest)
        return str(rows[0]["saga_id"]) if rows else ""

    async def sides(self) -> frozenset[Side]:
        """Return whose tables there are."""
        found = (await self.rows_of("tables"))[0]
        return frozenset(side for side in Side if found[side.value])

    async def dead_lines(self, wanted: LetterFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[LetterLine]:
        """Read a page of dead letters without their messages, newest first."""
        texts = (wanted.service, wanted.saga_id, wanted.step, wanted.error)
        args = (before_id, *texts, self.listed(wanted.ids), wanted.up_to_id, limit)
        return [as_letter_line(self.codec, row) for row in await self.looked("list_dead_lines", *args)]

    async def acts(self, wanted: AuditFilter, *, before_id: int = 0, limit: int = 100) -> Sequence[AuditRow]:
        """Read what people did, newest first."""
        args = (before_id, wanted.saga_id, wanted.who, wanted.verb, limit)
        return [as_audit(self.codec, row) for row in await self.looked("list_audits", *args)]

    async def marks(self) -> Mapping[str, str]:
        """Return texts that are others once something has changed."""
        of_coordinator = Side.COORDINATOR in await self.sides()
        database = (await self.rows_of("marks_of_database"))[0]
        return marks_of(database, (await self.rows_of("marks_of_coordinator"))[0] if of_coordinator else None)

    async def saga_mark(self, saga_id: str) -> str:
        """Return a text that is another one whenever something of a saga has changed here, "" without any row."""
        sides = await self.sides()
        names = [("revision_of_instance", Side.COORDINATOR), ("revision_of_runs", Side.PARTICIPANT)]
        rows: list[Row] = []
        for name in (*(name for name, side in names if side in sides), "revision_of_rows"):
            rows += [dict(row) for row in await self.rows_of(name, saga_id)]
        return saga_mark_of(rows)


def sources_of(query: SagaQuery) -> tuple[Source, ...]:
    """Return where the sagas of a query are to be found; each of several is a list of its own.

    The narrowest one that has an index: an ID, a text, what has gone wrong, what is open, what ended; else all.
    """
    wanted = query.wanted
    if text := wanted.text.strip():
        found = [] if query.is_id else [Source(name="sagas_said", args=(text,))]
        if query.text_ids:
            found.append(Source(name="sagas_named", args=(list(query.text_ids),)))
        if query.text_prefix:
            found.append(Source(name="sagas_beginning", args=beginning(query.text_prefix)))
        return tuple(found)
    if wanted.key:
        return (Source(name="sagas_named", args=(list(query.ids),)),)
    if wanted.saga_id:
        return (Source(name="sagas_beginning", args=beginning(wanted.saga_id)),)
    if wanted.on_end is OnEnd.FAILS:
        return (Source(name="sagas_named", args=(list(query.untold),)),)
    if wanted.step or wanted.error:
        return (Source(name="sagas_troubled"),)
    if wanted.phases and is_open(wanted.phases):
        return (Source(name="sagas_open"),)
    if wanted.phases and is_troubled(wanted.phases):
        return (Source(name="sagas_troubled"),)
    return (Source(name="sagas_ended" if wanted.ended_from is not None else "sagas_started"),)


def beginning(prefix: str) -> tuple[str, str]:
    """Return the first text that begins so, and the first one behind all that do."""
    if not prefix:
        return ("", "")
    after = ord(prefix[-1]) + 1
    if after > sys.maxunicode:
        return (prefix, prefix + prefix[-1])
    # Half a surrogate pair is no character that a database takes.
    return (prefix, prefix[:-1] + chr(0xE000 if after == 0xD800 else after))  # noqa: PLR2004 - Unicode's numbers


def list_sql(sql: Mapping[str, str], source: Source, limit: int) -> str:
    """Return the statement that reads a page of a source."""
    return f"{_of(sql, source, _ARGUMENTS)}\nlimit {int(limit)}"


def count_sql(sql: Mapping[str, str], sources: Sequence[Source], cap: int) -> tuple[str, list[object]]:
    """Return the statement that counts what is in any of the sources, and what its sources are asked with."""
    arms: list[str] = []
    args: list[object] = []
    for source in sources:
        whole = _ORDER.sub("", _of(sql, source, _ARGUMENTS + len(args)))
        rows = whole[whole.index("from ") :]
        arms.append(f"select * from (select i.saga_id, i.phase {rows} limit {int(cap)}) arm{len(arms)}")  # noqa: S608 - numbers
        args += source.args
    return f"select phase, count(*) as sagas from ({' union '.join(arms)}) found group by phase", args  # noqa: S608 - as above


def _of(sql: Mapping[str, str], source: Source, before: int) -> str:
    inner = _NUMBER.sub(lambda match: f"{match[1]}{int(match[2]) + before}", sql[source.name])
    return _TABLE.sub(lambda _: f"({inner}) i", sql["list_sagas"])


def range_of(query: SagaQuery) -> tuple[tuple[str, ...], str, str]:
    """Return the IDs that a key stands for, and between which texts an ID has to be; nothing of it means any."""
    wanted = query.wanted
    ids = query.ids or ("",) if wanted.key else ()
    if wanted.on_end is OnEnd.FAILS:
        ids = tuple(each for each in query.untold if each in ids or not ids) or ("",)
    return (ids, *beginning(wanted.saga_id))


def merged(pages: Sequence[Sequence[SagaLine]], limit: int) -> list[SagaLine]:
    """Return the newest lines of several lists, each saga once."""
    by_id = {line.saga_id: line for page in pages for line in page}
    known = [line for line in by_id.values() if line.started_at is not None]
    unknown = [line for line in by_id.values() if line.started_at is None]
    unknown.sort(key=lambda line: line.saga_id, reverse=True)
    known.sort(key=line_place, reverse=True)  # pyright: ignore[reportArgumentType]
    return [*unknown, *known][:limit]


# --- rows ----------------------------------------------------------------------------------------------------


def as_line(codec: Codec, row: Row) -> SagaLine:
    """Decode a saga of a list."""
    return SagaLine(
        saga_id=row["saga_id"],
        saga=row["saga"],
        version=row["version"],
        plan=row["plan"],
        tenant=row["tenant"],
        phase=row["phase"],
        step=row["step"],
        error=row["error"],
        held=Held.HELD if row["held"] else Held.FREE,
        due_at=codec.moment(row["due_at"]),
        started_at=codec.moment(row["started_at"]),
        ended_at=codec.moment(row["ended_at"]),
        revision=row["revision"],
    )


def as_census(rows: Sequence[Row], oldest: Sequence[SagaLine]) -> Census:
    """Decode counts by name, version, phase and plan."""
    phases: dict[tuple[str, int, str], int] = {}
    plans: dict[str, int] = {}
    for row in rows:
        key = (row["saga"], row["version"], row["phase"])
        phases[key] = phases.get(key, 0) + row["sagas"]
        plans[row["plan"]] = plans.get(row["plan"], 0) + row["sagas"]
    counts = [
        InstanceCount(saga=saga, version=version, phase=phase, sagas=sagas)
        for (saga, version, phase), sagas in phases.items()
    ]
    return Census(open=tuple(counts), plans=plans, oldest=tuple(oldest))


def as_minute(codec: Codec, row: Row) -> Minute:
    """Decode what a minute has seen."""
    return Minute(
        at=codec.from_time(row["at"]),
        started=row["started"],
        completed=row["completed"],
        compensated=row["compensated"],
    )


def as_partition(codec: Codec, row: Row, now: datetime) -> PartitionState:
    """Decode a cursor, with the earliest deadline of its partition."""
    due = codec.moment(row["next_due"])
    return PartitionState(
        partition=row["partition"],
        position=row["position"],
        observed_until=codec.moment(row["observed_until"]),
        next_due=due,
        overdue_seconds=0.0 if due is None else max(0.0, (now - due).total_seconds()),
    )


def as_stored_plan(codec: Codec, row: Row) -> StoredPlan:
    """Decode a plan with its time."""
    return StoredPlan(row=as_plan(row), stored_at=codec.from_time(row["stored_at"]))


def as_letter_line(codec: Codec, row: Row) -> LetterLine:
    """Decode a dead letter without its message."""
    return LetterLine(
        database="",
        id=row["id"],
        service=row["service"],
        saga_id=row["saga_id"],
        step=row["step"],
        error=row["error"],
        attempt=row["attempt"],
        message_id=row["message_id"],
        died_at=codec.from_time(row["due_at"]),
        topic=row["raw_topic"],
        partition=row["raw_partition"],
        offset=row["raw_offset"],
        bytes=row["bytes"],
    )


def marks_of(database: Row, coordinator: Row | None) -> dict[str, str]:
    """Return what moves when there is something new to show."""
    marks = {
        "sent": f"{database['sent']}/{database['unsent']}",
        "dead": f"{database['dead']}/{database['newest']}",
        "audits": str(database["audits"]),
    }
    if coordinator is not None:
        marks |= {"read": str(coordinator["read"]), "plans": str(coordinator["plans"])}
    return marks


def saga_mark_of(rows: Sequence[Row]) -> str:
    """Return a text of everything that a change of a saga moves; "" when nothing of it is stored."""
    values = [value for row in rows for value in row.values()]
    return "/".join("" if value is None else str(value) for value in values) if any(values) else ""
