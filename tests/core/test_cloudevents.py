# pyright: reportPrivateUsage=false
"""Hold the codec against the CloudEvents SDK, against itself, and against arbitrary bytes."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from unittest import mock

import pytest
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_binary_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from saga._core import cloudevents
from saga._core.cloudevents import UNTIMED, decode, encode_headers, message
from saga._core.envelope import Envelope, Headers
from saga._core.limits import Limits
from saga._core.words import Kind
from saga.errors import Undecodable
from tests.core.wire_examples import messages
from tests.core.wire_strategies import (
    ENVELOPES,
    JSON_VALUES,
    NAMES,
    PLAIN_ENVELOPES,
    SAGA_ENVELOPES,
    TEXTS,
    TIMES,
    delivery,
)

LIMITS = Limits()
EVENT = messages()["event"]


def headers_with(**changed: bytes | None) -> Headers:
    """Return the example event's headers with some changed, added, or (None) left out."""
    headers = {**dict(EVENT.headers), **{name.replace("__", "-"): value for name, value in changed.items()}}
    return tuple((name, value) for name, value in headers.items() if value is not None)


# --- the SDK as the oracle --------------------------------------------------------------------------------


@given(envelope=ENVELOPES)
def test_the_sdk_reads_what_we_write(envelope: Envelope) -> None:
    """Every attribute arrives at a reader that knows nothing of us."""
    headers = dict(encode_headers(envelope))
    event = from_binary_event(KafkaMessage(headers=headers, key=None, value=envelope.payload))
    attributes = event.get_attributes()
    assert attributes["specversion"] == "1.0"
    assert (attributes["id"], attributes["source"]) == (envelope.id, envelope.source)
    assert (attributes["type"], attributes["time"]) == (envelope.type, envelope.time)
    assert attributes["datacontenttype"] == "application/json"
    ours = {
        "correlationid": envelope.saga_id,
        "causationid": envelope.causation_id,
        "sagakind": envelope.kind.value,
        "sagaid": envelope.saga_id,
        "sagaplan": envelope.plan,
        "sagastep": envelope.step,
        "sagabranch": envelope.branch,
        "sagatenant": envelope.tenant,
    }
    for name, value in ours.items():
        assert attributes.get(name, "") == value
    assert ("expirytime" in attributes) == (envelope.expires_at is not None)
    assert set(headers) - {f"ce_{name}" for name in attributes} <= {"content-type", "traceparent"}


@given(
    ident=TEXTS,
    source=NAMES,
    kind=NAMES,
    time=TIMES,
    data=st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3),
    offset=st.integers(-23 * 60, 23 * 60),
)
def test_we_read_what_the_sdk_writes(
    ident: str, source: str, kind: str, time: datetime, data: dict[str, object], offset: int
) -> None:
    """A foreign CloudEvent is a plain event: its time is in any zone, its correlation ID means nothing."""
    attributes = {
        "id": ident,
        "source": source,
        "type": kind,
        "time": _at_offset(time, offset),
        "datacontenttype": "application/json; charset=utf-8",
        "correlationid": "somebody-else",
        "subject": "x",
    }
    made = to_binary_event(CloudEvent(attributes=attributes, data=data))
    envelope = decode(delivery(made.value, tuple(made.headers.items())), LIMITS)
    assert (envelope.id, envelope.source, envelope.type) == (ident, source, kind)
    assert envelope.time == time
    assert envelope.time.tzinfo is UTC
    assert (envelope.kind, envelope.saga_id) == (Kind.EVENT, "")
    assert envelope.payload == made.value


def _at_offset(time: datetime, minutes: int) -> datetime:
    return time.astimezone(timezone(timedelta(minutes=minutes)))


def test_structured_mode_is_refused_by_name() -> None:
    made = to_structured_event(CloudEvent(attributes={"id": "1", "source": "/x", "type": "t"}, data={}))
    with pytest.raises(Undecodable, match="structured mode"):
        decode(delivery(made.value, tuple(made.headers.items())), LIMITS)


