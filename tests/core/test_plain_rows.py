"""A plain event is a CloudEvent without headers of a saga, and is checked before anything is written."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import Event
from saga._core.cloudevents import decode
from saga._core.envelope import Delivery
from saga._core.limits import DEFAULT_LIMITS
from saga._core.plain import SHARDS, check_topic, plain_row, shard_of
from saga._core.relay import messages_of
from saga._core.rows import OutboxRow
from saga.errors import DeclarationError, SagaError, SettingsError, TooLarge, Undecodable

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Counted(Event, name="stock.counted", version=2):
    sku: str
    free: int = 0


def row(event: Any = None, **more: Any) -> OutboxRow:
    given_: dict[str, Any] = {
        "message_id": "m-1",
        "source_service": "stock",
        "topic": "stock.events",
        "key": "A-1",
        "now": NOW,
        "traceparent": "",
    }
    return plain_row(Counted(sku="A-1") if event is None else event, **{**given_, **more})


def test_every_attribute_has_its_header() -> None:
    made = row(traceparent=TRACE, tenant="acme", causation_id="c-1", correlation_id="k-1")
    assert made.headers == (
        ("ce_specversion", b"1.0"),
        ("ce_id", b"m-1"),
        ("ce_source", b"/saga/stock"),
        ("ce_type", b"stock.counted.v2"),
        ("ce_time", b"2026-03-01T12:00:00.000000Z"),
        ("content-type", b"application/json"),
        ("ce_correlationid", b"k-1"),
        ("ce_causationid", b"c-1"),
        ("ce_tenant", b"acme"),
        ("traceparent", TRACE.encode()),
    )
    assert (made.aggregatetype, made.aggregateid, made.type) == ("stock.events", "A-1", "stock.counted.v2")
    assert (made.payload, made.service, made.shard) == (b'{"sku":"A-1","free":0}', "stock", shard_of("A-1"))


def test_a_message_with_a_key_says_its_place_and_one_without_is_spread_by_its_id() -> None:
    (keyed,) = messages_of(replace(row(), seq=42))
    assert keyed.headers[-1] == ("ce_sequence", b"00000000000000000042")
    (free,) = messages_of(replace(row(key=None), seq=42))
    assert free.key == b"m-1"
    assert "ce_sequence" not in dict(free.headers)


def test_shards_are_the_same_for_ever() -> None:
    assert [shard_of(key) for key in ("A-1", "o-1", "ä")] == [48, 26, 3]


@given(st.text(min_size=1), st.text(), st.text(), st.text())
def test_what_is_not_refused_can_be_read(key: str, sku: str, tenant: str, causation: str) -> None:
    try:
        event = Counted(sku=sku)
        made = row(event, key=key, tenant=tenant, correlation_id=causation)
    except SagaError:
        return
    (message,) = messages_of(made)
    read = decode(
        Delivery(topic="t", partition=0, offset=0, key=message.key, value=message.value, headers=message.headers),
        DEFAULT_LIMITS,
    )
    assert Counted.model_validate_json(read.payload) == event
    assert (read.id, read.type, read.saga_id) == ("m-1", "stock.counted.v2", "")
    assert 0 <= (made.shard or 0) < SHARDS


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"event": Counted}, DeclarationError, "cannot publish the class Counted"),
        ({"event": {"sku": "A-1"}}, DeclarationError, "cannot publish a dict"),
        ({"event": Event.model_construct()}, DeclarationError, "class OrderPlaced(Event"),
        ({"event": Counted.model_construct(sku=cast("Any", 7))}, Undecodable, "(sku: Input should be a valid string)"),
        ({"event": Counted(sku="A-1").model_copy(update={"free": "no"})}, Undecodable, "model_copy"),
        ({"event": Counted(sku="x" * 2**20)}, TooLarge, "at most 1030144"),
        ({"key": ""}, SettingsError, "or None"),
        ({"key": 7}, SettingsError, "key=str(order.id)"),
        ({"key": "a\x00"}, SettingsError, "control characters"),
        ({"key": "\ud800"}, SettingsError, "no Unicode"),
        ({"key": "ä" * 257}, TooLarge, "key has 514 bytes"),
        ({"topic": "a b"}, SettingsError, "topic 'a b'"),
        ({"topic": ".."}, SettingsError, "topic '..'"),
        ({"topic": "x" * 250}, SettingsError, "up to 249"),
        ({"tenant": "a\nb"}, SettingsError, "tenant"),
        ({"tenant": "x" * 513}, TooLarge, "ce_tenant"),
        ({"correlation_id": "\x7f"}, SettingsError, "correlation_id"),
    ],
)
def test_what_nobody_could_read_is_refused(wrong: dict[str, Any], error: type[SagaError], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        row(**wrong)


def test_a_refusal_shows_no_value() -> None:
    with pytest.raises(Undecodable) as caught:
        row(Counted.model_construct(sku=cast("Any", ["4111 1111 1111 1111"])))
    assert "4111" not in str(caught.value)


def test_a_usable_topic_comes_back() -> None:
    assert check_topic("Orders_v2.events-1") == "Orders_v2.events-1"
