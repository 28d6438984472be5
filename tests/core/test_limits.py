"""Prove that limits hold before anything is decoded, quickly, and exactly."""

from __future__ import annotations

import json
import time
from typing import cast
from unittest import mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core import cloudevents
from saga._core.envelope import Message
from saga._core.limits import Limits, check_delivery, check_depth, check_outgoing
from saga.errors import TooLarge, Undecodable
from tests.core.wire_examples import messages
from tests.core.wire_strategies import JSON_VALUES, delivery

LIMITS = Limits()
EVENT = messages()["event"]


def depth_of(value: object) -> int:
    """Return how deep `value` nests; the slow, obvious way."""
    if isinstance(value, dict):
        return 1 + max(map(depth_of, cast("dict[str, object]", value).values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, cast("list[object]", value)), default=0)
    return 0


BRACKETED = st.recursive(
    st.text('[]{}"\\', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=3),
    max_leaves=20,
)


@given(value=BRACKETED | JSON_VALUES, limit=st.integers(0, 6), spaced=st.booleans())
def test_the_scan_agrees_with_the_parser_about_depth(value: object, limit: int, spaced: bool) -> None:
    text = json.dumps(value, indent=1 if spaced else None).encode()
    if depth_of(value) <= limit:
        check_depth(text, limit)
    else:
        with pytest.raises(Undecodable, match="nests deeper"):
            check_depth(text, limit)


@given(text=st.text('[]{}"\\a,:', max_size=40), limit=st.integers(0, 4))
def test_what_passes_the_scan_and_parses_is_not_too_deep(text: str, limit: int) -> None:
    """Malformed text may pass or not; what matters is that nothing deep gets to the parser's caller."""
    try:
        check_depth(text.encode(), limit)
        value = orjson.loads(text)
    except (Undecodable, orjson.JSONDecodeError):
        return
    assert depth_of(value) <= limit


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 10_000_000,
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'"' * 1_000_000 + b"[" * 65,
        b'"\\"' * 300_000 + b"[" * 65,
        b"\\" * 1_000_000 + b"[" * 65,
        (b"[" * 65 + b"]" * 65) * 8_000,
    ],
    ids=["10 MB", "1 MB", "objects", "quotes", "escaped quotes", "backslashes", "many"],
)
def test_hostile_values_are_refused_without_decoding_and_at_once(value: bytes) -> None:
    """No parser is called; the generous bound on time only tells linear from quadratic."""
    begun = time.process_time()
    with (
        mock.patch.object(orjson, "loads", side_effect=AssertionError("decoded")),
        pytest.raises(Undecodable),
    ):
        cloudevents.decode(delivery(value, EVENT.headers), LIMITS)
    assert time.process_time() - begun < 0.5


def test_an_oversize_value_is_refused_by_its_length_alone() -> None:
    begun = time.process_time()
    with pytest.raises(Undecodable, match="10000000 bytes"):
        check_delivery(delivery(b"[" * 10_000_000, ()), LIMITS)
    assert time.process_time() - begun < 0.05


@pytest.mark.parametrize(
    ("limits", "headers", "value", "reason"),
    [
        (Limits(headers=1), (("a", b""), ("b", b"")), b"", "2 headers, at most 1"),
        (Limits(header_bytes=5), (("ab", b"1234"),), b"", "headers have 6 bytes"),
        (Limits(value_bytes=3), (), b"1234", "value has 4 bytes"),
        (Limits(depth=1), (), b"[[]]", "value nests deeper than 1"),
    ],
)
def test_each_limit_holds_in_both_directions(
    limits: Limits, headers: tuple[tuple[str, bytes], ...], value: bytes, reason: str
) -> None:
    with pytest.raises(Undecodable, match=reason):
        check_delivery(delivery(value, headers), limits)
    with pytest.raises(TooLarge, match=f"message to x.events: {reason}"):
        check_outgoing(Message(topic="x.events", key=b"k", value=value, headers=headers), limits)


def test_an_attribute_no_reader_would_accept_is_not_sent() -> None:
    long = Message(topic="x.events", key=b"k", value=b"{}", headers=(("ce_sagatenant", b"t" * 513),))
    with pytest.raises(TooLarge, match="ce_sagatenant has 513 bytes"):
        check_outgoing(long, LIMITS)


@pytest.mark.parametrize("name", sorted(messages()))
def test_every_example_is_within_the_limits(name: str) -> None:
    example = messages()[name]
    check_outgoing(example, LIMITS)
    check_delivery(delivery(example.value, example.headers), LIMITS)


def test_what_is_exactly_at_a_limit_passes() -> None:
    check_depth(b"[" * 64 + b"]" * 64, 64)
    check_delivery(delivery(b'"' + b"x" * (1024 * 1024 - 2) + b'"', ()), LIMITS)
    check_delivery(delivery(b"", (("a", b"b"),) * 64), LIMITS)
    check_delivery(delivery(None, (("a", b"b" * (16 * 1024 - 1)),)), LIMITS)
