"""Keep keys: in memory, or one file for each in a directory."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import orjson

from saga._core.driving import is_driven
from saga.errors import SettingsError
from saga.ports.sealing import Key

T = TypeVar("T")

SECRET_BYTES = 32
_PRIVATE = 0o700


def new_key() -> Key:
    """Return a new key of 256 random bits under a random ID."""
    return Key(id=secrets.token_hex(16), secret=secrets.token_bytes(SECRET_BYTES))


class MemoryKeys:
    """Keep keys in this process, for tests: they are gone with it."""

    def __init__(self) -> None:
        self._current: dict[tuple[str, str], str] = {}
        self._keys: dict[str, Key] = {}

    async def key_for(self, tenant: str, subject: str) -> Key:
        """Return the key to seal with; see the port."""
        key = self._keys.get(self._current.get((tenant, subject), ""))
        if key is None:
            key = new_key()
            self._keys[key.id] = key
            self._current[tenant, subject] = key.id
        return key

    async def find(self, key_id: str) -> Key | None:
        """Return a key by ID; see the port."""
        return self._keys.get(key_id)

    async def erase(self, tenant: str, subject: str) -> bool:
        """Destroy a key; see the port."""
        key_id = self._current.pop((tenant, subject), "")
        return self._keys.pop(key_id, None) is not None


class FileKeys:
    """Keep keys in a directory that all processes share, readable to its owner alone.

    `keys/<ID>` holds a secret, `owners/<SHA-256 of tenant and subject>` the ID of its key. Nothing is remembered in
    the process, so that a key erased by another one is gone at once. What the file system keeps elsewhere (snapshots,
    backups) is not erased: keep the directory out of them, or let them expire.
    """

    def __init__(self, directory: str | Path) -> None:
        """Use `directory`, made when it is not there; raises SettingsError when that cannot be."""
        self._keys, self._owners = Path(directory) / "keys", Path(directory) / "owners"
        try:
            for folder in (self._keys, self._owners):
                folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"FileKeys({str(directory)!r}): {error.strerror}") from error

    async def key_for(self, tenant: str, subject: str) -> Key:
        """Return the key to seal with; see the port."""
        return await _in_thread(lambda: self._key_for(tenant, subject))

    async def find(self, key_id: str) -> Key | None:
        """Return a key by ID; see the port."""
        return await _in_thread(lambda: self._find(key_id))

    async def erase(self, tenant: str, subject: str) -> bool:
        """Destroy a key; see the port. Done when it returns, also after a loss of power."""
        return await _in_thread(lambda: self._erase(tenant, subject))

    def _key_for(self, tenant: str, subject: str) -> Key:
        owner = self._owner(tenant, subject)
        key = self._current(owner)
        if key is not None:
            return key
        with self._alone():
            key = self._current(owner)  # another process may have been first
            if key is None:
                key = new_key()
                _write(self._keys / key.id, key.secret)
                _write(owner, key.id.encode())
        return key

    def _current(self, owner: Path) -> Key | None:
        found = _read(owner)
        return None if found is None else self._find(found.decode())

    def _find(self, key_id: str) -> Key | None:
        # The ID comes out of messages: it must not lead out of the directory.
        if len(key_id) != 2 * 16 or not set(key_id) <= set("0123456789abcdef"):
            return None
        secret = _read(self._keys / key_id)
        return None if secret is None else Key(id=key_id, secret=secret)

    def _erase(self, tenant: str, subject: str) -> bool:
        owner = self._owner(tenant, subject)
        with self._alone():
            key = self._current(owner)
            if key is not None:
                # The secret first: cut off in between, the key is gone and its owner gets a new one.
                (self._keys / key.id).unlink()
                _sync(self._keys)
            owner.unlink(missing_ok=True)
            _sync(self._owners)
        return key is not None

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Keep other processes from making and erasing keys meanwhile."""
        with (self._keys.parent / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _owner(self, tenant: str, subject: str) -> Path:
        return self._owners / sha256(orjson.dumps([tenant, subject])).hexdigest()


async def _in_thread(work: Callable[[], T]) -> T:
    # Inside of a caller's blocking transaction there is no loop to give way to.
    return work() if is_driven() else await anyio.to_thread.run_sync(work)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    """Write a file whole and durably."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
