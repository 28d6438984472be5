"""Bring an app up when something is missing: the error says what to change."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from saga import PlanError, Service, SettingsError
from saga.app import App, Coordinator
from tests.runtime.world import World
from transports import MemoryTransport

pytestmark = pytest.mark.anyio


async def test_without_a_coordinator_an_app_says_which_plan_is_missing(tmp_path: Path) -> None:
    async with MemoryTransport() as transport:
        app = App(
            World().services,
            store=f"sqlite:///{tmp_path / 'shop.db'}",
            transport=transport,
            plans_timeout_seconds=0.1,
        )
        with pytest.raises(PlanError, match=r"inventory: no plan published for checkout\.v1") as error:
            async with app:
                pass
    assert "start a coordinator" in str(error.value)


async def test_a_migration_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "0001_stock.sql").write_text("create table a (x int); insert into a values (1);\n")
    service = Service("inventory", migrations=tmp_path)
    app = App([service], coordinator=Coordinator(), store=f"sqlite:///{tmp_path / 'shop.db'}", transport="memory://")
    with pytest.raises(SettingsError, match=r"0001_stock\.sql cannot be run .*semicolon at the end of a line"):
        async with app:
            pass


async def test_an_exception_of_the_caller_leaves_the_block_as_it_is(tmp_path: Path) -> None:
    app = App(
        World().services,
        coordinator=Coordinator(),
        store=f"sqlite:///{tmp_path / 'shop.db'}",
        transport="memory://",
    )
    with pytest.raises(ZeroDivisionError):
        async with app:
            raise ZeroDivisionError
    with anyio.fail_after(10):
        async with app:
            pass


def test_an_app_with_nothing_to_run_is_refused() -> None:
    with pytest.raises(SettingsError, match="nothing to run"):
        App(transport="memory://")
    with pytest.raises(SettingsError, match="store="):
        App([Service("inventory")], transport="memory://")