# --- round trips ------------------------------------------------------------------------------------------


@given(envelope=ENVELOPES)
def test_an_envelope_comes_back_as_it_was(envelope: Envelope) -> None:
    sent = message(envelope, "inventory.events", "k")
    assert sent.key == b"k"
    assert decode(delivery(sent.value, sent.headers), LIMITS) == envelope


@given(envelope=SAGA_ENVELOPES, plain=PLAIN_ENVELOPES)
def test_empty_attributes_are_left_out(envelope: Envelope, plain: Envelope) -> None:
    """CloudEvents 1.0.2: an attribute that is present is not empty."""
    for made in (envelope, plain):
        headers = encode_headers(made)
        assert all(value for _, value in headers)
        assert len(dict(headers)) == len(headers)


@given(envelope=SAGA_ENVELOPES, order=st.randoms())
def test_the_order_of_headers_does_not_matter(envelope: Envelope, order: random.Random) -> None:
    headers = list(encode_headers(envelope))
    order.shuffle(headers)
    assert decode(delivery(envelope.payload, tuple(headers)), LIMITS) == envelope


# --- what cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ce_specversion": None}, "ce_specversion is missing"),
        ({"ce_specversion": b"0.3"}, "only CloudEvents 1.0"),
        ({"ce_id": None}, "ce_id missing or empty"),
        ({"ce_id": b""}, "ce_id missing or empty"),
        ({"ce_source": None, "ce_type": None}, "ce_source, ce_type missing"),
        ({"ce_id": b"\xff"}, "ce_id is not UTF-8"),
        ({"ce_id": b"a\x00b"}, "ce_id contains a control character"),
        ({"ce_id": "a\ufdd0b".encode()}, "ce_id contains a control character or a noncharacter"),
        ({"ce_id": b"x" * 513}, "ce_id has 513 bytes"),
        ({"ce_sagakind": b"kept"}, "no kind of message"),
        ({"ce_sagakind": b""}, "no kind of message"),
        ({"ce_time": b"yesterday"}, "ce_time is 'yesterday'"),
        ({"ce_time": None}, "ce_time is missing"),
        ({"ce_expirytime": b"2025-13-01T00:00:00Z"}, "ce_expirytime is"),
        ({"ce_expirytime": None}, "ce_expirytime is missing"),
        ({"ce_sagaplan": None}, "ce_sagaplan is missing"),
        ({"ce_sagakind": b"run", "ce_sagaid": None}, "ce_sagaid is missing"),
        ({"ce_sagabranch": b"5"}, "ce_sagabranch is '5'"),
        ({"ce_sagabranch": b"0of2"}, "ce_sagabranch is '0of2'"),
        ({"ce_sagabranch": b"3of2"}, "ce_sagabranch is '3of2'"),
        ({"ce_sagabranch": b"1of1025"}, "at most 1024 branches"),
        ({"content__type": b"application/avro"}, "only JSON"),
        ({"content__type": b"application/CloudEvents+json"}, "structured mode"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, bytes | None], reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(delivery(EVENT.value, headers_with(**changed)), LIMITS)


def test_a_tombstone_is_refused() -> None:
    with pytest.raises(Undecodable, match="no value"):
        decode(delivery(None, EVENT.headers), LIMITS)


def test_an_attribute_given_twice_is_refused_and_another_header_is_not() -> None:
    with pytest.raises(Undecodable, match="ce_id occurs twice"):
        decode(delivery(EVENT.value, (*EVENT.headers, ("ce_id", b"other"))), LIMITS)
    twice = (*EVENT.headers, ("baggage", b"a=1"), ("baggage", b"b=2"))
    assert decode(delivery(EVENT.value, twice), LIMITS).kind is Kind.EVENT


