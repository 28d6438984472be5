"""Decide what becomes of dead letters that a person replays or discards."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

import orjson

from saga._core.audit import AuditRow
from saga._core.emit import COORDINATOR
from saga._core.rows import DeliveryKey, DeliveryRow, OutboxRow
from saga._core.words import Reason

ERROR_PREFIX_CHARS = 80

_REPLAYS = UUID("dfafdb61-fa92-5efd-adaa-4b9780a12e77")


class Verb(StrEnum):
    """Name what a person does to a dead letter."""

    REPLAY = "replay"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Say which dead letters are meant: those that fit every field that is not empty.

    `error` is a text that the error contains, letter by letter. `up_to_id` leaves out what died later.
    """

    service: str = ""
    saga_id: str = ""
    step: str = ""
    error: str = ""
    ids: tuple[int, ...] = ()
    up_to_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterGroup:
    """Count the dead letters of one service and step whose errors begin alike."""

    service: str
    step: str
    error: str
    letters: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Say who acts, why, and when (the database clock)."""

    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Hold what a replay writes: letters that wait again, letters used up, rows to publish, the trail."""

    retry: tuple[int, ...] = ()
    used: tuple[int, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    audits: tuple[AuditRow, ...] = ()


def keys_of(letters: Iterable[DeliveryRow]) -> list[DeliveryKey]:
    """Return the keys, sorted, that letters would wait under; one that cannot be read has none."""
    return sorted({key for letter in letters if (key := _key(letter)) is not None})


def _key(letter: DeliveryRow) -> DeliveryKey | None:
    return replace(letter, reason=Reason.RETRY).key


def replay(letters: Iterable[DeliveryRow], waiting: AbstractSet[DeliveryKey], by: By) -> Replay:
    """Return what replaying `letters` writes; `waiting` are the keys that rows wait under already.

    A service's letter waits for an attempt again. One whose key waits already is that same message and
    becomes one with its row. The coordinator reads its records from the log alone, so a record of its own
    is published again under the same key; one without a value can never be read and stays.
    """
    retry: list[int] = []
    used: list[int] = []
    outbox: list[OutboxRow] = []
    audits: list[AuditRow] = []
    after: dict[str, object]
    taken = set(waiting)
    for letter in sorted(letters, key=lambda letter: letter.id):
        key = _key(letter)
        if letter.service == COORDINATOR:
            if letter.raw.value is None:
                continue
            outbox.append(_published_again(letter))
            used.append(letter.id)
            after = {"published": letter.raw.topic}
        elif key is not None and key in taken:
            used.append(letter.id)
            after = {"merged": "with the row that waits for the same message"}
        else:
            retry.append(letter.id)
            after = {"reason": Reason.RETRY.value, "attempt": 0}
        if key is not None:
            taken.add(key)
        audits.append(_audit(letter, Verb.REPLAY, by, after))
    return Replay(retry=tuple(retry), used=tuple(used), outbox=tuple(outbox), audits=tuple(audits))


def discarded(letters: Iterable[DeliveryRow], by: By) -> tuple[AuditRow, ...]:
    """Return the trail of letters that are deleted: where each lay in the log, but not what was in it."""
    return tuple(_audit(letter, Verb.DISCARD, by, None) for letter in letters)


def _published_again(letter: DeliveryRow) -> OutboxRow:
    raw = letter.raw
    place = f"{raw.topic}/{raw.partition}/{raw.offset}"
    return OutboxRow(
        id=str(uuid5(_REPLAYS, place)),
        aggregatetype=raw.topic,
        aggregateid=(raw.key or b"").decode("utf-8", "replace").replace("\x00", "\ufffd"),
        type="saga.replayed",
        payload=raw.value,
        headers=raw.headers,
        service=COORDINATOR,
    )


def _audit(letter: DeliveryRow, verb: Verb, by: By, after: dict[str, object] | None) -> AuditRow:
    raw = letter.raw
    before = {
        "service": letter.service,
        "step": letter.step,
        "message": letter.message_id,
        "reason": letter.reason.value,
        "attempt": letter.attempt,
        "error": letter.error,
        "topic": raw.topic,
        "partition": raw.partition,
        "offset": raw.offset,
        "bytes": len(raw.value or b""),
    }
    return AuditRow(
        at=by.at,
        who=by.who,
        why=by.why,
        verb=verb.value,
        saga_id=letter.saga_id,
        target=f"dead letter {letter.id}",
        before=orjson.dumps(before),
        after=orjson.dumps(after),
    )
