"""Hold the quick ways of fetching against the client library's own."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher as _Fetcher
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from hypothesis import given
from hypothesis import strategies as st

from transports.kafka.fetching import FetchPlan
from transports.kafka.sessions import asked_by_library
from transports.kafka.wire import FetchAnswer, FetchQuestion

Fetcher: Any = _Fetcher
PLACES = [TopicPartition(topic, number) for topic in ("a", "b.urgent") for number in range(3)]
NUMBERS = st.integers(0, 2**31 - 1)
OFFSETS = st.integers(-1, 2**62)
NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=20)


@given(
    st.lists(st.tuples(NAMES, st.lists(st.tuples(NUMBERS, st.just(-1), OFFSETS, st.just(-1), NUMBERS), max_size=3))),
    st.lists(st.tuples(NAMES, st.lists(NUMBERS, max_size=3)), max_size=2),
    NUMBERS,
)
def test_a_request_has_the_bytes_that_the_library_writes(topics: Any, forgotten: Any, number: int) -> None:
    values = (-1, 500, 1, 8000, 0, number, 3, topics, forgotten, "")
    ours, theirs = FetchQuestion(*values), FetchRequest_v11(*values)
    assert ours.encode() == theirs.encode()
    assert (
        ours.build_request_header(number, "saga").encode()
        == theirs.build_request_header(correlation_id=number, client_id="saga").encode()
    )


ABORTED = st.none() | st.lists(st.tuples(OFFSETS, OFFSETS), max_size=2)
PARTITIONS = st.tuples(
    NUMBERS, st.integers(0, 100), OFFSETS, OFFSETS, OFFSETS, ABORTED, NUMBERS, st.none() | st.binary(max_size=30)
)


@given(st.lists(st.tuples(NAMES, st.lists(PARTITIONS, max_size=3)), max_size=3), NUMBERS)
def test_an_answer_reads_as_the_library_reads_it(topics: Any, number: int) -> None:
    raw = BytesIO(b"\0\0\0\7" + FetchResponse_v11(0, 71, number, topics).encode())
    assert FetchQuestion(*range(10)).parse_response_header(raw).correlation_id == 7
    ours = FetchAnswer.decode(raw)
    raw.seek(4)
    theirs: Any = FetchResponse_v11.decode(raw)
    assert (ours.error_code, ours.session_id, ours.topics) == (71, number, theirs.topics)


def test_an_answer_that_is_cut_off_is_an_error() -> None:
    whole = FetchResponse_v11(0, 0, 1, [("a", [(0, 0, 1, 1, 0, None, -1, b"x")])]).encode()
    with pytest.raises(Exception, match="unpack"):
        FetchAnswer.decode(BytesIO(whole[:20]))


class Fetched:
    """Be what was fetched of a partition and is not consumed yet."""

    def __init__(self, backoff: float) -> None:
        self._backoff = backoff

    def calculate_backoff(self) -> float:
        return self._backoff


def fetcher(leaders: dict[Any, int | None], records: dict[Any, Fetched], in_flight: set[int]) -> Any:
    cluster = SimpleNamespace(_partitions=object(), leader_for_partition=leaders.get)
    made: Any = SimpleNamespace(
        _client=SimpleNamespace(cluster=cluster),
        _records=records,
        _in_flight=in_flight,
        _preferred_read_replica={},
        _client_rack=None,
        _fetch_max_wait_ms=500,
        _fetch_min_bytes=1,
        _fetch_max_bytes=8000,
        _max_partition_fetch_bytes=1000,
        _isolation_level=0,
        _fetcher_timeout=0.2,
    )
    made._select_read_replica = partial(Fetcher._select_read_replica, made)
    made._get_actions_per_node = partial(Fetcher._get_actions_per_node, made)
    return made


def told(actions: Any) -> Any:
    """Return actions as values; the library's requests as ours."""
    requests, resets, seconds, is_blind, resumptions = actions
    asked = {node: _wanted(request) for node, request in requests}
    return asked, {node: set(places) for node, places in resets.items()}, seconds, is_blind, len(resumptions)


def _wanted(request: Any) -> Any:
    ask = request if hasattr(request, "wanted") else asked_by_library(request)
    return dict(ask.wanted), ask.bounds


@given(
    st.lists(st.sampled_from([1, 1, 2, 2, None, -1]), min_size=6, max_size=6),
    st.lists(st.sampled_from([5, 7, 9, None]), min_size=6, max_size=6),
    st.dictionaries(st.sampled_from(PLACES), st.sampled_from([0.0, 0.1, 0.3]), max_size=3),
    st.sets(st.sampled_from([1, 2])),
    st.sampled_from([(), (), (PLACES[1],)]),
)
def test_the_plan_is_what_the_library_would_do(
    leaders: Sequence[int | None],
    positions: Sequence[int | None],
    backoffs: dict[Any, float],
    in_flight: set[int],
    paused: Sequence[Any],
) -> None:
    async def look() -> None:
        assignment: Any = Assignment(PLACES)
        for place, position in zip(PLACES, positions, strict=True):
            if position is not None:
                assignment.state_value(place).seek(position)
        for place in paused:
            assignment.state_value(place).pause()
        records = {place: Fetched(backoff) for place, backoff in backoffs.items()}
        one = fetcher(dict(zip(PLACES, leaders, strict=True)), records, in_flight)
        theirs = told(one._get_actions_per_node(assignment))
        plan = FetchPlan(one)
        assert told(plan.actions(assignment)) == theirs
        assert told(one._get_actions_per_node(assignment)) == theirs, "it has taken over"

    asyncio.run(look())


def test_other_leaders_and_another_assignment_are_noticed() -> None:
    async def look() -> None:
        leaders: dict[Any, int | None] = dict.fromkeys(PLACES, 1)
        one = fetcher(leaders, {}, set())
        plan, assignment = FetchPlan(one), Assignment(PLACES)
        for place in PLACES:
            assignment.state_value(place).seek(3)
        assert set(told(plan.actions(assignment))[0]) == {1}
        leaders.update(dict.fromkeys(PLACES, 2))
        one._client.cluster._partitions = object()
        assert set(told(plan.actions(assignment))[0]) == {2}
        other = Assignment(PLACES[:1])
        other.state_value(PLACES[0]).seek(4)
        assert told(plan.actions(other))[0][2][0] == {PLACES[0]: 4}

    asyncio.run(look())


def test_the_library_sees_the_positions_of_what_was_answered_only() -> None:
    ask = asked_by_library(SimpleNamespace(topics=[], _max_wait_ms=1, _min_bytes=1, _max_bytes=1, _isolation_level=0))
    ask.wanted = {("a", 0): 5, ("a", 1): 6}
    assert ask.topics == []
    ask.answered = [("a", [(1, 0)]), ("b", [(0, 0)])]
    assert ask.topics == [("a", [(1, 6, 0)]), ("b", [(0, -1, 0)])]
