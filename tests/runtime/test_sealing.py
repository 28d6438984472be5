"""Seal what sagas carry: nothing lies or travels in clear, and without its key nothing can be read again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_operating_store, open_store
from saga import Ended, Ending
from saga.app import App, SagaHandle
from saga.errors import OutcomePending, StoreUnavailable
from saga.operating import DeadLetterDesk, LetterFilter
from saga.ports import Claim, CoordinationStore, OperatingStore, Store
from saga.sealing import FileKeys, Key, Keys, MemoryKeys
from tests.runtime.sealing_world import CANARY, NotToday, Ordered, Recording, Shop, messages_text, open_shop, until
from tests.runtime.world import VirtualClock

pytestmark = pytest.mark.anyio

_NUMBERS = count(1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@dataclass
class Bench:
    """Be the open databases of a shop; `path` is their file, None in memory."""

    store: Store
    coordination: CoordinationStore
    letters: OperatingStore
    path: Path | None = None


@asynccontextmanager
async def bench(path: Path | None = None) -> AsyncGenerator[Bench]:
    """Open the databases: in memory on a virtual clock, or a file in real time, where COMMIT is on a thread."""
    address = f"sqlite:///:memory:?name=sealing{next(_NUMBERS)}" if path is None else f"sqlite:///{path}"
    clock = VirtualClock() if path is None else None
    async with (
        open_store(address, clock=clock) as store,
        open_coordination_store(address, clock=clock) as coordination,
    ):
        await store.migrate()
        await coordination.migrate()
        async with open_operating_store(address, clock=clock) as letters:
            yield Bench(store, coordination, letters, path)


@dataclass
class Open:
    """Be a shop that is open, and the ways to look behind it."""

    shop: Shop
    app: App
    at: Bench
    transport: Recording

    async def order(self, how: str, customer: str = CANARY) -> Ending:
        """Place an order and return how its saga ends."""
        handle = await self.shop.place(Ordered(customer=customer, note=f"for {customer}", how=how))
        ended: Ended = await handle.outcome(300)
        return ended.ending

    async def waiting(self) -> SagaHandle:
        """Place an order and return once everything but its bill is done."""
        handle: SagaHandle = await self.shop.place(Ordered(customer=CANARY, note=f"for {CANARY}", how="wait"))
        await until(lambda: self.rows("select * from saga_delivery where step = 'office.bill'"))
        await until(lambda: self.rows("select * from saga_run where step = 'stock.pack' and status = 'waiting'"))
        done = f"saga_id = '{handle.saga_id}' and step = 'office.weigh' and status = 'done'"
        await until(lambda: self.rows(f"select * from saga_run where {done}"))
        return handle

    def everything(self) -> bytes:
        """Return every byte of the database's files, deleted rows and the log included, and of all messages."""
        assert self.at.path is not None
        files = b"".join(path.read_bytes() for path in sorted(self.at.path.parent.glob(f"{self.at.path.name}*")))
        return files + messages_text(self.transport.published)

    async def letters(self) -> list[Any]:
        """Return all dead letters."""
        return await self.rows("select * from saga_delivery where reason = 'dead' order by id")

    async def bills(self, reason: str) -> list[Any]:
        """Return what waits or lies for the step that bills."""
        return await self.rows(f"select * from saga_delivery where step = 'office.bill' and reason = '{reason}'")

    async def rows(self, sql: str) -> list[Any]:
        """Read rows of any table."""
        async with self.at.store.unit(Claim(service="shop", sagas=())) as unit:
            return list(await unit.db.fetch(sql))


@asynccontextmanager
async def shopping(at: Bench, *, keys: Keys | None, shop: Shop | None = None) -> AsyncGenerator[Open]:
    """Open a shop on databases and a memory transport that remembers."""
    shop = shop or Shop()
    async with (
        Recording() as transport,
        open_shop(shop, at.store, at.coordination, transport, keys=keys) as app,
    ):
        yield Open(shop=shop, app=app, at=at, transport=transport)


async def play(there: Open) -> None:
    """Let sagas end in every way, and leave one that waits."""
    assert await there.order("well") is Ending.COMPLETED
    assert await there.order("refuse") is Ending.COMPENSATED
    assert await there.order("undo") is Ending.COMPENSATED
    await there.waiting()
    await until(there.letters)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_payload_lies_or_travels_in_clear(tmp_path: Path) -> None:
    async with bench(tmp_path / "shop.db") as at, shopping(at, keys=MemoryKeys()) as there:
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


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_without_a_codec_the_canary_is_found(tmp_path: Path) -> None:
    async with bench(tmp_path / "shop.db") as at, shopping(at, keys=None) as there:
        await play(there)
        found = there.everything()
    assert CANARY.encode() in found
    assert CANARY.encode() in messages_text(there.transport.published)


