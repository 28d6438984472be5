"""The outbox alone meets what a newcomer meets: Kafka away, no tables, a transport nobody enters, wrong URLs."""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from outbox.postgres.settings import pasted
from saga.app import App, Coordinator
from saga.errors import SettingsError, TransportRefused, TransportUnavailable
from saga.outbox import Outbox
from saga.ports import TopicSpec
from saga.testing.virtual import VirtualLoop
from tests.outbox.joined import OrderPlaced
from tests.outbox.test_joining import Heard

pytestmark = pytest.mark.anyio

virtually = pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})], ids=["virtual"])


class Away(Heard):
    """Be a transport that is away a few times."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        if self.errors:
            raise self.errors.pop(0) from OSError("inside of a library")
        await super().ensure_topics(topics)


def running(kind: str, url: str, transport: Heard) -> Any:
    if kind == "outbox":
        return Outbox("orders", store=url, transport=transport)
    return App(coordinator=Coordinator(store=url), transport=transport)


@virtually
@pytest.mark.parametrize("kind", ["outbox", "app"])
async def test_a_transport_that_is_away_is_waited_for(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "saga")
    away = TransportUnavailable("nothing listens at broker:9092")
    async with running(kind, f"sqlite:///{tmp_path / 'one.db'}", Away(*[away] * 5)):
        pass
    told = [record.getMessage() for record in caplog.records]
    assert told.count("the transport is away, trying again for another 30 s: nothing listens at broker:9092") >= 1
    assert len([each for each in told if "is away" in each]) == 5
    assert [each for each in told if each.startswith("saga ")] == (
        ["saga is publishing events of orders", "saga has stopped publishing events of orders"]
        if kind == "outbox"
        else ["saga is running: coordinator", "saga has stopped: coordinator"]
    )


@virtually
@pytest.mark.parametrize("kind", ["outbox", "app"])
async def test_it_is_waited_for_so_long_and_the_error_is_one_sentence(kind: str, tmp_path: Path) -> None:
    began = anyio.current_time()
    with pytest.raises(TransportUnavailable, match=r"away \(waited 30 s: transport_timeout_seconds=…\)") as caught:
        async with running(kind, f"sqlite:///{tmp_path / 'one.db'}", Away(*[TransportUnavailable("away")] * 99)):
            pass
    assert 30 <= anyio.current_time() - began < 35
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback") == 1
    assert "inside of a library" not in text


@virtually
async def test_what_refuses_is_not_waited_for(tmp_path: Path) -> None:
    began = anyio.current_time()
    with pytest.raises(TransportRefused):
        async with Outbox(
            "orders", store=f"sqlite:///{tmp_path / 'one.db'}", transport=Away(TransportRefused("no such user"))
        ):
            pass
    assert anyio.current_time() - began < 1


def publish(outbox: Outbox, path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin immediate")
    try:
        outbox.join(connection).publish(OrderPlaced(order="1"))
    finally:
        connection.execute("commit")
        connection.close()


async def test_an_outbox_with_a_transport_that_nobody_enters_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "one.db"
    url = f"sqlite:///{path}"
    async with Outbox("orders", store=url, transport=Heard()) as entered:
        publish(entered, path)
    publish(entered, path)
    publish(Outbox("orders", store=url), path)
    assert "nothing publishes here" not in caplog.text
    forgotten = Outbox("orders", store=url, transport="kafka://broker:9092")
    publish(forgotten, path)
    publish(forgotten, path)
    assert caplog.text.count("nothing publishes here: write `async with outbox:` around") == 1


def test_without_tables_the_command_that_makes_them_is_told(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    command = rf"run `saga db upgrade --store sqlite:///.*{path.name} --for participant`"
    with pytest.raises(SettingsError, match=command):
        publish(Outbox("orders", store=f"sqlite:///{path}"), path)


@pytest.mark.parametrize(
    ("url", "schema", "wanted"),
    [
        ("postgresql://me:se%40cret@db:5432/orders?sslmode=require", None, "postgresql://me:***@db:5432/orders"),
        ("postgresql://me@db/orders", "saga", "postgresql://me@db/orders?schema=saga"),
        ("postgresql://db/orders", None, "postgresql://db/orders"),
    ],
)
def test_a_command_has_the_user_and_not_the_password(url: str, schema: str | None, wanted: str) -> None:
    assert pasted(url, schema) == wanted


async def test_any_engine_or_url_of_sqlalchemys_will_do(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    stores: list[Any] = [create_engine(f"sqlite:///{path}"), f"sqlite+pysqlite:///{path}", f"sqlite:///{path}"]
    for store in stores:
        heard = Heard()
        async with Outbox("orders", store=store, transport=heard) as outbox:
            publish(outbox, path)
            await heard.until(1)
    for driver in ("", "+asyncpg", "+psycopg", "+psycopg2"):
        assert "db:5432/orders" in repr(Outbox("orders", store=f"postgresql{driver}://me:pw@db:5432/orders").__dict__)
    url = "postgresql+psycopg://me:pw@db:5432/orders?sslmode=require"
    for engine in (create_engine(url), create_async_engine(url)):
        assert "db:5432/orders" in repr(Outbox("orders", store=engine).__dict__)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///file:x?uri=true", "postgresql+psycopg://db/orders?options=-csearch_path%3Dx"]
)
def test_an_engine_that_says_more_than_its_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="pass the URL instead, store='postgresql://"):
        Outbox("orders", store=create_engine(url))


@pytest.mark.parametrize("url", ["127.0.0.1:29052", "kafka://broker", "kafka://me:pw@broker:9092", "memory://x"])
def test_a_malformed_transport_is_refused_when_the_outbox_is_made(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="kafka://"):
        Outbox("orders", store=f"sqlite:///{tmp_path / 'one.db'}", transport=url)
