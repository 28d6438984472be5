"""Say what the members of a group subscribe to and what they have been given; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from saga.ports import TopicPartition
from transports.kafka.library import CONSUMERS

_METADATA, _ASSIGNMENT = 3, 4


def subscribed(members: Sequence[Sequence[Any]]) -> frozenset[str]:
    """Return the topics that members of a described group read; none while the group shares out anew."""
    told = [CONSUMERS.METADATA.decode(member[_METADATA]) for member in members if member[_METADATA]]
    return frozenset(str(topic) for one in told for topic in one.subscription)


def given(members: Sequence[Sequence[Any]]) -> frozenset[TopicPartition]:
    """Return the partitions that the members of a described group have."""
    shares = [CONSUMERS.ASSIGNMENT.decode(member[_ASSIGNMENT]) for member in members if member[_ASSIGNMENT]]
    return frozenset(
        TopicPartition(topic=one.topic, partition=one.partition) for share in shares for one in share.partitions()
    )


def places(topics: Collection[str], partitions: Mapping[str, int]) -> frozenset[TopicPartition]:
    """Return all partitions of topics, of those that are there."""
    return frozenset(
        TopicPartition(topic=topic, partition=index) for topic in topics for index in range(partitions.get(topic, 0))
    )
