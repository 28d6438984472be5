"""Decide whether a consumer stands still although there is something to read; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saga.ports import TopicPartition


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """Remember where a partition was seen last, and since when it has not moved."""

    position: int
    since_seconds: float


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
