"""Fetch in sessions (KIP-227): a request names only what has changed since the one before, an answer only what is new.

The client library names every partition in every request and gets an answer for each: with the topics of a
service that costs more than all the messages do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transports.kafka.library import FETCH
from transports.kafka.wire import VERSION, FetchQuestion, Parts

Place = tuple[str, int]
Wanted = Mapping[Place, int]
"""Where to read each partition from."""

_SESSION_ERRORS = {70, 71}
_LAST_EPOCH = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Say how long an answer may be waited for, and how much there may be in it."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    partition_bytes: int
    isolation_level: int


class Session:
    """Know what one broker remembers of our requests; a session with epoch 0 begins, and ends the one it names."""

    def __init__(self, number: int = 0, epoch: int = 0, known: Wanted | None = None) -> None:
        self.number = number
        self.epoch = epoch
        self.known: Wanted = known or {}


@dataclass(slots=True, eq=False)
class Ask:
    """Be a fetch request of the library to one broker; takes the place of the library's own.

    `session` is what the broker remembers, and `topics` what it has answered for: the library looks at that only.
    """

    wanted: Wanted
    bounds: Bounds
    session: Session = field(default_factory=Session)
    answered: Parts = field(default_factory=list[Any])

    @property
    def topics(self) -> Parts:
        """Return the positions that were asked for, of the partitions in the answer."""
        wanted = self.wanted
        return [
            (topic, [(one[0], wanted.get((topic, one[0]), -1), 0) for one in parts]) for topic, parts in self.answered
        ]

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Return the request in the version the broker reads; one too old for ours gets the library's own."""
        bounds = self.bounds
        oldest, newest = versions.get(FetchQuestion.API_KEY, (0, 0))
        if not oldest <= VERSION <= newest:
            return self._whole().prepare(versions)
        known, wanted, most = self.session.known, self.wanted, bounds.partition_bytes
        changed: dict[str, list[tuple[int, int, int, int, int]]] = {}
        for place, offset in wanted.items():
            if known.get(place) != offset:
                changed.setdefault(place[0], []).append((place[1], -1, offset, -1, most))
        forgotten: dict[str, list[int]] = {}
        for topic, partition in known.keys() - wanted.keys():
            forgotten.setdefault(topic, []).append(partition)
        return FetchQuestion(
            -1,
            bounds.max_wait_ms,
            bounds.min_bytes,
            bounds.max_bytes,
            bounds.isolation_level,
            self.session.number,
            self.session.epoch,
            list(changed.items()),
            list(forgotten.items()),
            "",
        )

    def _whole(self) -> Any:
        bounds = self.bounds
        topics: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, partition), offset in self.wanted.items():
            topics.setdefault(topic, []).append((partition, offset, bounds.partition_bytes))
        return FETCH.FetchRequest(
            bounds.max_wait_ms, bounds.min_bytes, bounds.max_bytes, bounds.isolation_level, list(topics.items())
        )


def asked_by_library(request: Any) -> Ask:
    """Return a fetch request that the library has made by itself as ours."""
    wanted = {(topic, partition): offset for topic, places in request.topics for partition, offset, _ in places}
    most = max((most for _, places in request.topics for _, _, most in places), default=0)
    bounds = Bounds(
        max_wait_ms=request._max_wait_ms,  # noqa: SLF001 - it has no public names
        min_bytes=request._min_bytes,  # noqa: SLF001
        max_bytes=request._max_bytes,  # noqa: SLF001
        partition_bytes=most,
        isolation_level=request._isolation_level,  # noqa: SLF001
    )
    return Ask(wanted, bounds)


class SessionClient:
    """Be the library's client for its fetcher; one request at a time goes to a broker, as the fetcher does it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sessions: dict[int, Session] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, asked: Any, **options: Any) -> Any:
        """Send a request and return its answer; a fetch request goes in the broker's session."""
        if not isinstance(asked, Ask):
            if not isinstance(asked, FETCH.FetchRequest):
                return await self._client.send(node_id, asked, **options)
            asked = asked_by_library(asked)
        session = asked.session = self._sessions.get(node_id) or Session()
        # Whatever goes wrong from here on, the next request begins a session and ends this one.
        self._sessions[node_id] = Session(session.number)
        answer = await self._client.send(node_id, asked, **options)
        self._sessions[node_id] = following(session, asked.wanted, answer)
        asked.answered = answer.topics
        return answer


def following(session: Session, wanted: Wanted, answer: Any) -> Session:
    """Return the session of the next request; one that the broker did not grant, or has lost, begins anew."""
    if answer.API_VERSION != VERSION or answer.error_code in _SESSION_ERRORS or answer.session_id == 0:
        return Session()
    epoch = 1 if session.epoch == _LAST_EPOCH else session.epoch + 1
    return Session(answer.session_id, epoch, wanted)