@pytest.mark.parametrize(
    "content_type", [b"application/json", b"Application/JSON; charset=utf-8", b"text/x+json", None]
)
def test_every_spelling_of_json_is_read(content_type: bytes | None) -> None:
    assert decode(delivery(EVENT.value, headers_with(content__type=content_type)), LIMITS).kind is Kind.EVENT


def test_a_foreign_event_needs_no_time_and_its_saga_attributes_are_ignored() -> None:
    headers = headers_with(ce_sagakind=None, ce_time=None, ce_expirytime=None, ce_sagabranch=b"zzz")
    envelope = decode(delivery(EVENT.value, headers), LIMITS)
    assert (envelope.time, envelope.saga_id, envelope.plan, envelope.branch) == (UNTIMED, "", "", "")


@pytest.mark.parametrize("value", [b"\xff", b"a\nb", b"x" * 500, b""])
def test_an_unusable_traceparent_costs_the_trace_and_not_the_message(value: bytes) -> None:
    expected = replace(decode(delivery(EVENT.value, EVENT.headers), LIMITS), traceparent="")
    assert decode(delivery(EVENT.value, headers_with(traceparent=value)), LIMITS) == expected


@pytest.mark.parametrize("text", ["\xa0", "\u3000", "naïve", "\U0001f600", "\u200b"])
def test_unusual_text_that_cloudevents_allows_is_read(text: str) -> None:
    assert decode(delivery(EVENT.value, headers_with(ce_id=text.encode())), LIMITS).id == text


HEADER_NAMES = st.sampled_from(sorted(cloudevents.ATTRIBUTE_HEADERS)) | st.text(max_size=8)
HEADER_VALUES = st.binary(max_size=40) | st.sampled_from(
    [value for example in messages().values() for _, value in example.headers]
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=20).map(tuple)


@given(value=st.none() | st.binary(max_size=60), headers=HEADERS)
def test_arbitrary_messages_raise_nothing_but_undecodable(value: bytes | None, headers: Headers) -> None:
    _read(value, headers)


@given(example=st.sampled_from(sorted(messages())), changed=HEADERS, dropped=st.sets(HEADER_NAMES, max_size=3))
def test_damaged_messages_raise_nothing_but_undecodable(example: str, changed: Headers, dropped: set[str]) -> None:
    """Starts from good messages, so that the fuzz gets past the first check."""
    good = messages()[example]
    headers = {**dict(good.headers), **dict(changed)}
    _read(good.value, tuple((name, value) for name, value in headers.items() if name not in dropped))


def _read(value: bytes | None, headers: Headers) -> None:
    with contextlib.suppress(Undecodable):
        envelope = decode(delivery(value, headers), LIMITS)
        assert envelope.payload == value
        assert envelope.time.tzinfo is UTC


@given(
    example=st.sampled_from(sorted(messages())),
    changed=HEADERS,
    dropped=st.sets(HEADER_NAMES, max_size=3),
    limits=st.sampled_from([LIMITS, Limits(attribute_bytes=90), Limits(attribute_bytes=20), Limits(branches=1)]),
)
def test_what_is_remembered_of_messages_before_changes_nothing(
    example: str, changed: Headers, dropped: set[str], limits: Limits
) -> None:
    good = messages()[example]
    headers = {**dict(good.headers), **dict(changed)}
    found = {name: value for name, value in headers.items() if name not in dropped}
    value = good.value or b"{}"
    told = _told(lambda: cloudevents._in_full(found, value, limits))
    for _ in range(2):
        assert _told(lambda: cloudevents.decode(delivery(value, tuple(found.items())), limits)) == told


def _told(read: Callable[[], Envelope]) -> Envelope | str:
    try:
        return read()
    except Undecodable as error:
        return str(error)


def test_a_message_like_one_before_is_not_read_in_full_again() -> None:
    decode(delivery(EVENT.value, EVENT.headers), LIMITS)
    with mock.patch.object(cloudevents, "_in_full", side_effect=AssertionError("read in full")):
        assert decode(delivery(EVENT.value, headers_with(ce_id=b"another")), LIMITS).id == "another"
