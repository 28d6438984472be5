"""Keep blobs: in memory, or as files in a directory that all processes share."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio.to_thread

from saga._core.driving import is_driven
from saga.errors import SettingsError

T = TypeVar("T")

_KEY = re.compile(r"[a-z0-9-]{1,100}", re.ASCII)


class MemoryBlobs:
    """Keep blobs in this process, for tests: they are gone with it."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes) -> None:
        """Store a blob; see the port. Raises SettingsError for a key that cannot be one."""
        self.stored[_checked(key)] = data

    async def get(self, key: str) -> bytes | None:
        """Return a blob; see the port. Raises SettingsError for a key that cannot be one."""
        return self.stored.get(_checked(key))

    async def delete(self, key: str) -> None:
        """Delete a blob; see the port. Raises SettingsError for a key that cannot be one."""
        self.stored.pop(_checked(key), None)


class FileBlobs:
    """Keep each blob in a file of its own, `<directory>/<first two characters>/<key>`.

    A blob is there whole or not at all, and durable once `put` has returned.
    """

    def __init__(self, directory: str | Path) -> None:
        """Use `directory`, made when it is not there; raises SettingsError when that cannot be."""
        self._directory = Path(directory)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"FileBlobs({str(directory)!r}): {error.strerror}") from error

    async def put(self, key: str, data: bytes) -> None:
        """Store a blob; see the port. Raises SettingsError for a key that cannot be one."""
        path = self._path(key)
        await _in_thread(lambda: _store(path, data))

    async def get(self, key: str) -> bytes | None:
        """Return a blob; see the port. Raises SettingsError for a key that cannot be one."""
        path = self._path(key)
        return await _in_thread(lambda: _read(path))

    async def delete(self, key: str) -> None:
        """Delete a blob; see the port. Raises SettingsError for a key that cannot be one."""
        path = self._path(key)
        await _in_thread(lambda: path.unlink(missing_ok=True))

    async def prune(self, age_seconds: float, *, limit: int = 1000) -> int:
        """Delete up to `limit` blobs stored longer ago than that, by the clock of this machine; return how many."""
        return await _in_thread(lambda: self._prune(time.time() - age_seconds, limit))

    def _prune(self, before: float, limit: int) -> int:
        deleted = 0
        for folder in sorted(path for path in self._directory.iterdir() if path.is_dir()):
            for path in folder.iterdir():
                if deleted >= limit:
                    return deleted
                try:
                    if path.stat().st_mtime < before:
                        path.unlink()
                        deleted += 1
                except FileNotFoundError:
                    continue  # somebody else was first
        return deleted

    def _path(self, key: str) -> Path:
        return self._directory / _checked(key)[:2] / key


def _checked(key: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise SettingsError(f"blob key {key[:60]!r} cannot be used: write 1 to 100 of a-z, 0-9 and '-'")
    return key


async def _in_thread(work: Callable[[], T]) -> T:
    # Inside of a caller's blocking transaction there is no loop to give way to.
    return work() if is_driven() else await anyio.to_thread.run_sync(work)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _store(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for directory in (path.parent, path.parent.parent):
        number = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
