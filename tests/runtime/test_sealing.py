"""Seal what sagas carry: nothing lies or travels in clear, and without its key nothing can be read again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_operating_store, open_store
from saga import Ending
from saga.app import App
from saga.errors import OutcomePending
from saga.operating import DeadLetterDesk, DeliveryRow, LetterFilter
from saga.ports import Claim, Store
from saga.sealing import MemoryKeys
from tests.runtime.sealing_world import CANARY, Ordered, Recording, Shop, messages_text, open_shop
from tests.runtime.world import VirtualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@dataclass
class Open:
    """Be a shop that is open, and the ways to look behind it."""

    shop: Shop
    app: App
    store: Store
    transport: Recording
    folder: Path
    keys: MemoryKeys | None

    async def order(self, how: str, customer: str = CANARY, timeout: float = 300) -> Ending:
        """Place an order and return how its saga ends."""
        handle = await self.shop.place(Ordered(customer=customer, note=f"for {customer}", how=how))
        return (await handle.outcome(timeout)).ending

    def everything(self) -> bytes:
        """Return every byte of the database's files, deleted rows and the log included, and of all messages."""
        files = b"".join(path.read_bytes() for path in sorted(self.folder.glob("shop.db*")))
        return files + messages_text(self.transport.published)

    async def letters(self) -> list[DeliveryRow]:
        """Return all dead letters."""
        async with (
            open_operating_store(f"sqlite:///{self.folder / 'shop.db'}", clock=VirtualClock()) as store,
            DeadLetterDesk(store) as desk,
        ):
            return list(await desk.list(LetterFilter()))

    async def rows(self, sql: str) -> list[Any]:
        """Read rows of any table."""
        async with self.store.unit(Claim(service="shop", sagas=())) as unit:
            return list(await unit.db.fetch(sql))


@asynccontextmanager
async def shopping(folder: Path, *, keys: MemoryKeys | None, shop: Shop | None = None) -> AsyncGenerator[Open]:
    """Open a shop on SQLite in a file and a memory transport that remembers."""
    address, clock = f"sqlite:///{folder / 'shop.db'}", VirtualClock()
    shop = shop or Shop()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(Recording())
        app = await stack.enter_async_context(open_shop(shop, store, coordination, transport, keys=keys))
        yield Open(shop=shop, app=app, store=store, transport=transport, folder=folder, keys=keys)


async def play(there: Open) -> None:
    """Let sagas end in every way, and leave one that waits."""
    assert await there.order("well") is Ending.COMPLETED
    assert await there.order("refuse") is Ending.COMPENSATED
    assert await there.order("undo") is Ending.COMPENSATED
    waiting = await there.shop.place(Ordered(customer=CANARY, note=f"for {CANARY}", how="wait"))
    with pytest.raises(OutcomePending):
        await waiting.outcome(5)


async def test_no_payload_lies_or_travels_in_clear(tmp_path: Path) -> None:
    async with shopping(tmp_path, keys=MemoryKeys()) as there:
        await play(there)
        assert await there.rows("select * from saga_run where status = 'waiting' and input is not null")
        assert await there.rows("select * from saga_delivery where reason = 'retry'")
        assert await there.letters()
        assert CANARY.encode() not in there.everything()
        assert there.shop.heard
        assert there.shop.heard[0] == f"for {CANARY}"
        assert {"2 parcels", CANARY} <= set(there.shop.undone)
        refused = [end for end in there.shop.endings if end.refusal is not None]
        assert [end.refusal.note for end in refused if hasattr(end.refusal, "note")] == [f"for {CANARY}"] * 2
        assert all(isinstance(end.start, Ordered) and end.start.customer == CANARY for end in there.shop.endings)
    assert CANARY.encode() not in there.everything()


async def test_without_a_codec_the_canary_is_found(tmp_path: Path) -> None:
    async with shopping(tmp_path, keys=None) as there:
        await play(there)
        found = there.everything()
    assert CANARY.encode() in found
    assert CANARY.encode() in messages_text(there.transport.published)


async def test_what_was_sealed_for_somebody_erased_stays_closed_and_the_others_go_on(tmp_path: Path) -> None:
    keys = MemoryKeys()
    async with shopping(tmp_path, keys=keys) as there:
        await play(there)
        before = len(await there.letters())
        assert await keys.erase("", CANARY)
        # The order that waits has a delivery that comes due and nobody can read any more; its saga runs out of time, and
        # what was picked for it cannot be put back.
        with anyio.fail_after(600):
            while not await there.rows("select * from saga_instance where phase = 'stuck'"):
                await anyio.sleep(1)
        letters = (await there.letters())[before:]
        assert any("has been erased" in letter.error for letter in letters)
        assert all(CANARY.encode() not in (letter.raw.value or b"") for letter in letters)
        (pick,) = await there.rows("select * from saga_run where undo = 'failed'")
        assert pick["step"] == "stock.pick"
        assert "has been erased" in pick["error"]
        assert await there.order("well", customer="somebody else") is Ending.COMPLETED
        assert await there.order("undo", customer="somebody else") is Ending.COMPENSATED
        assert CANARY.encode() not in there.everything()
