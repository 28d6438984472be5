"""Declare what is asked of a payload codec, of its keys, and of a place for large payloads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Say what a payload belongs to: it must not be readable as that of another message.

    `message_id` is the CloudEvents ID; a stored run's payload has an ID of its own. `subject` is whom the payload is
    about, "" when its type names nobody and whenever a payload is decoded: its key is known by ID then.
    """

    message_id: str
    type: str
    tenant: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Be a payload as a codec leaves it; `key_id` is printable ASCII without `.`, `"` and backslash."""

    key_id: str
    data: bytes


class PayloadCodec(Protocol):
    """Make payloads unreadable on their way and at rest, and readable again."""

    @property
    def name(self) -> str:
        """Return what names the algorithm beside every payload: letters, digits and dashes."""
        ...

    async def encode(self, payload: bytes, about: About) -> Encoded:
        """Return a payload sealed for `about`; raises OSError or StoreUnavailable while keys are out of reach."""
        ...

    async def decode(self, encoded: Encoded, about: About) -> bytes:
        """Return the payload that was sealed for the same message ID and type.

        Raises StillSealed when the key is gone, Undecodable when it was sealed for another message or has been changed,
        OSError or StoreUnavailable while keys are out of reach.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Be one key; the secret is left out of what is printed."""

    id: str
    secret: bytes = field(repr=False)


class Keys(Protocol):
    """Keep the keys of tenants, and of the persons that payloads are about."""

    async def key_for(self, tenant: str, subject: str) -> Key:
        """Return the key to seal with, made on first use; subject "" stands for the tenant itself.

        All processes get the same key. After `erase` it is a new one with another ID. Never suspends where
        `saga._core.driving.is_driven()`.
        """
        ...

    async def find(self, key_id: str) -> Key | None:
        """Return a key by ID, None when it has been erased or never was; erased elsewhere counts at once."""
        ...

    async def erase(self, tenant: str, subject: str) -> bool:
        """Destroy a key for good and return whether there was one: what was sealed with it can never be read."""
        ...


class Blobs(Protocol):
    """Keep large payloads beside the messages, as an object store does; a key is 1 to 100 of `a-z`, `0-9`, `-`."""

    async def put(self, key: str, data: bytes) -> None:
        """Store a blob, whole or not at all; durable when it returns. A key is never used for two payloads."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return a blob, None when there is none, or none yet."""
        ...

    async def delete(self, key: str) -> None:
        """Delete a blob, if there is one."""
        ...


@runtime_checkable
class AgingBlobs(Protocol):
    """Be blobs that can be deleted by age; an object store has lifecycle rules instead."""

    async def prune(self, age_seconds: float, *, limit: int = 1000) -> int:
        """Delete up to `limit` blobs stored longer ago than that, and return how many."""
        ...
