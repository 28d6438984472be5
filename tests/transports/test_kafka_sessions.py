"""Hold the requests of a fetch session against what the broker remembers of it (KIP-227)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from transports.kafka.library import ERRORS, FETCH
from transports.kafka.sessions import SessionClient

VERSIONS = {1: (0, 17)}
OLD = {1: (0, 10)}
Positions = Mapping[tuple[str, int], int]


@dataclass
class Broker:
    """Answer as a broker does whose session is `number`, with what `errors` says first."""

    number: int = 7
    versions: Mapping[int, tuple[int, int]] = field(default_factory=lambda: VERSIONS)
    errors: list[int | Exception] = field(default_factory=list[int | Exception])
    sent: list[Any] = field(default_factory=list[Any])
    name: str = "broker"

    async def send(self, node_id: int, request: Any) -> Any:
        assert node_id == 1
        self.sent.append(request.prepare(self.versions))
        error = self.errors.pop(0) if self.errors else 0
        if isinstance(error, Exception):
            raise error
        kind = self.sent[-1].RESPONSE_TYPE
        return kind(0, error, self.number, [])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def request(positions: Positions) -> Any:
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, partition), offset in positions.items():
        topics.setdefault(topic, []).append((partition, offset, 1000))
    return FETCH.FetchRequest(500, 1, 8000, 0, list(topics.items()))


async def sent_for(broker: Broker, *asked: Positions) -> list[tuple[int, int, Any, Any]]:
    """Return session, epoch, what is asked for and what is forgotten of each request."""
    client = SessionClient(broker)
    for positions in asked:
        await client.send(1, request(positions))
    return [(one.session_id, one.session_epoch, _offsets(one.topics), one.forgotten_topics_data) for one in broker.sent]


def _offsets(topics: Any) -> Positions:
    return {(topic, one[0]): one[2] for topic, partitions in topics for one in partitions}


@pytest.mark.anyio
async def test_only_what_has_changed_is_named() -> None:
    both = {("a", 0): 5, ("b", 1): 9}
    assert await sent_for(Broker(), both, both, {("a", 0): 6, ("b", 1): 9}) == [
        (0, 0, both, []),
        (7, 1, {}, []),
        (7, 2, {("a", 0): 6}, []),
    ]


@pytest.mark.anyio
async def test_what_is_not_asked_for_any_more_is_forgotten_and_named_when_it_comes_back() -> None:
    both, one = {("a", 0): 5, ("b", 1): 9}, {("b", 1): 9}
    assert (await sent_for(Broker(), both, one, both))[1:] == [
        (7, 1, {}, [("a", [0])]),
        (7, 2, {("a", 0): 5}, []),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [70, 71])
async def test_a_session_the_broker_has_lost_begins_anew(error: int) -> None:
    one = {("a", 0): 5}
    sent = await sent_for(Broker(errors=[0, error]), one, one, one, one)
    assert sent == [(0, 0, one, []), (7, 1, {}, []), (0, 0, one, []), (7, 1, {}, [])]


@pytest.mark.anyio
async def test_without_a_session_every_request_is_whole() -> None:
    one = {("a", 0): 5}
    assert await sent_for(Broker(number=0), one, one) == [(0, 0, one, []), (0, 0, one, [])]


@pytest.mark.anyio
async def test_after_a_request_without_an_answer_the_session_is_ended_and_another_begins() -> None:
    one = {("a", 0): 5}
    broker = Broker(errors=[0, ERRORS.RequestTimedOutError()])
    client = SessionClient(broker)
    await client.send(1, request(one))
    with pytest.raises(ERRORS.RequestTimedOutError):
        await client.send(1, request(one))
    await client.send(1, request(one))
    last = broker.sent[-1]
    assert (last.session_id, last.session_epoch, _offsets(last.topics)) == (7, 0, one)


@pytest.mark.anyio
async def test_a_broker_too_old_for_it_gets_whole_requests_without_a_session() -> None:
    one = {("a", 0): 5}
    sent = await sent_for(Broker(versions=OLD), one, one)
    assert sent == [(0, -1, one, []), (0, -1, one, [])]


@pytest.mark.anyio
async def test_everything_else_of_the_client_is_the_librarys() -> None:
    assert SessionClient(Broker()).name == "broker"
