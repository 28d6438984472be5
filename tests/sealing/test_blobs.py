"""Run the contract of Blobs on every adapter, and what only files can get wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from saga._core.driving import driven
from saga.errors import SettingsError
from saga.sealing import FileBlobs, MemoryBlobs
from tests.contracts.blobs_contract import BlobsBench, BlobsContract

pytestmark = pytest.mark.anyio

OLD = 1_000_000


class TestMemoryBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self) -> BlobsBench:
        blobs = MemoryBlobs()
        return BlobsBench(blobs=blobs, again=lambda: blobs)


class TestFileBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobsBench:
        return BlobsBench(blobs=FileBlobs(tmp_path / "b"), again=lambda: FileBlobs(tmp_path / "b"))

    def test_only_the_owner_can_read_and_no_half_of_a_file_is_left(self, tmp_path: Path) -> None:
        driven(FileBlobs(tmp_path / "b").put("abc", b"1"))
        (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert path == tmp_path / "b" / "ab" / "abc"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def test_pruning_deletes_the_old_ones_and_no_more_than_asked(self, tmp_path: Path) -> None:
        blobs = FileBlobs(tmp_path / "b")
        for number in range(5):
            await blobs.put(f"a{number}", b"1")
        await blobs.put("new", b"2")
        for number in range(5):
            os.utime(tmp_path / "b" / f"a{number}" / f"a{number}", (OLD, OLD))
        (tmp_path / "b" / "stray").write_text("somebody else's")
        assert await blobs.prune(3600, limit=3) == 3
        assert await blobs.prune(3600, limit=3) == 2
        assert await blobs.prune(3600) == 0
        assert await blobs.get("new") == b"2"

    async def test_a_file_left_by_a_crash_is_pruned_too(self, tmp_path: Path) -> None:
        blobs = FileBlobs(tmp_path / "b")
        await blobs.put("abc", b"1")
        half = tmp_path / "b" / "ab" / ".abc-1234"
        half.write_bytes(b"half")
        os.utime(half, (OLD, OLD))
        assert await blobs.prune(3600) == 1
        assert await blobs.get("abc") == b"1"

    def test_it_works_inside_of_a_transaction_that_blocks(self, tmp_path: Path) -> None:
        blobs = FileBlobs(tmp_path / "b")
        driven(blobs.put("a", b"1"))
        assert driven(blobs.get("a")) == b"1"

    def test_a_directory_that_cannot_be_made_is_said_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(SettingsError, match=r"FileBlobs\(.*Not a directory"):
            FileBlobs(tmp_path / "file" / "b")
