"""Headers come back as they were, however they are kept."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from outbox.headers import pack_headers, unpack_headers
from outbox.messages import as_outbox, outbox_values
from saga._core.cloudevents import ATTRIBUTE_HEADERS, encode_headers
from saga._core.envelope import Envelope
from saga._core.frozen import replace
from saga._core.rows import OutboxRow
from saga._core.words import Kind
from tests.contracts.store_rows import NOW

EVENT = Envelope(
    id="s-1/second.run",
    source="/saga/second",
    type="race.two",
    kind=Kind.EVENT,
    time=NOW,
    payload=b"{}",
    saga_id="s-1",
    plan="0" * 64,
    step="second.run",
    causation_id="s-1/first.run",
    expires_at=NOW + timedelta(days=7),
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
)
RECORD = replace(EVENT, id="s-1/second.run#run-done", type="saga.run", kind=Kind.RUN)
COLUMNS = (
    "id",
    "aggregatetype",
    "aggregateid",
    "type",
    "payload",
    "headers",
    "record",
    "record_headers",
    "service",
    "shard",
)
NAMES = st.one_of(st.sampled_from(sorted(ATTRIBUTE_HEADERS)), st.text(max_size=3))
VALUES = st.one_of(st.binary(max_size=6), st.sampled_from([b"\t", b"\n", b"\x00", b"i-1", b"t", b"k", b"", b"\xff"]))
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(tuple)


def row(**changes: object) -> OutboxRow:
    kept = {"id": "i-1", "aggregatetype": "second.events", "aggregateid": "k", "type": "t", "payload": b"{}"}
    return OutboxRow(**{**kept, "service": "second", **changes})  # type: ignore[arg-type]


def stored(given: OutboxRow) -> dict[str, object]:
    return {**dict(zip(COLUMNS, outbox_values(given), strict=True)), "seq": 0}


@given(headers=HEADERS, record_headers=HEADERS)
def test_any_headers_come_back(
    headers: tuple[tuple[str, bytes], ...], record_headers: tuple[tuple[str, bytes], ...]
) -> None:
    both = row(headers=headers, record=b"{}", record_headers=record_headers)
    assert as_outbox(stored(both)) == both
    alone = row(payload=None, record=b"{}", record_headers=record_headers)
    assert as_outbox(stored(alone)) == alone


def test_what_stands_beside_them_is_not_kept_twice() -> None:
    both = row(
        id=EVENT.id,
        aggregateid="s-1",
        type=EVENT.type,
        headers=encode_headers(EVENT),
        record=b"{}",
        record_headers=encode_headers(RECORD),
    )
    kept = stored(both)
    assert as_outbox(kept) == both
    assert [line for line in str(kept["record_headers"]).split("\n")[1:] if line != "\t"] == [
        RECORD.id,
        "saga.run",
        "run",
    ]


def test_a_header_nobody_knows_is_kept_as_json() -> None:
    assert pack_headers((("x-own", b"1"),)) == '[["x-own","1"]]'
    assert unpack_headers('[["x-own","1"]]') == (("x-own", b"1"),)


def test_every_attribute_has_a_letter() -> None:
    for name in ATTRIBUTE_HEADERS:
        assert not pack_headers(((name, b"1"),)).startswith("["), name
