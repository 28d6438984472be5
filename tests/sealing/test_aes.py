"""Seal with AES-256-GCM: nothing but the very message, its type and its key opens it again."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core.driving import driven
from saga._core.envelope import Delivery
from saga._core.sealing import (
    BlobReference,
    SealedPayload,
    Unopened,
    misread,
    pause_for_blob,
    read_place,
    refer_to,
    stands_in,
    write_sealed,
)
from saga.errors import Permanent, SettingsError, StillSealed, Undecodable
from saga.ports.sealing import About, Key
from saga.sealing import AesGcm, MemoryKeys

ABOUT = About(message_id="s1/stock.reserve", type="stock.reserved.v1", tenant="acme", subject="ann")
ASKED = replace(ABOUT, tenant="", subject="")


@given(st.binary(max_size=300))
def test_what_is_sealed_opens_for_the_same_message(payload: bytes) -> None:
    codec = AesGcm(MemoryKeys())
    encoded = driven(codec.encode(payload, ABOUT))
    assert driven(codec.decode(encoded, ASKED)) == payload
    assert len(encoded.data) == 12 + len(payload) + 16


def test_no_two_payloads_are_sealed_alike() -> None:
    codec = AesGcm(MemoryKeys())
    sealed = [driven(codec.encode(b"the same", ABOUT)).data for _ in range(1000)]
    assert len({data[:12] for data in sealed}) == 1000


@pytest.mark.parametrize(
    "other",
    [replace(ASKED, message_id="s2/stock.reserve"), replace(ASKED, type="stock.reserved.v2")],
    ids=["another message", "another type"],
)
def test_a_payload_cannot_be_moved(other: About) -> None:
    codec = AesGcm(MemoryKeys())
    encoded = driven(codec.encode(b"{}", ABOUT))
    with pytest.raises(Undecodable, match="changed, or moved"):
        driven(codec.decode(encoded, other))


@given(st.data())
def test_a_payload_cannot_be_changed(data: st.DataObject) -> None:
    codec = AesGcm(MemoryKeys())
    encoded = driven(codec.encode(b'{"amount":1}', ABOUT))
    at = data.draw(st.integers(0, len(encoded.data) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    changed = encoded.data[:at] + bytes([encoded.data[at] ^ bit]) + encoded.data[at + 1 :]
    with pytest.raises(Undecodable, match="changed, or moved"):
        driven(codec.decode(replace(encoded, data=changed), ASKED))


@pytest.mark.parametrize("length", [0, 11, 12, 27])
def test_a_payload_that_is_cut_off_is_said_to_be(length: int) -> None:
    codec = AesGcm(MemoryKeys())
    encoded = driven(codec.encode(b"{}", ABOUT))
    with pytest.raises(Undecodable, match="changed, or moved"):
        driven(codec.decode(replace(encoded, data=encoded.data[:length]), ASKED))


def test_the_key_of_somebody_else_opens_nothing() -> None:
    keys = MemoryKeys()
    codec = AesGcm(keys)
    encoded = driven(codec.encode(b"{}", ABOUT))
    other = driven(keys.key_for("acme", "ben"))
    with pytest.raises(Undecodable, match="changed, or moved"):
        driven(codec.decode(replace(encoded, key_id=other.id), ASKED))


def test_without_its_key_it_stays_sealed_and_no_attempt_can_do_better() -> None:
    keys = MemoryKeys()
    codec = AesGcm(keys)
    encoded = driven(codec.encode(b"{}", ABOUT))
    driven(keys.erase("acme", "ann"))
    with pytest.raises(StillSealed, match=f"sealed with key '{encoded.key_id}', .* has been erased") as raised:
        driven(codec.decode(encoded, ASKED))
    assert isinstance(raised.value, Permanent)


# --- what stands in the place of a payload ---------------------------------------------------------------


@given(st.binary(max_size=100))
def test_what_stands_for_a_payload_is_read_back(data: bytes) -> None:
    sealed = SealedPayload(codec="A256GCM", key_id="arn:aws:kms:eu-1:12:key/a-b", data=data)
    if data:
        assert read_place(write_sealed(sealed)) == sealed
    blob = read_place(refer_to("a-1", data))
    assert isinstance(blob, BlobReference)
    assert (blob.key, blob.length) == ("a-1", len(data))
    assert blob.is_of(data)
    assert not blob.is_of(data + b"x")


@pytest.mark.parametrize("key_id", ["", "a.b", 'a"b', "a\\b", "ü", "a b", "x" * 201])
def test_a_key_id_that_cannot_stand_beside_a_payload_is_refused(key_id: str) -> None:
    with pytest.raises(ValueError, match="cannot stand beside"):
        write_sealed(SealedPayload(codec="A256GCM", key_id=key_id, data=b"1"))


@given(st.binary(max_size=60))
def test_anything_else_is_undecodable_and_nothing_worse(tail: bytes) -> None:
    for head in (b'"saga-sealed.v1.', b'"saga-blob.v1.', b""):
        try:
            read_place(head + tail)
        except Undecodable:
            continue


def test_no_event_stands_for_a_payload() -> None:
    for payload in (None, b"", b"{}", b'{"a":"saga-sealed.v1.x"}', b'"saga"', b'["\\"saga-sealed.v1.A.k.x\\""]'):
        assert not stands_in(payload)


def test_why_a_payload_could_not_be_read() -> None:
    error = ValueError("does not fit")
    sealed = write_sealed(SealedPayload(codec="A256GCM", key_id="k1", data=b"1"))
    assert misread(error, b'{"a":1}') is error
    assert "key 'k1'" in str(misread(error, sealed))
    assert "key 'k1'" in str(misread(error, b'{"e":{"":["t",' + sealed.replace(b'"', b'\\"') + b"]}}"))
    assert "blob a-1" in str(misread(error, refer_to("a-1", b"x")))
    unopened = Unopened(topic="t", partition=0, offset=0, key=None, value=sealed, why="because")
    assert str(misread(error, sealed, unopened)) == "because"


def test_a_blob_that_is_not_there_is_looked_for_again_for_a_while() -> None:
    plain = Delivery(topic="t", partition=0, offset=0, key=None, value=b"")
    missing = Unopened(topic="t", partition=0, offset=0, key=None, value=b"", why="", blob="a")
    pauses = [pause_for_blob(missing, tried) for tried in range(1, 11)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, None, None]
    assert pause_for_blob(plain, 1) is None
    assert pause_for_blob(replace(missing, blob=""), 1) is None


def test_a_secret_is_not_printed() -> None:
    assert "hidden" not in repr(Key(id="k", secret=b"hidden"))


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    with pytest.raises(SettingsError, match=r"pip install 'saga-choreography\[crypto\]'"):
        AesGcm(MemoryKeys())
