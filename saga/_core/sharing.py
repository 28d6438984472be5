"""Share the shards of the outbox out among the relays that are alive, and decide what to publish of a page.

The rules:

1. Every relay that is at work has the same number of shards, give or take one: that of its place in the sorted names.
2. Who has too many gives up the highest; who has too few takes free ones. Nobody takes what another one's lease covers.
3. A key of which a message is under way, or was refused and waits, is left out of every page: nothing overtakes.
4. A refused key waits by itself, twice as long each time. If nothing got through, everything waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from saga._core.plain import SHARDS
from saga._core.rows import OutboxRow

PAUSE_FIRST_SECONDS = 0.1
PAUSE_CAP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendance:
    """Say which relays are at work (the one that asks may be missing), and who holds which shard by a live lease."""

    relays: frozenset[str]
    holders: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Say which shards a relay keeps or takes, and which of those it has it gives up."""

    hold: tuple[int, ...]
    give_up: frozenset[int]
    is_fair: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Say until when a key waits after an error, on the clock of the event loop, and how long the wait was."""

    until: float
    pause_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Be the outcome of a page: rows to delete, by `seq`, keys that wait from now on, and the first error."""

    done: tuple[int, ...]
    refused: Mapping[str, Refused]
    error: BaseException | None


def portion_of(me: str, attendance: Attendance) -> Portion:
    """Return what relay `me` has to hold and to give up; one that is not `is_fair` has fewer than it should."""
    relays = sorted(attendance.relays | {me})
    place = relays.index(me)
    fair = SHARDS // len(relays) + (place < SHARDS % len(relays))
    mine = sorted(shard for shard, holder in attendance.holders.items() if holder == me)
    # Everybody begins to look elsewhere, so that two who come up together do not reach for the same ones.
    first = place * SHARDS // len(relays)
    around = [(first + step) % SHARDS for step in range(SHARDS)]
    free = [shard for shard in around if shard not in attendance.holders]
    held = mine[:fair] + free[: max(0, fair - len(mine))]
    return Portion(hold=tuple(sorted(held)), give_up=frozenset(mine[fair:]), is_fair=len(held) >= fair)


def sent(
    rows: Sequence[OutboxRow],
    results: Sequence[BaseException | None],
    waited: Mapping[str, Refused],
    now: float,
) -> Sent:
    """Return the outcome of a page whose rows were published in order; of a key nothing counts behind an error.

    `waited` are the keys refused before, with their last pause.
    """
    done: list[int] = []
    refused: dict[str, Refused] = {}
    error: BaseException | None = None
    for row, result in zip(rows, results, strict=True):
        key = row.aggregateid
        if result is None and key not in refused:
            done.append(row.seq)
            continue
        error = error or result
        if key not in refused:
            last = waited.get(key)
            pause = PAUSE_FIRST_SECONDS if last is None else min(PAUSE_CAP_SECONDS, last.pause_seconds * 2)
            refused[key] = Refused(until=now + pause, pause_seconds=pause)
    return Sent(done=tuple(done), refused=refused, error=error)


def one_each(rows: Sequence[OutboxRow], refused: AbstractSet[str]) -> list[OutboxRow]:
    """Return the rows without those behind the first of a key that was refused: they would go out with each try."""
    tried: set[str] = set()
    found: list[OutboxRow] = []
    for row in rows:
        if row.aggregateid not in tried:
            found.append(row)
        if row.aggregateid in refused:
            tried.add(row.aggregateid)
    return found


def left_out(busy: AbstractSet[str], refused: Mapping[str, Refused], now: float) -> list[str]:
    """Return the keys that a page has to be without."""
    return [*busy, *(key for key, each in refused.items() if each.until > now and key not in busy)]
