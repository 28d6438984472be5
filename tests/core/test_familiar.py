"""Hold the short way of reading a run record against the whole one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core import familiar
from saga._core.bodies import RunFact, RunReported
from saga._core.familiar import familiar_fact
from saga._core.records import decode_report, encode_report
from saga._core.words import Kind, UndoStatus
from saga.errors import Undecodable
from tests.core.wire_examples import RESERVED
from tests.core.wire_strategies import FACTS, JSON_VALUES

AT = "2026-01-01T12:00:00.000000Z"
BODY = {"run": "stock.reserve", "status": "done", "at": AT, "attempts": 1, "emits": ["stock.reserved.v1"]}


def the_same(payload: bytes) -> RunFact | None:
    """Read a body both ways, and return what the short one says; where it says something both say the same."""
    found = familiar_fact(payload)
    if found is not None:
        assert decode_report(Kind.RUN, payload) == RunReported(fact=found)
    return found


@given(fact=FACTS, later=st.timedeltas(timedelta(), timedelta(days=1)))
def test_whatever_a_record_says_is_read_the_same_in_the_short_way(fact: RunFact, later: timedelta) -> None:
    for each in (fact, replace(fact, at=fact.at + later)):
        the_same(encode_report(RunReported(fact=each)))


def test_an_ordinary_record_goes_the_short_way_and_only_its_time_is_read() -> None:
    assert the_same(encode_report(RunReported(fact=RESERVED))) == RESERVED
    hits = familiar.like_but_for_its_time.cache_info().hits
    later = replace(RESERVED, at=RESERVED.at + timedelta(seconds=1))
    assert the_same(encode_report(RunReported(fact=later))) == later
    assert familiar.like_but_for_its_time.cache_info().hits == hits + 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"[]",
        json.dumps(BODY).replace(": ", ":").replace(AT, "2026-01-01T12:00:00Z").encode(),
        json.dumps(BODY).replace(": ", ":").replace(AT, "2026-13-01T12:00:00.000000Z").encode(),
        json.dumps(BODY).replace(": ", ":").replace(AT, "2026-01-01T12:00:00.00000²Z").encode(),
        json.dumps({"refusal": {"at": AT}, **BODY}).replace(": ", ":").encode(),
        json.dumps({"other": {"at": AT}, **BODY}).replace(": ", ":").encode(),
        json.dumps({"error": f'"at":"{AT}"', **BODY}).replace(": ", ":").encode(),
        json.dumps(BODY).replace(": ", ":").replace('"attempts"', f'"at":"{AT[:-2]}1Z","attempts"').encode(),
        json.dumps(BODY).replace(": ", ":").replace(AT, AT + AT).encode(),
        json.dumps({**BODY, "error": "x" * 2000}).replace(": ", ":").encode(),
    ],
)
def test_an_odd_record_is_read_in_full(payload: bytes) -> None:
    assert the_same(payload) is None


@given(changed=st.dictionaries(st.sampled_from(["at", *BODY, "causes", "fan_out", "undo"]), JSON_VALUES, max_size=2))
def test_a_damaged_record_is_never_better_understood_in_the_short_way(changed: dict[str, object]) -> None:
    payload = json.dumps({**BODY, **changed}, separators=(",", ":")).encode()
    try:
        whole = decode_report(Kind.RUN, payload)
    except Undecodable:
        assert familiar_fact(payload) is None
    else:
        assert familiar_fact(payload) in (None, getattr(whole, "fact", None))


def test_what_is_known_of_the_undo_is_read_too() -> None:
    undone = replace(RESERVED, undo=UndoStatus.DONE)
    assert the_same(encode_report(RunReported(fact=undone))) == undone
