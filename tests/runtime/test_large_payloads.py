"""Let large payloads lie in blobs: messages and rows stay small, and a blob that is not there hurts one message."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import Ended, Ending, SettingsError, TooLarge
from saga._runtime.sealing import Sealing
from saga.ports import Claim, Store
from saga.sealing import ClaimCheck, MemoryBlobs, MemoryKeys
from tests.runtime.sealing_world import CANARY, Ordered, Recording, Shop, open_shop, until
from tests.runtime.world import VirtualClock

pytestmark = pytest.mark.anyio

_NUMBERS = count(1)
MANY = 3_000_000
A_MESSAGE = 1024 * 1024
A_PAYLOAD = 1030144


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class LateBlobs(MemoryBlobs):
    """Be blobs that are not visible at once: the first `unseen` looks at any of them find nothing."""

    unseen = 0

    async def get(self, key: str) -> bytes | None:
        """Return a blob, or nothing yet."""
        if self.unseen:
            self.unseen -= 1
            return None
        return await super().get(key)


class Warehouse:
    """Be a shop with blobs, and the ways to look behind it."""

    def __init__(self, shop: Shop, store: Store, transport: Recording) -> None:
        self.shop = shop
        self.store = store
        self.transport = transport

    async def order(self, note: str, how: str = "well") -> Ending:
        """Place an order and return how its saga ends."""
        handle = await self.shop.place(Ordered(customer="ann", note=note, how=how))
        ended: Ended = await handle.outcome(300)
        return ended.ending

    async def rows(self, sql: str) -> list[Mapping[str, Any]]:
        """Read rows of any table."""
        async with self.store.unit(Claim(service="shop", sagas=())) as unit:
            return await unit.db.fetch(sql)

    async def letters(self) -> list[Mapping[str, Any]]:
        """Return the dead letters, but for those of the subscriber that always fails."""
        return await self.rows("select * from saga_delivery where reason = 'dead' and step <> 'shop.choke'")

    async def two_letters(self) -> bool:
        """Return whether two steps have a dead letter."""
        return len(await self.letters()) == 2


@asynccontextmanager
async def warehouse(claim_check: ClaimCheck | None, keys: MemoryKeys | None = None) -> AsyncGenerator[Warehouse]:
    """Open a shop on SQLite in memory."""
    address, clock, shop = f"sqlite:///:memory:?name=blobs{next(_NUMBERS)}", VirtualClock(), Shop()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(Recording())
        await stack.enter_async_context(
            open_shop(shop, store, coordination, transport, keys=keys, claim_check=claim_check)
        )
        yield Warehouse(shop, store, transport)


@pytest.mark.parametrize("keys", [None, MemoryKeys()], ids=["clear", "sealed"])
async def test_a_payload_over_a_message_travels_in_a_blob(keys: MemoryKeys | None) -> None:
    blobs = MemoryBlobs()
    async with warehouse(ClaimCheck(blobs), keys) as there:
        note = CANARY * (MANY // len(CANARY))
        assert await there.order(note) is Ending.COMPLETED
        assert await there.order(note, "undo") is Ending.COMPENSATED
        assert note in there.shop.heard
        assert there.shop.endings[0].start.note == note  # type: ignore[attr-defined]
        events = [message for message in there.transport.published if message.topic.endswith(".events")]
        assert max(len(message.value or b"") for message in events) < 200
        widest = "select max(coalesce(length(input), 0) + coalesce(length(result), 0)) as bytes from saga_run"
        assert (await there.rows(widest))[0]["bytes"] < 4000
    assert len(blobs.stored) > 8
    assert all((CANARY.encode() in data) is (keys is None) for data in blobs.stored.values())


async def test_a_payload_under_the_threshold_stays_in_its_message() -> None:
    blobs = MemoryBlobs()
    async with warehouse(ClaimCheck(blobs, threshold_bytes=4096)) as there:
        assert await there.order("x" * 3000) is Ending.COMPLETED
        assert not blobs.stored
        assert await there.order("x" * 4096) is Ending.COMPLETED
        assert blobs.stored


async def test_what_is_over_the_setting_is_refused_before_anything_is_written() -> None:
    blobs = MemoryBlobs()
    async with warehouse(ClaimCheck(blobs, max_bytes=2 * A_MESSAGE)) as there:
        with pytest.raises(TooLarge):
            await there.order("x" * 2 * A_MESSAGE)
        assert not blobs.stored
        assert not await there.rows("select * from saga_run")
        assert await there.order("x" * (2 * A_MESSAGE - 1000)) is Ending.COMPLETED


async def test_sealed_and_without_blobs_a_payload_has_to_fit_with_what_sealing_adds() -> None:
    async with warehouse(None, MemoryKeys()) as there:
        with pytest.raises(TooLarge):
            await there.order("x" * (A_PAYLOAD // 4 * 3))
        assert await there.order("x" * (A_PAYLOAD // 4 * 3 - 6000)) is Ending.COMPLETED
        assert max(len(message.value or b"") for message in there.transport.published) <= A_MESSAGE


async def test_a_blob_that_is_not_visible_yet_is_looked_for_again() -> None:
    blobs = LateBlobs()
    async with warehouse(ClaimCheck(blobs)) as there:
        handle = await there.shop.place(Ordered(customer="ann", note="x" * MANY))
        blobs.unseen = 5
        assert (await handle.outcome(300)).ending is Ending.COMPLETED
        assert not await there.letters()


async def test_a_blob_that_never_comes_is_a_dead_letter_and_the_others_go_on() -> None:
    blobs = LateBlobs()
    async with warehouse(ClaimCheck(blobs)) as there:
        handle = await there.shop.place(Ordered(customer="ann", note="x" * MANY))
        blobs.unseen = 1_000_000
        await until(there.two_letters)
        assert await there.order("small") is Ending.COMPLETED
        blobs.unseen = 0
        assert (await handle.outcome(300)).ending is Ending.COMPENSATED
        letters = await there.letters()
        assert {letter["service"] for letter in letters} == {"stock", "office"}
        assert all("is not to be found: it has been deleted" in letter["error"] for letter in letters)
        assert all(letter["attempt"] == 9 for letter in letters)


async def test_a_blob_that_is_not_what_was_stored_is_a_dead_letter_at_once() -> None:
    blobs = MemoryBlobs()
    async with warehouse(ClaimCheck(blobs)) as there:
        real = blobs.put

        async def put(key: str, data: bytes) -> None:
            await real(key, data[:-1] + b"?")

        blobs.put = put  # type: ignore[method-assign]
        await there.shop.place(Ordered(customer="ann", note="x" * MANY))
        await until(there.two_letters)
        assert all("its length or SHA-256 differs" in letter["error"] for letter in await there.letters())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threshold_bytes": 100}, r"threshold_bytes=100\): use 4096 to 1030144"),
        ({"threshold_bytes": A_MESSAGE + 1}, "use 4096 to 1030144"),
        ({"max_bytes": 1000}, "less than threshold_bytes"),
        ({"keep_days": 0}, "kept for some time"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        ClaimCheck(MemoryBlobs(), **settings)


class AgeingBlobs(MemoryBlobs):
    """Be blobs of which some are old, and remember how old they had to be."""

    def __init__(self, old: int) -> None:
        super().__init__()
        self.old = old
        self.asked: list[float] = []

    async def prune(self, age_seconds: float, *, limit: int = 1000) -> int:
        """Delete old ones."""
        self.asked.append(age_seconds)
        deleted = min(self.old, limit)
        self.old -= deleted
        return deleted


async def test_old_blobs_are_pruned_while_the_app_runs_until_none_is_left() -> None:
    blobs = AgeingBlobs(2500)
    async with warehouse(ClaimCheck(blobs, keep_days=2)):
        await anyio.sleep(1)
    assert blobs.asked == [2 * 86_400.0] * 4
    assert not blobs.old


async def test_old_blobs_are_looked_for_once_an_hour() -> None:
    blobs = AgeingBlobs(0)
    with anyio.move_on_after(2 * 3600 + 1):
        await Sealing(None, ClaimCheck(blobs)).prune()
    assert len(blobs.asked) == 3
