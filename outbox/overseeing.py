"""Be what both databases share when a console looks at them: which index a question goes by, and how rows are read."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from outbox.codec import Codec, Row, as_plan
from saga._core.inspecting import InstanceCount
from saga._core.overview import Census, Minute
from saga._core.queues import LetterLine
from saga._core.running import PartitionState, StoredPlan
from saga._core.sagas import Held, SagaLine, SagaQuery, is_open, is_troubled, line_place

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
