"""Share out a group's partitions, and tell each member how many partitions there were then."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from transports.kafka.library import ROUND_ROBIN


@dataclass(slots=True)
class Sharing:
    """Be the client library's way to share out partitions: round robin, with a note of what was shared out.

    The broker hands a returning static member its old assignment, whatever has become of the topics since (KIP-345),
    and only the leader of a group watches its topics: after the return of a static leader nobody does. The note goes
    with the assignment, so each member can hold it against the topics as they are.
    """

    name: str = ROUND_ROBIN.name
    shared: Mapping[str, int] | None = None
    """How many partitions each topic had at the last assignment; None when its leader has left no note."""
    _asked: int = field(default=0)

    def ask(self) -> None:
        """Make the next join a changed one: a broker answers an unchanged one with the old assignment."""
        self._asked += 1

    def metadata(self, topics: Iterable[str]) -> Any:
        """Return what the member tells at a join."""
        told: Any = ROUND_ROBIN.metadata(topics)
        told.user_data = str(self._asked).encode()
        return told

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        """Share out, as the leader."""
        topics = {topic for member in members.values() for topic in member.subscription}
        note = json.dumps({topic: len(cluster.partitions_for_topic(topic) or ()) for topic in sorted(topics)}).encode()
        shares = cast("dict[str, Any]", ROUND_ROBIN.assign(cluster, members))
        for share in shares.values():
            share.user_data = note
        return shares

    def on_assignment(self, assignment: Any) -> None:
        """Take the note of an assignment."""
        self.shared = noted(assignment.user_data)


def noted(note: bytes | None) -> Mapping[str, int] | None:
    """Return the number of partitions by topic, None for what is no such note: another client may be the leader."""
    try:
        found: Any = json.loads(note or b"")
    except ValueError:
        return None
    return cast("Mapping[str, int]", found) if isinstance(found, dict) else None


def outgrown(shared: Mapping[str, int] | None, present: Mapping[str, int]) -> frozenset[str]:
    """Return the topics that have other partitions than were shared out; one with none at present is not there."""
    if shared is None:
        return frozenset()
    return frozenset(topic for topic, count in present.items() if count and count != shared.get(topic, 0))
