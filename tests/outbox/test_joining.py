"""Join connections of every library: what commits is published, what does not is not."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint

from saga._core.envelope import Message
from saga.errors import DeclarationError, SettingsError, TooLarge, Undecodable
from saga.outbox import Outbox
from tests.outbox.joined import POSTGRES, SQLITE, Caller, OrderPlaced
from tests.testbed.services import Postgres
from transports.memory import MemoryTransport

pytestmark = pytest.mark.anyio


@dataclass
class Heard(MemoryTransport):
    """Be a transport that says when something was published."""

    messages: list[Message] = field(default_factory=list[Message])

    def __post_init__(self) -> None:
        MemoryTransport.__init__(self)
        self.news = anyio.Event()

    @asynccontextmanager
    async def publisher(self) -> AsyncGenerator[Any]:
        yield self

    async def publish(self, messages: Sequence[Message]) -> Sequence[BaseException | None]:
        await checkpoint()
        self.messages.extend(messages)
        self.news.set()
        return [None] * len(messages)

    async def until(self, count: int) -> list[bytes]:
        with anyio.fail_after(10):
            while len(self.messages) < count:
                self.news = anyio.Event()
                await self.news.wait()
        return [message.value or b"" for message in self.messages]


FEW = pytest.mark.parametrize(
    "library", ["asyncpg", "psycopg sync", "AsyncSession on asyncpg", "Session on sqlite"], indirect=True
)
"""For what no library has a part in."""


@pytest.fixture(params=[*POSTGRES, *SQLITE])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def where(library: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if library in SQLITE:
        return f"sqlite:///{tmp_path / 'one.db'}"
    return str(request.getfixturevalue("database"))


@dataclass
class Up:
    outbox: Outbox
    heard: Heard
    where: str
    library: str

    def caller(self) -> Any:
        return {**POSTGRES, **SQLITE}[self.library](self.where)


@pytest.fixture
async def up(library: str, where: str) -> AsyncGenerator[Up]:
    heard = Heard()
    async with Outbox("orders", store=where, transport=heard, topics=["audit"]) as outbox:
        yield Up(outbox, heard, where, library)


def event(order: str = "1") -> OrderPlaced:
    return OrderPlaced(order=order)


async def fence(up: Up) -> None:
    """Wait until something committed later has been published: what came before has been decided by then."""
    before = len(up.heard.messages)
    async with up.caller() as caller:
        await caller.publish(up.outbox, event("fence"))
        await caller.end("commit")
        await up.heard.until(before + 1)


async def test_what_commits_is_published(up: Up) -> None:
    async with up.caller() as caller:
        keyed = await caller.publish(up.outbox, event("1"), key="o-1")
        free = await caller.publish(up.outbox, event("2"))
        assert caller.is_open()
        assert up.heard.messages == []
        await caller.end("commit")
        assert sorted(await up.heard.until(2)) == [b'{"order":"1","number":0}', b'{"order":"2","number":0}']
    for message in up.heard.messages:
        headers = dict(message.headers)
        assert message.topic == "orders.events"
        assert (message.key, headers["ce_id"]) in ((b"o-1", keyed.encode()), (free.encode(), free.encode()))
        assert (headers["ce_source"], headers["ce_type"]) == (b"/saga/orders", b"order.placed.v1")
        assert ("ce_sequence" in headers) == (message.key == b"o-1")
        assert not any(name.startswith("ce_saga") for name in headers)


async def test_what_is_rolled_back_is_not(up: Up) -> None:
    async with up.caller() as caller:
        await caller.publish(up.outbox, event("gone"), key="o-1")
        await caller.publish(up.outbox, event("gone too"))
        await caller.end("rollback")
        assert not caller.is_open()
    await fence(up)
    assert [message.value for message in up.heard.messages] == [b'{"order":"fence","number":0}']


async def test_a_savepoint_rolled_back_takes_its_events_with_it(up: Up) -> None:
    async with up.caller() as caller:
        await caller.publish(up.outbox, event("before"))
        await caller.execute("savepoint mine")
        await caller.publish(up.outbox, event("inside"))
        await caller.execute("rollback to savepoint mine")
        await caller.publish(up.outbox, event("after"))
        await caller.end("commit")
        assert await up.heard.until(2) == [b'{"order":"before","number":0}', b'{"order":"after","number":0}']
    await fence(up)
    assert len(up.heard.messages) == 3


@FEW
async def test_a_refused_event_leaves_the_transaction_usable(up: Up) -> None:
    async with up.caller() as caller:
        for error, wrong, more in (
            (TooLarge, OrderPlaced(order="x" * 2**20), {}),
            (TooLarge, event(), {"key": "k" * 513}),
            (SettingsError, event(), {"key": ""}),
            (SettingsError, event(), {"key": 7}),
            (SettingsError, event(), {"topic": "elsewhere"}),
            (SettingsError, event(), {"tenant": "a\nb"}),
            (Undecodable, OrderPlaced.model_construct(order=cast("Any", 7)), {}),
            (DeclarationError, OrderPlaced, {}),
        ):
            with pytest.raises(error):
                await caller.publish(up.outbox, wrong, **more)
        await caller.publish(up.outbox, event("good"), topic="audit")
        await caller.end("commit")
        assert await up.heard.until(1) == [b'{"order":"good","number":0}']
        assert up.heard.messages[0].topic == "audit"


async def test_without_a_transaction_it_is_refused(up: Up) -> None:
    async with up.caller() as caller:
        await caller.end("rollback")
        with pytest.raises(SettingsError, match=r"no open transaction|without an open transaction"):
            await caller.publish(up.outbox, event())
        assert not caller.is_open()


async def test_another_database_is_refused_and_its_transaction_goes_on(
    up: Up, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if up.library in SQLITE:
        elsewhere, drop = f"sqlite:///{tmp_path / 'other.db'}", None
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        elsewhere = postgres.create_database_now("elsewhere")
        drop = postgres.drop_database_now
    try:
        async with {**POSTGRES, **SQLITE}[up.library](elsewhere) as caller:
            with pytest.raises(SettingsError, match=r"saga_outbox|both must be one database"):
                await caller.publish(up.outbox, event())
            await caller.execute("create table still_usable (n integer)")
            await caller.end("commit")
        async with Outbox("orders", store=elsewhere, transport=Heard()):
            pass
        async with {**POSTGRES, **SQLITE}[up.library](elsewhere) as caller:
            with pytest.raises(SettingsError, match=r"another database|both must be one database"):
                await caller.publish(up.outbox, event())
            await caller.execute("drop table still_usable")
            await caller.end("commit")
    finally:
        if drop is not None:
            drop(elsewhere)


@FEW
async def test_one_outbox_serves_many_connections_at_once(up: Up) -> None:
    async with AsyncExitStack() as stack:
        callers: list[Caller] = [await stack.enter_async_context(up.caller())]
        if up.library not in SQLITE:  # where there is one writer at a time
            callers += [await stack.enter_async_context(up.caller()) for _ in range(3)]
        for number, caller in enumerate(callers):
            await caller.publish(up.outbox, event(str(number)), key="same")
        for caller in callers:
            await caller.end("commit")
        await up.heard.until(len(callers))
