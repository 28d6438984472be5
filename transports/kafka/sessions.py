"""Fetch in sessions (KIP-227): a request names only what has changed since the one before, an answer only what is new.

The client library names every partition in every request and gets an answer for each: with the topics of a
service that costs more than all the messages do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transports.kafka.library import FETCH

Place = tuple[str, int]
Wanted = Mapping[Place, tuple[int, int]]
"""Where to read a partition from, and how many bytes of it at most."""

_VERSION = 11
_SESSION_ERRORS = {70, 71}
_LAST_EPOCH = 2**31 - 1


class Session:
    """Know what one broker remembers of our requests; a session with epoch 0 begins, and ends the one it names."""

    def __init__(self, number: int = 0, epoch: int = 0, known: Wanted | None = None) -> None:
        self.number = number
        self.epoch = epoch
        self.known: Wanted = known or {}


class Request:
    """Be a fetch request of the library in one session; takes the place of the library's own."""

    def __init__(self, asked: Any, session: Session) -> None:
        self._asked = asked
        self._session = session
        self.wanted: Wanted = {
            (topic, partition): (offset, most) for topic, places in asked.topics for partition, offset, most in places
        }

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """Return the request in the version the broker reads; one too old for ours gets the library's own."""
        oldest, newest = versions.get(self._asked.API_KEY, (0, 0))
        if not oldest <= _VERSION <= newest:
            return self._asked.prepare(versions)
        known, wanted, asked = self._session.known, self.wanted, self._asked
        changed: dict[str, list[tuple[int, int, int, int, int]]] = {}
        for place, want in wanted.items():
            if known.get(place) != want:
                changed.setdefault(place[0], []).append((place[1], -1, want[0], -1, want[1]))
        forgotten: dict[str, list[int]] = {}
        for topic, partition in known.keys() - wanted.keys():
            forgotten.setdefault(topic, []).append(partition)
        return FETCH.FetchRequest_v11(
            -1,
            asked._max_wait_ms,  # noqa: SLF001 - it has no public names
            asked._min_bytes,  # noqa: SLF001
            asked._max_bytes,  # noqa: SLF001
            asked._isolation_level,  # noqa: SLF001
            self._session.number,
            self._session.epoch,
            list(changed.items()),
            list(forgotten.items()),
            asked._rack_id,  # noqa: SLF001
        )


class SessionClient:
    """Be the library's client for its fetcher; one request at a time goes to a broker, as the fetcher does it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._sessions: dict[int, Session] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, asked: Any, **options: Any) -> Any:
        """Send a request and return its answer; a fetch request goes in the broker's session."""
        if not isinstance(asked, FETCH.FetchRequest):
            return await self._client.send(node_id, asked, **options)
        session = self._sessions.get(node_id) or Session()
        # Whatever goes wrong from here on, the next request begins a session and ends this one.
        self._sessions[node_id] = Session(session.number)
        request = Request(asked, session)
        answer = await self._client.send(node_id, request, **options)
        self._sessions[node_id] = following(session, request.wanted, answer)
        return answer


def following(session: Session, wanted: Wanted, answer: Any) -> Session:
    """Return the session of the next request; one that the broker did not grant, or has lost, begins anew."""
    if answer.API_VERSION != _VERSION or answer.error_code in _SESSION_ERRORS or answer.session_id == 0:
        return Session()
    epoch = 1 if session.epoch == _LAST_EPOCH else session.epoch + 1
    return Session(answer.session_id, epoch, wanted)
