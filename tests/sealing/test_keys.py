"""Run the contract of Keys on every adapter, and what only files can get wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from saga._core.driving import driven
from saga.errors import SettingsError
from saga.sealing import FileKeys, MemoryKeys
from tests.contracts.keys_contract import KeysBench, KeysContract

pytestmark = pytest.mark.anyio


class TestMemoryKeys(KeysContract):
    @pytest.fixture
    def keys(self) -> KeysBench:
        keys = MemoryKeys()
        return KeysBench(keys=keys, again=lambda: keys)


class TestFileKeys(KeysContract):
    @pytest.fixture
    def keys(self, tmp_path: Path) -> KeysBench:
        return KeysBench(keys=FileKeys(tmp_path / "k"), again=lambda: FileKeys(tmp_path / "k"))

    async def test_only_the_owner_can_read_and_nothing_names_a_person(self, tmp_path: Path) -> None:
        await FileKeys(tmp_path / "k").key_for("acme", "ann")
        files = [path for path in (tmp_path / "k").rglob("*") if path.parent.name in ("keys", "owners")]
        assert len(files) == 2
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
        assert all(stat.S_IMODE(path.parent.stat().st_mode) == 0o700 for path in files)
        assert not any("ann" in path.name for path in files)

    def test_nothing_of_an_erased_secret_is_left_in_the_directory(self, tmp_path: Path) -> None:
        keys = FileKeys(tmp_path / "k")
        key = driven(keys.key_for("acme", "ann"))
        driven(keys.erase("acme", "ann"))
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and key.secret in path.read_bytes()]

    async def test_an_erasure_that_was_cut_off_half_way_leaves_a_new_key_behind(self, tmp_path: Path) -> None:
        keys = FileKeys(tmp_path / "k")
        old = await keys.key_for("acme", "ann")
        (tmp_path / "k" / "keys" / old.id).unlink()
        new = await keys.key_for("acme", "ann")
        assert new.id != old.id
        assert await FileKeys(tmp_path / "k").key_for("acme", "ann") == new
        assert await keys.erase("acme", "ann") is True
        assert await keys.find(new.id) is None

    def test_it_works_inside_of_a_transaction_that_blocks(self, tmp_path: Path) -> None:
        keys = FileKeys(tmp_path / "k")
        key = driven(keys.key_for("acme", "ann"))
        assert driven(keys.find(key.id)) == key
        assert driven(keys.erase("acme", "ann")) is True

    def test_a_directory_that_cannot_be_made_is_said_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(SettingsError, match=r"FileKeys\(.*Not a directory"):
            FileKeys(tmp_path / "file" / "k")
