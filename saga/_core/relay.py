"""Decide what the relay takes in hand, what it deletes, what it forgets, and when it sweeps again.

The rules:

1. A row is in hand from the moment it is taken until it is deleted or forgotten; a row in hand is not taken again.
   A row of a shard is never taken: its owner publishes it.
2. A row is deleted once every message of it is acknowledged, never before.
3. A row with a failed message, or one there is no room for, is forgotten: it still lies in the database, and
   the sweep comes for it when it is old enough.
4. A full page that went out whole is followed by the next page at once; anything else by a pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from saga._core.envelope import Message
from saga._core.frozen import builder
from saga._core.plain import with_sequence
from saga._core.rows import OutboxRow
from saga._core.topics import RUNS

_message = builder(Message)


class Pace(StrEnum):
    """Say when to ask for the next page."""

    AT_ONCE = "at_once"
    LATER = "later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Be the answer to rows handed over: what is taken, and how many there is no room for."""

    taken: tuple[OutboxRow, ...]
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Be the outcome of a batch, by `seq`: what may be deleted, what is forgotten, and the first error."""

    done: tuple[int, ...]
    forgotten: tuple[int, ...]
    error: BaseException | None


def messages_of(row: OutboxRow) -> tuple[Message, ...]:
    """Return the messages of a row: its event if there is one, its run record if there is one."""
    key = row.aggregateid.encode()
    if row.payload is None:
        return () if row.record is None else (_record(row, key),)
    event = _message(topic=row.aggregatetype, key=key, value=row.payload, headers=with_sequence(row))
    return (event,) if row.record is None else (event, _record(row, key))


def _record(row: OutboxRow, key: bytes) -> Message:
    return _message(topic=RUNS, key=key, value=row.record, headers=row.record_headers)


def consider(rows: Sequence[OutboxRow], in_hand: AbstractSet[int], limit: int) -> Offer:
    """Return what to take of `rows` while at most `limit` may be in hand; rows in hand already are left out."""
    new = [row for row in rows if row.seq not in in_hand and row.shard is None]
    room = max(0, limit - len(in_hand))
    return Offer(taken=tuple(new[:room]), refused=max(0, len(new) - room))


def settle(rows: Sequence[OutboxRow], counts: Sequence[int], results: Sequence[BaseException | None]) -> Settled:
    """Return the outcome of a batch; `counts` says how many of `results` belong to each row, in order."""
    if list(results).count(None) == len(results) == sum(counts):
        return Settled(done=tuple([row.seq for row in rows]), forgotten=(), error=None)
    done: list[int] = []
    forgotten: list[int] = []
    error: BaseException | None = None
    at = 0
    for row, count in zip(rows, counts, strict=True):
        failure = next((result for result in results[at : at + count] if result is not None), None)
        at += count
        error = error or failure
        (done if failure is None else forgotten).append(row.seq)
    return Settled(done=tuple(done), forgotten=tuple(forgotten), error=error)


def pace_after(rows: int, limit: int, settled: Settled) -> Pace:
    """Return when to sweep again after a page of `rows`."""
    return Pace.AT_ONCE if rows >= limit and not settled.forgotten else Pace.LATER
