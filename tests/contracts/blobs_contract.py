"""One suite for the Blobs port; every adapter runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from saga.errors import SettingsError
from saga.ports.sealing import Blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobsBench:
    """Hold the adapter under test, and open it anew as another process would."""

    blobs: Blobs
    again: Callable[[], Blobs]


class BlobsContract:
    """What every place for blobs promises."""

    async def test_what_is_put_comes_back_with_the_same_bytes(self, blobs: BlobsBench) -> None:
        for key, data in (("a", b""), ("0-z", bytes(range(256))), ("f" * 100, b"x" * 3_000_000)):
            await blobs.blobs.put(key, data)
            assert await blobs.again().get(key) == data

    async def test_what_was_never_put_is_not_there(self, blobs: BlobsBench) -> None:
        await blobs.blobs.put("ab", b"1")
        assert await blobs.blobs.get("abc") is None
        assert await blobs.blobs.get("b") is None

    async def test_a_put_that_is_repeated_changes_nothing(self, blobs: BlobsBench) -> None:
        await blobs.blobs.put("a", b"1")
        await blobs.again().put("a", b"1")
        assert await blobs.blobs.get("a") == b"1"

    async def test_what_is_deleted_is_gone_and_may_be_deleted_again(self, blobs: BlobsBench) -> None:
        await blobs.blobs.put("a", b"1")
        await blobs.blobs.put("b", b"2")
        await blobs.again().delete("a")
        assert await blobs.blobs.get("a") is None
        assert await blobs.blobs.get("b") == b"2"
        await blobs.blobs.delete("a")
        await blobs.blobs.delete("never")

    @pytest.mark.parametrize("key", ["", "..", "../x", "a/b", "A", "a.b", "ü", "a\n", "f" * 101])
    async def test_a_name_that_could_lead_elsewhere_is_refused(self, blobs: BlobsBench, key: str) -> None:
        with pytest.raises(SettingsError, match="blob key"):
            await blobs.blobs.put(key, b"1")
        with pytest.raises(SettingsError, match="blob key"):
            await blobs.blobs.get(key)
        with pytest.raises(SettingsError, match="blob key"):
            await blobs.blobs.delete(key)
