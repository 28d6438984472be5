"""Write and read what stands in the place of a payload: sealed bytes, or a reference to a blob.

Both are JSON strings, so they are JSON wherever a payload is, and no event, refusal or join can be read out of one.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256

from saga._core.envelope import Delivery
from saga.errors import StillSealed, Undecodable

BLOB_LOOKS = 8
"""How often a blob that is not there is looked for again, over a bit more than a minute."""
_SEALED, _BLOB = b"saga-sealed.v1.", b"saga-blob.v1."
_MARKS = (b'"' + _SEALED, b'"' + _BLOB)
_SEALED_FORM = re.compile(
    rb'"saga-sealed\.v1\.([A-Za-z0-9-]{1,40})\.([!#-\-/-\[\]-~]{1,200})\.([A-Za-z0-9_-]+={0,2})"', re.ASCII
)
_BLOB_FORM = re.compile(rb'"saga-blob\.v1\.([a-z0-9-]{1,100})\.([0-9a-f]{64})\.([0-9]{1,15})"', re.ASCII)
_FOUND_KEY = re.compile(rb"saga-sealed\.v1\.[A-Za-z0-9-]{1,40}\.([!#-\-/-\[\]-~]{1,200})\.")
_FOUND_BLOB = re.compile(rb"saga-blob\.v1\.([a-z0-9-]{1,100})\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPayload:
    """Be a payload that a codec has sealed."""

    codec: str
    key_id: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobReference:
    """Be the place of a payload that lies in a blob; `digest` is its SHA-256 in hexadecimal, `length` in bytes."""

    key: str
    digest: str
    length: int

    def is_of(self, data: bytes) -> bool:
        """Return whether these are the bytes that were stored."""
        return len(data) == self.length and sha256(data).hexdigest() == self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Delivery):
    """Be a delivery whose payload has been opened; `stored` is what it was, and what is kept of it in rows."""

    stored: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened(Delivery):
    """Be a delivery that nobody here can open now, and why; `blob` names a blob that is not there, perhaps not yet."""

    why: str
    blob: str = ""


def stands_in(payload: bytes | None) -> bool:
    """Return whether something stands in the place of a payload."""
    return payload is not None and payload.startswith(_MARKS)


def holds_sealed(body: bytes) -> bool:
    """Return whether a payload inside of a body may be sealed; cheap, may be wrong about text that says so."""
    return _SEALED in body


def write_sealed(sealed: SealedPayload) -> bytes:
    """Return what stands for a sealed payload; raises ValueError for a codec or a key ID that cannot stand in it."""
    data = urlsafe_b64encode(sealed.data)
    written = b'"' + _SEALED + b".".join((sealed.codec.encode(), sealed.key_id.encode(), data)) + b'"'
    if _SEALED_FORM.fullmatch(written) is None:
        raise ValueError(f"codec {sealed.codec!r} or key ID {sealed.key_id!r} cannot stand beside a payload")
    return written


def refer_to(key: str, data: bytes) -> bytes:
    """Return what stands for a payload in a blob."""
    return b'"' + _BLOB + f"{key}.{sha256(data).hexdigest()}.{len(data)}".encode() + b'"'


def read_place(value: bytes) -> SealedPayload | BlobReference:
    """Return what stands in the place of a payload; raises Undecodable for anything else."""
    sealed = _SEALED_FORM.fullmatch(value)
    if sealed is not None:
        try:
            data = urlsafe_b64decode(sealed[3])
        except ValueError:
            raise Undecodable("what stands for a sealed payload is cut off") from None
        return SealedPayload(codec=sealed[1].decode(), key_id=sealed[2].decode(), data=data)
    blob = _BLOB_FORM.fullmatch(value)
    if blob is None:
        raise Undecodable("what stands for a sealed payload, or for one in a blob, cannot be read")
    return BlobReference(key=blob[1].decode(), digest=blob[2].decode(), length=int(blob[3]))


def pause_for_blob(delivery: Delivery, tried: int) -> float | None:
    """Return after how many seconds to look again for the blob of a delivery; None: not any more, or not for that."""
    if not isinstance(delivery, Unopened) or not delivery.blob or tried > BLOB_LOOKS:
        return None
    return min(30.0, 0.5 * 2.0 ** (tried - 1))


def key_gone(key_id: str) -> StillSealed:
    """Return what is said of a payload whose key is not there."""
    return StillSealed(
        f"the payload is sealed with key {key_id!r}, which is not to be found: it has been erased, "
        "or this process has no codec= or other keys"
    )


def blob_gone(key: str) -> Undecodable:
    """Return what is said of a payload whose blob is not there."""
    return Undecodable(
        f"the payload lies in blob {key}, which is not to be found: it has been deleted, "
        "or this process has no claim_check= or another place for blobs"
    )


def misread(error: Exception, payload: bytes | None, delivery: Delivery | None = None) -> Exception:
    """Return why a payload could not be read: `error`, or that it is still sealed or in a blob."""
    if isinstance(delivery, Unopened):
        return StillSealed(delivery.why)
    if (found := _FOUND_KEY.search(payload or b"")) is not None:
        return key_gone(found[1].decode())
    if (found := _FOUND_BLOB.search(payload or b"")) is not None:
        return blob_gone(found[1].decode())
    return error
