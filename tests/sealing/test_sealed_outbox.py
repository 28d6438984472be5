"""Seal what an outbox alone publishes, in a transaction of the caller's, blocking or not."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest

from saga import PII, Event
from saga._core.envelope import Delivery
from saga._core.sealing import Opened, Unopened, stands_in
from saga._runtime.sealing import Sealing
from saga.errors import DeclarationError, TooLarge
from saga.outbox import Outbox
from saga.sealing import AesGcm, ClaimCheck, FileBlobs, FileKeys
from tests.outbox.test_joining import Heard

pytestmark = pytest.mark.anyio

CANARY = "canary-4d2e"


class Moved(Event, name="customer.moved", version=3, subject="customer"):
    customer: Annotated[str, PII]
    city: str = "Graz"


@pytest.fixture
async def heard(anyio_backend: Any) -> Heard:
    return Heard()


def delivered(heard: Heard, number: int) -> Delivery:
    """Return a published message as a subscriber fetches it."""
    message = heard.messages[number]
    return Delivery(
        topic=message.topic, partition=0, offset=0, key=message.key, value=message.value, headers=message.headers
    )


async def test_events_are_sealed_in_the_table_and_on_the_topic(heard: Heard, tmp_path: Path) -> None:
    path, keys = tmp_path / "one.db", FileKeys(tmp_path / "keys")
    sealing = Sealing(AesGcm(keys), ClaimCheck(FileBlobs(tmp_path / "blobs")))
    async with Outbox(
        "customers",
        store=f"sqlite:///{path}",
        transport=heard,
        codec=AesGcm(keys),
        claim_check=ClaimCheck(FileBlobs(tmp_path / "blobs")),
    ) as outbox:
        theirs = sqlite3.connect(path, isolation_level=None)
        theirs.execute("begin immediate")
        outbox.join(theirs).publish(Moved(customer=CANARY), key="c-1", tenant="acme")
        outbox.join(theirs).publish(Moved(customer=CANARY, city="x" * 2_000_000), key="c-1", tenant="acme")
        (stored,) = theirs.execute("select payload from saga_outbox order by seq limit 1").fetchone()
        assert stands_in(stored)
        theirs.execute("commit")
        theirs.close()
        await heard.until(2)
    assert not any(CANARY.encode() in (message.value or b"") for message in heard.messages)
    files = [path async for path in anyio.Path(tmp_path).rglob("*") if await path.is_file()]
    assert len([file for file in files if "blobs" in file.parts]) == 1
    assert not any([CANARY.encode() in await file.read_bytes() for file in files])
    opened = [await sealing.open_delivery(delivered(heard, number)) for number in (0, 1)]
    assert all(isinstance(delivery, Opened) for delivery in opened)
    assert [Moved.model_validate_json(delivery.value or b"").city[:4] for delivery in opened] == ["Graz", "xxxx"]
    assert await keys.erase("acme", CANARY)
    closed = await sealing.open_delivery(delivered(heard, 0))
    assert isinstance(closed, Unopened)
    assert "has been erased" in closed.why


async def test_a_sealed_message_is_not_opened_under_the_headers_of_another(heard: Heard, tmp_path: Path) -> None:
    path, codec = tmp_path / "one.db", AesGcm(FileKeys(tmp_path / "keys"))
    async with Outbox("customers", store=f"sqlite:///{path}", transport=heard, codec=codec) as outbox:
        theirs = sqlite3.connect(path, isolation_level=None)
        theirs.execute("begin immediate")
        outbox.join(theirs).publish(Moved(customer="ann"), key="c-1")
        outbox.join(theirs).publish(Moved(customer="ben"), key="c-1")
        theirs.execute("commit")
        theirs.close()
        await heard.until(2)
    first, second = delivered(heard, 0), delivered(heard, 1)
    moved = Delivery(topic="t", partition=0, offset=0, key=b"", value=first.value, headers=second.headers)
    found = await Sealing(codec).open_delivery(moved)
    assert isinstance(found, Unopened)
    assert "moved from another message" in found.why


async def test_what_would_be_too_large_once_sealed_is_refused_before_anything_is_written(
    heard: Heard, tmp_path: Path
) -> None:
    path, codec = tmp_path / "one.db", AesGcm(FileKeys(tmp_path / "keys"))
    async with Outbox("customers", store=f"sqlite:///{path}", transport=heard, codec=codec) as outbox:
        theirs = sqlite3.connect(path, isolation_level=None)
        theirs.execute("begin immediate")
        with pytest.raises(TooLarge):
            outbox.join(theirs).publish(Moved(customer="ann", city="x" * 900_000))
        assert theirs.execute("select count(*) from saga_outbox").fetchone() == (0,)
        theirs.execute("rollback")
        theirs.close()


def test_a_subject_that_is_no_field_is_refused_where_it_is_declared() -> None:
    with pytest.raises(DeclarationError, match=r"subject='custommer' is none of its fields: customer"):

        class Typo(Event, name="customer.typo", version=1, subject="custommer"):  # pyright: ignore[reportUnusedClass]
            customer: str
