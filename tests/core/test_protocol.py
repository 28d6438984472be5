"""Compare code, golden files and docs/protocol.md (written by `python -m tests.core.wire_examples`)."""

from __future__ import annotations

from dataclasses import fields

import orjson
import pytest

from saga._core import cloudevents, ids, topics
from saga._core.cloudevents import decode
from saga._core.commands import decode_command
from saga._core.limits import Limits
from saga._core.records import decode_outcome, decode_report
from saga._core.words import COMMAND_KINDS, REPORT_KINDS, Cause, Ending, Kind, RunStatus, UndoStatus
from tests.core.wire_examples import COMMANDS, GOLDEN, OUTCOMES, PROTOCOL, REPORTS, block, golden, messages
from tests.core.wire_strategies import delivery

NAMES = sorted(messages())
TEXT = PROTOCOL.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_code_still_writes_the_golden_bytes(name: str) -> None:
    assert golden(messages()[name]) == (GOLDEN / f"{name}.json").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_bytes_are_still_read(name: str) -> None:
    """From the file alone: whatever the code writes today, what lies in a log must stay readable."""
    file = orjson.loads((GOLDEN / f"{name}.json").read_bytes())
    headers = tuple((header, bytes.fromhex(value)) for header, value in file["headers"])
    envelope = decode(delivery(bytes.fromhex(file["value"]), headers), Limits())
    if envelope.kind in REPORT_KINDS:
        assert decode_report(envelope.kind, envelope.payload) == REPORTS[name][1]
    elif envelope.kind in COMMAND_KINDS:
        assert decode_command(envelope.kind, envelope.payload) == COMMANDS[name][1]
    elif envelope.kind is Kind.OUTCOME:
        assert decode_outcome(envelope.payload) == OUTCOMES[name]
    else:
        assert isinstance(orjson.loads(envelope.payload), dict)


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_show_every_example(name: str) -> None:
    assert f"### `{name}`\n\n{block(messages()[name])}" in TEXT


@pytest.mark.parametrize("word", [*Kind, *RunStatus, *UndoStatus, *Ending, *Cause])
def test_the_docs_name_every_word_on_the_wire(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_the_docs_name_every_header_topic_limit_and_the_namespace() -> None:
    for header in cloudevents.ATTRIBUTE_HEADERS | {"traceparent"}:
        assert f"`{header}`" in TEXT
    ours = (topics.RUNS, topics.OUTCOMES, topics.PLANS, topics.MANIFESTS, topics.BREAKERS)
    for topic in (*ours, "<service>.events", "<service>.commands"):
        assert f"`{topic}`" in TEXT
    for limit in fields(Limits):
        assert f"| `{limit.name}` | {getattr(Limits(), limit.name):,} |" in TEXT
    assert str(ids.SAGA_NAMESPACE) in TEXT
