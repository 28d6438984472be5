"""Hold the bodies' codecs against themselves and against arbitrary JSON."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core.bodies import Command, Outcome, RefusalData, Report, RunFact, RunReported, UndoFailed, kind_of
from saga._core.commands import decode_command, encode_command
from saga._core.facts import fact_from_json, fact_to_json
from saga._core.limits import check_depth
from saga._core.records import decode_outcome, decode_report, encode_outcome, encode_report
from saga._core.words import COMMAND_KINDS, REPORT_KINDS, Kind
from saga.errors import TooLarge, Undecodable
from tests.core.wire_examples import FAILED, OUTCOMES, REFUSED, RESERVED
from tests.core.wire_strategies import COMMANDS, FACTS, JSON_VALUES, REPORTS
from tests.core.wire_strategies import OUTCOMES as OUTCOME_VALUES

KEYS = [
    "run",
    "status",
    "at",
    "attempts",
    "causes",
    "emits",
    "refusal",
    "undo",
    "error",
    "service",
    "runs",
    "reason",
]


@given(report=REPORTS)
def test_a_report_comes_back_as_it_was(report: Report) -> None:
    assert decode_report(kind_of(report), encode_report(report)) == report


@given(command=COMMANDS)
def test_a_command_comes_back_as_it_was(command: Command) -> None:
    assert decode_command(kind_of(command), encode_command(command)) == command


@given(outcome=OUTCOME_VALUES)
def test_an_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    assert decode_outcome(encode_outcome(outcome)) == outcome


@given(fact=FACTS)
def test_a_fact_survives_inside_other_json(fact: RunFact) -> None:
    assert fact_from_json(orjson.loads(orjson.dumps(fact_to_json(fact)))) == fact


def test_a_common_run_record_is_small() -> None:
    assert len(encode_report(RunReported(fact=RESERVED))) <= 160


def test_keys_of_a_newer_sender_are_ignored() -> None:
    body = {**fact_to_json(RESERVED), "new": [1, 2]}
    assert decode_report(Kind.RUN, orjson.dumps(body)) == RunReported(fact=RESERVED)


def test_an_odd_error_message_does_not_keep_a_record_from_being_written() -> None:
    """Exceptions may name files with undecodable names (PEP 383) and anything else."""
    fact = replace(FAILED, error="a\ud800b\x00c" + "x" * 500)
    sent = decode_report(Kind.RUN, encode_report(RunReported(fact=fact)))
    assert isinstance(sent, RunReported)
    assert sent.fact.error.startswith("a?bcxx")
    assert len(sent.fact.error) < 201


def test_a_long_error_of_another_sender_is_cut() -> None:
    body = orjson.dumps({**fact_to_json(FAILED), "error": "y" * 1000})
    sent = decode_report(Kind.RUN, body)
    assert isinstance(sent, RunReported)
    assert sent.fact.error == "y" * 200


def test_a_refusal_over_its_limit_is_not_written() -> None:
    big = RefusalData(type="stock.out.v1", data=b'"' + b"x" * 1023 + b'"')
    with pytest.raises(TooLarge, match=r"stock\.out\.v1 has 1025 bytes"):
        encode_report(RunReported(fact=replace(REFUSED, refusal=big)))
    with pytest.raises(TooLarge):
        encode_outcome(replace(OUTCOMES["outcome-compensated"], refusal=big))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"run": ""}, "run is"),
        ({"run": "/2of5"}, "run is"),
        ({"run": None}, "run is"),
        ({"run": "a\x00"}, "run is"),
        ({"run": "x" * 600}, "run is"),
        ({"status": "expired"}, "write one of waiting"),
        ({"at": "2025-02-30T00:00:00Z"}, "at is"),
        ({"at": 1}, "at is"),
        ({"attempts": True}, "attempts is"),
        ({"attempts": -1}, "attempts is"),
        ({"attempts": 2**31}, "attempts is"),
        ({"attempts": 1.5}, "attempts is"),
        ({"causes": "x"}, "causes is not a JSON array"),
        ({"causes": [1]}, "run is"),
        ({"emits": [""]}, "a name is"),
        ({"undo": "x"}, "undo is"),
        ({"error": 1}, "error is not a string"),
        ({"refusal": []}, "refusal is not a JSON object"),
        ({"refusal": {"type": "t.v1"}}, "refusal.data must be"),
        ({"refusal": {"type": "t.v1", "data": "{"}}, "leaves a bracket open|not JSON"),
        ({"refusal": {"type": "t.v1", "data": "[" * 80 + "]" * 80}}, "nests deeper"),
        ({"refusal": {"type": "t.v1", "data": '"' + "x" * 1030 + '"'}}, "1024 bytes"),
        ({"refusal": {"data": "{}"}}, "type is"),
    ],
)
def test_what_is_wrong_with_a_fact_is_said(change: dict[str, object], reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        fact_from_json({**fact_to_json(RESERVED), **change})


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"\xff", b'{"a":', b"[" * 5000])
@pytest.mark.parametrize("kind", sorted(REPORT_KINDS))
def test_what_is_not_an_object_is_refused(kind: Kind, payload: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_report(kind, payload)


def test_a_kind_in_the_wrong_place_is_refused() -> None:
    for kind in set(Kind) - REPORT_KINDS:
        with pytest.raises(Undecodable, match="not a report"):
            decode_report(kind, b"{}")
    for kind in set(Kind) - COMMAND_KINDS:
        with pytest.raises(Undecodable, match="not a command"):
            decode_command(kind, b"{}")


WORDS: list[Any] = ["done", "a.b/1of2", "2025-03-01T00:00:00Z", [{}]]
FIELDS: st.SearchStrategy[Any] = JSON_VALUES | FACTS.map(fact_to_json) | st.sampled_from(WORDS)
OBJECTS = st.dictionaries(st.sampled_from([*KEYS, "ending", "cause", "detail"]), FIELDS, max_size=8)
BODIES = st.binary(max_size=40) | (JSON_VALUES | OBJECTS).map(lambda value: json.dumps(value).encode())


@given(kind=st.sampled_from(Kind), payload=BODIES)
def test_arbitrary_bodies_raise_nothing_but_undecodable(kind: Kind, payload: bytes) -> None:
    for read in (
        lambda: decode_report(kind, payload),
        lambda: decode_command(kind, payload),
        lambda: decode_outcome(payload),
    ):
        with contextlib.suppress(Undecodable):
            read()


@given(fact=FACTS, changed=st.dictionaries(st.sampled_from(KEYS), JSON_VALUES, max_size=3))
def test_damaged_facts_raise_nothing_but_undecodable(fact: RunFact, changed: dict[str, object]) -> None:
    with contextlib.suppress(Undecodable):
        fact_from_json({**fact_to_json(fact), **changed})


def test_reports_stay_within_the_depth_limit() -> None:
    deep = UndoFailed(step="a.b", reason="[" * 100)
    check_depth(encode_report(deep), 64)
