"""Generate envelopes, reports, commands and outcomes for property tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from saga._core.bodies import (
    DETAIL_CHARS,
    ERROR_CHARS,
    CancelRequested,
    Close,
    Closed,
    Committed,
    Outcome,
    RefusalData,
    RunFact,
    RunReported,
    TooLate,
    Undo,
    UndoFailed,
    Undone,
)
from saga._core.envelope import Delivery, Envelope, Headers
from saga._core.words import Cause, Ending, Kind, Priority, RunKey, RunStatus, UndoStatus

TIMES = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
NAMES = st.from_regex(r"[a-z0-9]+([._-][a-z0-9]+){0,3}", fullmatch=True).filter(lambda name: len(name) <= 100)


def _step(service: str, function: str) -> str:
    return f"{service}.{function}"


STEPS = st.builds(_step, NAMES, st.from_regex(r"[a-z_]{1,20}", fullmatch=True))
BRANCHES = st.integers(1, 1024).flatmap(lambda n: st.integers(1, n).map(lambda i: f"{i}of{n}")) | st.just("")
# What CloudEvents allows in a String, without the surrogates and noncharacters.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=100)
TRACEPARENTS = st.from_regex(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", fullmatch=True) | st.just("")
HASHES = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
FREE_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=ERROR_CHARS)
REASONS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=DETAIL_CHARS)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
REFUSALS = st.builds(
    RefusalData,
    type=NAMES,
    data=JSON_VALUES.map(lambda value: json.dumps(value, indent=1).encode()).filter(lambda data: len(data) <= 1024),
)
RUN_KEYS = st.builds(RunKey, step=STEPS, branch=BRANCHES)
FACTS = st.builds(
    RunFact,
    step=STEPS,
    branch=BRANCHES,
    status=st.sampled_from(RunStatus),
    causes=st.lists(RUN_KEYS, max_size=3).map(tuple),
    emits=st.lists(NAMES, max_size=3).map(tuple),
    at=TIMES,
    attempts=st.integers(0, 2**31 - 1),
    refusal=st.none() | REFUSALS,
    undo=st.sampled_from(UndoStatus),
    error=FREE_TEXTS,
)
LISTS = st.lists(FACTS, max_size=3).map(tuple)
REPORTS = st.one_of(
    st.builds(RunReported, fact=FACTS),
    st.builds(Closed, service=NAMES, runs=LISTS),
    st.builds(Committed, service=NAMES, runs=LISTS),
    st.builds(Undone, step=STEPS, branch=BRANCHES),
    st.builds(UndoFailed, step=STEPS, branch=BRANCHES, reason=REASONS),
    st.builds(TooLate, service=NAMES, step=STEPS, branch=BRANCHES, reason=REASONS),
    st.builds(TooLate, service=NAMES, reason=REASONS),
    st.builds(CancelRequested, reason=REASONS),
)
COMMANDS = st.one_of(st.just(Close()), st.builds(Undo, step=STEPS, branch=BRANCHES))
OUTCOMES = st.builds(
    Outcome,
    ending=st.sampled_from(Ending),
    cause=st.none() | st.sampled_from(Cause),
    refusal=st.none() | REFUSALS,
    detail=REASONS,
    at=TIMES,
)
SAGA_ENVELOPES = st.builds(
    Envelope,
    id=TEXTS,
    source=NAMES.map(lambda name: f"/saga/{name}"),
    type=NAMES,
    kind=st.sampled_from(Kind),
    time=TIMES,
    payload=JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    saga_id=st.uuids().map(str),
    plan=HASHES,
    step=STEPS | st.just(""),
    branch=BRANCHES,
    tenant=TEXTS | st.just(""),
    causation_id=TEXTS | st.just(""),
    expires_at=TIMES,
    traceparent=TRACEPARENTS,
    lane=st.sampled_from(Priority),
)
PLAIN_ENVELOPES = st.builds(
    Envelope,
    id=TEXTS,
    source=NAMES.map(lambda name: f"/saga/{name}"),
    type=NAMES,
    kind=st.just(Kind.EVENT),
    time=TIMES,
    payload=JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    tenant=TEXTS | st.just(""),
    traceparent=TRACEPARENTS,
)
ENVELOPES = SAGA_ENVELOPES | PLAIN_ENVELOPES


def delivery(value: bytes | None, headers: Headers) -> Delivery:
    """Return a delivery of `value` and `headers`; where it lay does not matter."""
    return Delivery(topic="inventory.events", partition=0, offset=7, key=b"k", value=value, headers=headers)
