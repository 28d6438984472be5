from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest

from tests.console.shop import make_busy


@pytest.fixture(scope="session")
def made_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a shop's database in which everything has happened; it takes ten seconds once."""
    folder = tmp_path_factory.mktemp("shop")
    anyio.run(make_busy, folder)
    return folder


@pytest.fixture
def busy_shop(made_shop: Path, tmp_path: Path) -> Path:
    """Give a copy of that shop, which a test may change."""
    return Path(shutil.copytree(made_shop, tmp_path / "shop"))
