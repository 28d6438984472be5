"""Seal what sagas carry: nothing lies or travels in clear, and without its key nothing can be read again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_operating_store, open_store
from saga import Ended, Ending
from saga.app import App
from saga.errors import OutcomePending
from saga.operating import DeadLetterDesk, DeliveryRow, LetterFilter
from saga.ports import Claim, Store
from saga.sealing import MemoryKeys
from tests.runtime.sealing_world import CANARY, NotToday, Ordered, Recording, Shop, messages_text, open_shop, until
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
        ended: Ended = await handle.outcome(timeout)
        return ended.ending

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

    async def bills(self, reason: str) -> list[Any]:
        """Return what waits or lies for the step that bills."""
        return await self.rows(f"select * from saga_delivery where step = 'office.bill' and reason = '{reason}'")

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
        refused = [end.refusal for end in there.shop.endings if isinstance(end.refusal, NotToday)]
        assert [refusal.note for refusal in refused] == [f"for {CANARY}"] * 2
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
        assert await keys.erase("", CANARY)
        # The order that waits has a delivery that comes due and nobody can read any more; its saga runs out of time,
        # and what was picked for it cannot be put back.
        await until(lambda: there.rows("select * from saga_instance where phase = 'stuck'"))
        letters = await there.letters()
        assert any("has been erased" in letter.error and letter.step == "office.bill" for letter in letters)
        assert all(CANARY.encode() not in (letter.raw.value or b"") for letter in letters)
        (pick,) = await there.rows("select * from saga_run where undo = 'failed'")
        assert pick["step"] == "stock.pick"
        assert "has been erased" in pick["error"]
        assert await there.order("well", customer="somebody else") is Ending.COMPLETED
        assert await there.order("undo", customer="somebody else") is Ending.COMPENSATED
        assert CANARY.encode() not in there.everything()


async def test_a_codec_may_be_turned_on_while_sagas_are_open(tmp_path: Path) -> None:
    shop = Shop()
    async with shopping(tmp_path, keys=None, shop=shop) as before:
        handle = await before.shop.place(Ordered(customer=CANARY, note="in clear", how="wait"))
        with pytest.raises(OutcomePending):
            await handle.outcome(5)
    shop.open.add("bill")
    async with shopping(tmp_path, keys=MemoryKeys(), shop=shop) as there:
        ended: Ended = await there.app.handle(shop.place, handle.saga_id).outcome(60)
        assert ended.ending is Ending.COMPLETED
        assert CANARY.encode() not in messages_text(there.transport.published)


async def test_a_process_without_a_codec_keeps_what_it_cannot_open_and_says_why(tmp_path: Path) -> None:
    shop, keys = Shop(timeout=timedelta(hours=1)), MemoryKeys()
    async with shopping(tmp_path, keys=keys, shop=shop) as before:
        handle = await before.shop.place(Ordered(customer=CANARY, note="sealed", how="wait"))
        with pytest.raises(OutcomePending):
            await handle.outcome(5)
    shop.open.add("bill")
    async with shopping(tmp_path, keys=None, shop=shop) as without:
        await until(lambda: without.bills("dead"))
        (letter,) = await without.bills("dead")
        assert "this process has no codec=" in letter["error"]
        assert await without.order("well") is Ending.COMPLETED
    async with shopping(tmp_path, keys=keys, shop=shop) as again:
        async with (
            open_operating_store(f"sqlite:///{tmp_path / 'shop.db'}", clock=VirtualClock()) as store,
            DeadLetterDesk(store) as desk,
            aclosing(
                desk.replay(LetterFilter(step="office.bill"), per_second=10, who="ann", why="the codec is back")
            ) as passes,
        ):
            assert [progress.letters async for progress in passes][-1] == 1
        ended: Ended = await again.app.handle(shop.place, handle.saga_id).outcome(60)
        assert ended.ending is Ending.COMPLETED


async def test_who_was_erased_may_come_back(tmp_path: Path) -> None:
    keys = MemoryKeys()
    async with shopping(tmp_path, keys=keys) as there:
        assert await there.order("well") is Ending.COMPLETED
        await keys.erase("", CANARY)
        assert await there.order("undo") is Ending.COMPENSATED
        assert CANARY in there.shop.undone