async def test_what_was_sealed_for_somebody_erased_stays_closed_and_the_others_go_on() -> None:
    keys = MemoryKeys()
    async with bench() as at, shopping(at, keys=keys) as there:
        await play(there)
        assert await keys.erase("", CANARY)
        # The order that waits has a delivery that comes due and nobody can read any more; its saga runs out of time,
        # and what was picked for it cannot be put back.
        await until(lambda: there.rows("select * from saga_instance where phase = 'stuck'"))
        letters = await there.letters()
        gone = {(letter["service"], letter["step"]): letter["error"] for letter in letters}
        assert "has been erased" in gone["office", "office.bill"]
        assert all(CANARY.encode() not in letter["raw_value"] for letter in letters)
        (pick,) = await there.rows("select * from saga_run where undo = 'failed'")
        assert pick["step"] == "stock.pick"
        assert "has been erased" in pick["error"]
        # The starter's start event cannot be read any more: nobody is told how it has ended but by that letter.
        await until(lambda: there.rows("select * from saga_delivery where service = 'shop' and error like '%erased%'"))
        assert await there.order("well", customer="somebody else") is Ending.COMPLETED
        assert await there.order("undo", customer="somebody else") is Ending.COMPENSATED
        assert CANARY.encode() not in messages_text(there.transport.published)


async def test_a_codec_may_be_turned_on_while_sagas_are_open() -> None:
    shop = Shop(timeout=timedelta(hours=1))
    async with bench() as at:
        async with shopping(at, keys=None, shop=shop) as before:
            handle = await before.waiting()
        shop.open.add("bill")
        async with shopping(at, keys=MemoryKeys(), shop=shop) as there:
            ended: Ended = await there.app.handle(shop.place, handle.saga_id).outcome(60)
            assert ended.ending is Ending.COMPLETED
            # What lay in the outbox before goes out as it lies.
            billed = [sent for sent in there.transport.published if ("ce_type", b"shop.billed.v1") in sent.headers]
            assert billed
            assert CANARY.encode() not in messages_text(billed)


async def test_a_process_without_a_codec_keeps_what_it_cannot_open_and_says_why() -> None:
    shop, keys = Shop(timeout=timedelta(hours=1)), MemoryKeys()
    async with bench() as at:
        async with shopping(at, keys=keys, shop=shop) as before:
            handle = await before.waiting()
        shop.open.add("bill")
        async with shopping(at, keys=None, shop=shop) as without:
            await until(lambda: without.bills("dead"))
            (letter,) = await without.bills("dead")
            assert "this process has no codec=" in letter["error"]
            assert await without.order("well") is Ending.COMPLETED
        async with DeadLetterDesk(at.letters) as desk:
            found = desk.replay(LetterFilter(step="office.bill"), per_second=10, who="ann", why="it is back")
            async with aclosing(found) as passes:
                assert [progress.letters async for progress in passes][-1] == 1
        async with shopping(at, keys=keys, shop=shop) as again:
            ended: Ended = await again.app.handle(shop.place, handle.saga_id).outcome(60)
            assert ended.ending is Ending.COMPLETED


async def test_who_was_erased_may_come_back() -> None:
    keys = MemoryKeys()
    async with bench() as at, shopping(at, keys=keys) as there:
        assert await there.order("well") is Ending.COMPLETED
        await keys.erase("", CANARY)
        assert await there.order("undo") is Ending.COMPENSATED
        assert CANARY in there.shop.undone


async def test_an_outside_call_whose_input_cannot_be_read_fails_at_once_and_its_saga_is_undone() -> None:
    keys = MemoryKeys()
    async with bench() as at, shopping(at, keys=keys) as there:
        await there.shop.place(Ordered(customer=CANARY, note="sealed", how="weigh"))
        weighing = "select * from saga_run where step = 'office.weigh'"
        await until(lambda: there.rows(f"{weighing} and error like 'Transient%'"))
        await keys.erase("", CANARY)
        await until(lambda: there.rows(f"{weighing} and status = 'failed'"))
        (run,) = await there.rows(weighing)
        assert run["attempt"] == 2
        assert "StillSealed" in run["error"]


class AwayKeys(MemoryKeys):
    """Be keys that are out of reach now and then."""

    away = False

    async def find(self, key_id: str) -> Key | None:
        """Return a key, or raise."""
        if self.away:
            raise OSError(5, "Input/output error")
        return await super().find(key_id)


async def test_keys_that_are_out_of_reach_stop_the_reading_and_cost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    keys = AwayKeys()
    async with bench() as at, shopping(at, keys=keys) as there:
        assert await there.order("well") is Ending.COMPLETED
        letters = len(await there.letters())
        handle = await there.shop.place(Ordered(customer=CANARY, note="sealed"))
        keys.away = True
        with pytest.raises((OutcomePending, StoreUnavailable)):
            await handle.outcome(10)
        keys.away = False
        ended: Ended = await handle.outcome(60)
        assert ended.ending is Ending.COMPLETED
        assert len(await there.letters()) == letters + 1  # that of the subscriber who always fails
        assert "keys or blobs are out of reach: [Errno 5] Input/output error" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_start_in_the_callers_own_transaction_is_sealed_too(tmp_path: Path) -> None:
    keys, shop = FileKeys(tmp_path / "keys"), Shop()
    async with bench(tmp_path / "shop.db") as at, shopping(at, keys=keys, shop=shop) as there:
        theirs = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
        theirs.execute("begin immediate")
        handle = shop.place.sync(Ordered(customer=CANARY, note="sealed"), connection=theirs)
        (stored,) = theirs.execute("select result from saga_run").fetchone()
        assert b"saga-sealed.v1." in stored
        theirs.execute("commit")
        theirs.close()
        ended: Ended = await handle.outcome(60)
        assert ended.ending is Ending.COMPLETED
        assert isinstance(ended.start, Ordered)
        assert ended.start.customer == CANARY
        assert CANARY.encode() not in there.everything()
