"""Decide whether a consumer stands still although there is something to read, and whether two share one slot; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saga.ports import TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """Remember where a partition was seen last, and since when it has not moved."""

    position: int
    since_seconds: float


# Once or twice may have other reasons, such as an operator who has removed the member.
_RETAKEN = 3

Watch = Mapping[TopicPartition, Standstill]


def observe(
    watch: Watch,
    positions: Mapping[TopicPartition, int | None],
    ends: Mapping[TopicPartition, int],
    now_seconds: float,
) -> Watch:
    """Return the watch after one look: partitions with lag keep their time while they stand still.

    A partition without a position counts as position -1: it should have got one. Look only after a
    fetch that returned nothing, else a slow application would look like a dead consumer.
    """
    after: dict[TopicPartition, Standstill] = {}
    for partition, end in ends.items():
        position = positions.get(partition)
        at = -1 if position is None else position
        if at >= end and position is not None:
            continue
        before = watch.get(partition)
        moved = before is None or before.position != at
        after[partition] = Standstill(position=at, since_seconds=now_seconds) if moved or before is None else before
    return after


def stalled(watch: Watch, now_seconds: float, limit_seconds: float) -> frozenset[TopicPartition]:
    """Return the partitions that have had lag and not moved for the limit: the consumer is to be rebuilt."""
    return frozenset(one for one, still in watch.items() if now_seconds - still.since_seconds >= limit_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Remember the group's generation at the last join, and when this member has had to take its place again."""

    generation: int = -1
    retaken_seconds: tuple[float, ...] = ()

    @property
    def contested(self) -> bool:
        """Return whether somebody else keeps taking the place."""
        return len(self.retaken_seconds) >= _RETAKEN


def seated(seat: Seat, generation: int, now_seconds: float, window_seconds: float) -> Seat:
    """Return the seat after a join.

    A rebalance makes a new generation. A static member that joins and finds the old one has been put out by
    another with its slot: the broker tells neither, both would go on taking the place from each other for ever.
    """
    recent = tuple(at for at in seat.retaken_seconds if now_seconds - at < window_seconds)
    retaken = (*recent, now_seconds) if generation == seat.generation else recent
    return Seat(generation=generation, retaken_seconds=retaken)
