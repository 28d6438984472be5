"""`saga relay` publishes what programs have written that only write."""

from __future__ import annotations

import os
import signal
import sqlite3
from functools import partial
from pathlib import Path

import anyio
import pytest
from typer.testing import CliRunner

from saga import _opening
from saga._publishing import relay_until_told
from saga.cli.commands import app
from saga.errors import SchemaMismatch
from saga.outbox import Outbox
from tests.outbox.joined import OrderPlaced
from tests.outbox.test_joining import Heard

pytestmark = pytest.mark.anyio


async def test_it_publishes_until_it_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    heard = Heard()

    def to_us(_url: str) -> Heard:
        return heard

    monkeypatch.setattr(_opening, "open_transport", to_us)
    async with Outbox("orders", store=url, transport=Heard()):
        pass  # makes the tables
    writing = Outbox("orders", store=url)
    connection = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
    connection.execute("begin immediate")
    writing.join(connection).publish(OrderPlaced(order="1"), key="o-1")
    connection.execute("commit")
    connection.close()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(relay_until_told, url, "kafka://localhost:9092")
        await heard.until(1)
        os.kill(os.getpid(), signal.SIGTERM)


async def test_it_makes_no_tables(tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatch):
        await relay_until_told(f"sqlite:///{tmp_path / 'one.db'}", "kafka://localhost:9092")


async def test_it_makes_the_tables_when_asked_and_says_when_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()

    def to_us(_url: str) -> Heard:
        return heard

    monkeypatch.setattr(_opening, "open_transport", to_us)
    url = f"sqlite:///{tmp_path / 'one.db'}"
    began = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(relay_until_told, url, "kafka://localhost:9092", migrate=True, began=began.set))
        await began.wait()
        connection = sqlite3.connect(tmp_path / "one.db", isolation_level=None)
        connection.execute("begin immediate")
        Outbox("orders", store=url).join(connection).publish(OrderPlaced(order="1"), key="o-1")
        connection.execute("commit")
        connection.close()
        await heard.until(1)
        os.kill(os.getpid(), signal.SIGTERM)


def test_it_does_not_say_that_it_publishes_when_it_cannot(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'one.db'}"
    done = CliRunner().invoke(app, ["relay", "--store", url, "--transport", "kafka://localhost:9092"])
    assert done.exit_code == 1
    assert "publishing" not in done.output
    assert f"saga db upgrade --store {url} --for participant" in done.output


def test_a_transport_that_ends_with_the_process_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["relay", "--store", f"sqlite:///{tmp_path / 'one.db'}", "--transport", "memory://"])
    assert done.exit_code == 2
    assert "kafka://host:port" in done.output
