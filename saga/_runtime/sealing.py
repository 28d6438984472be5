"""Seal payloads, put large ones into blobs, and open both again: rows, messages and what stands inside of them."""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass
from uuid import uuid4

import anyio

from saga._core.envelope import Delivery
from saga._core.frozen import replace
from saga._core.limits import DEFAULT_LIMITS, Limits
from saga._core.rows import OutboxRow, RunRow
from saga._core.sealing import (
    BlobReference,
    Opened,
    SealedPayload,
    Unopened,
    blob_gone,
    holds_sealed,
    key_gone,
    read_place,
    refer_to,
    stands_in,
    write_sealed,
)
from saga._runtime.sealed_parts import each_of_input, each_of_result, each_refusal, subject_of
from saga.errors import SettingsError, StillSealed, TooLarge, Undecodable
from saga.ports.sealing import About, AgingBlobs, Blobs, Encoded, PayloadCodec

log = logging.getLogger("saga")

LEAST_THRESHOLD_BYTES = 4096
PRUNE_EVERY_SECONDS = 3600.0
_ENVELOPE_BYTES = 512
"""What stands around sealed bytes: names, nonce, tag."""
_KEPT_CLEAR = (b"", b"{}")


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """Say where payloads over a threshold lie, and how large one may be at all.

    `keep_days` is for blobs that can be deleted by age: longer than any topic, saga or dead letter is kept.
    """

    blobs: Blobs
    _: KW_ONLY
    threshold_bytes: int = 256 * 1024
    max_bytes: int = 64 * 1024 * 1024
    keep_days: float = 60.0

    def __post_init__(self) -> None:
        """Check the numbers; raises SettingsError."""
        if not LEAST_THRESHOLD_BYTES <= self.threshold_bytes <= DEFAULT_LIMITS.payload_bytes:
            msg = (
                f"ClaimCheck(threshold_bytes={self.threshold_bytes}): use {LEAST_THRESHOLD_BYTES} to "
                f"{DEFAULT_LIMITS.payload_bytes}, what fits into a message"
            )
            raise SettingsError(msg)
        if self.max_bytes < self.threshold_bytes:
            raise SettingsError(f"ClaimCheck(max_bytes={self.max_bytes}) is less than threshold_bytes")
        if self.keep_days <= 0:
            raise SettingsError(f"ClaimCheck(keep_days={self.keep_days:g}): blobs must be kept for some time")


class BlobMissing(Undecodable):
    """Report that a blob is not there; it may not be visible yet."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(str(blob_gone(key)))


class Sealing:
    """Seal payloads with a codec, put what is large into blobs, in this order, or do one of the two."""

    def __init__(self, codec: PayloadCodec | None = None, claim_check: ClaimCheck | None = None) -> None:
        self._codec = codec
        self._claim = claim_check

    @property
    def limits(self) -> Limits:
        """Return how large a payload may be so that what stands for it fits into a message."""
        most = DEFAULT_LIMITS.payload_bytes
        if self._codec is not None:
            most = most // 4 * 3 - _ENVELOPE_BYTES
        if self._claim is not None:
            most = max(most, self._claim.max_bytes)
        return Limits(value_bytes=max(most, DEFAULT_LIMITS.value_bytes), payload_bytes=most)

    # --- one payload ---------------------------------------------------------------------------------------

    async def close(self, payload: bytes, about: About) -> bytes:
        """Return what stands for a payload in rows and messages; what stands for one already stays as it is.

        Raises TooLarge, and OSError or StoreUnavailable while keys or blobs are out of reach.
        """
        if payload in _KEPT_CLEAR or stands_in(payload):
            return payload
        closed = payload
        if self._codec is not None:
            subject = subject_of(about.type, payload)
            encoded = await self._codec.encode(payload, replace(about, subject=subject))
            closed = write_sealed(SealedPayload(codec=self._codec.name, key_id=encoded.key_id, data=encoded.data))
        if self._claim is not None and len(closed) > self._claim.threshold_bytes:
            key = uuid4().hex
            await self._claim.blobs.put(key, closed)
            return refer_to(key, closed)
        if len(closed) > DEFAULT_LIMITS.payload_bytes:
            msg = (
                f"{about.type} has {len(payload)} bytes, {len(closed)} once it is sealed: at most "
                f"{DEFAULT_LIMITS.payload_bytes} are allowed; send less, or use claim_check="
            )
            raise TooLarge(msg)
        return closed

    async def open(self, value: bytes, about: About) -> bytes:
        """Return the payload that `value` stands for, itself where it stands for none.

        Raises StillSealed, BlobMissing, Undecodable, and OSError or StoreUnavailable while keys or blobs are out of
        reach.
        """
        if not stands_in(value):
            return value
        place = read_place(value)
        if isinstance(place, BlobReference):
            value = await self._fetched(place)
            if not stands_in(value):
                return value
            place = read_place(value)
            if isinstance(place, BlobReference):
                raise Undecodable(f"blob {place.key} stands in a blob: only payloads lie there")
        if self._codec is None:
            raise key_gone(place.key_id)
        if place.codec != self._codec.name:
            raise StillSealed(f"the payload is sealed with {place.codec}, and codec= here is {self._codec.name}")
        return await self._codec.decode(Encoded(key_id=place.key_id, data=place.data), about)

    async def _fetched(self, place: BlobReference) -> bytes:
        if self._claim is None:
            raise blob_gone(place.key)
        if place.length > 2 * self._claim.max_bytes:  # sealed it is larger
            raise Undecodable(f"blob {place.key} has {place.length} bytes: over ClaimCheck(max_bytes=…)")
        data = await self._claim.blobs.get(place.key)
        if data is None:
            raise BlobMissing(place.key)
        if not place.is_of(data):
            raise Undecodable(f"blob {place.key} is not what was stored: its length or SHA-256 differs")
        return data

    # --- rows ----------------------------------------------------------------------------------------------

    async def close_outbox(self, row: OutboxRow) -> OutboxRow:
        """Return an outbox row as it is stored and published: event and record, with their refusals, closed."""
        payload, record = row.payload, row.record
        headers = dict(row.headers)
        if payload is not None and headers.get("ce_sagakind", b"event") == b"event":
            tenant = headers.get("ce_sagatenant") or headers.get("ce_tenant", b"")
            about = About(message_id=row.id, type=row.type, tenant=tenant.decode())
            payload = await self.close(payload, about)
        elif payload is not None:
            payload = await self.close_refusals(payload, row.aggregateid, _tenant(headers))
        if record is not None:
            record = await self.close_refusals(record, row.aggregateid, _tenant(dict(row.record_headers)))
        if payload is row.payload and record is row.record:
            return row
        return replace(row, payload=payload, record=record)

    async def close_refusals(self, body: bytes, saga_id: str, tenant: str) -> bytes:
        """Return a report, a list or an outcome with its refusals closed."""
        return await each_refusal(body, saga_id, tenant, self.close) if b'"refusal"' in body else body

    async def open_refusals(self, body: bytes, saga_id: str) -> bytes:
        """Return a body with those of its refusals opened that can be."""
        return await each_refusal(body, saga_id, "", self._opened_or_not) if holds_sealed(body) else body

    async def close_input(self, run: RunRow) -> bytes | None:
        """Return what stands for the input of a run."""
        return await each_of_input(run, self.close)

    async def open_input(self, run: RunRow) -> bytes | None:
        """Return the input of a run, closed as it was where it cannot be opened."""
        return await each_of_input(run, self._opened_or_not)

    async def close_result(self, run: RunRow) -> bytes | None:
        """Return what stands for the result of a run."""
        return await each_of_result(run, self.close)

    async def open_result(self, run: RunRow) -> bytes | None:
        """Return the result of a run, closed as it was where it cannot be opened."""
        return await each_of_result(run, self._opened_or_not)

    async def _opened_or_not(self, value: bytes, about: About) -> bytes:
        try:
            return await self.open(value, about)
        except Undecodable as error:
            log.info("%s of %s stays closed: %s", about.type, about.message_id, error)
            return value

    # --- deliveries ----------------------------------------------------------------------------------------

    async def open_delivery(self, delivery: Delivery) -> Delivery:
        """Return a delivery opened, or with the reason why it cannot be; most are returned as they are."""
        value = delivery.value
        if value is None:
            return delivery
        if not stands_in(value):
            if not holds_sealed(value):
                return delivery
            opened = await self.open_refusals(value, _text(dict(delivery.headers), "ce_sagaid"))
            return _opened(delivery, opened) if opened != value else delivery
        try:
            return _opened(delivery, await self.open(value, _about(delivery)))
        except BlobMissing as missing:
            return _unopened(delivery, str(missing), missing.key)
        except Undecodable as error:
            return _unopened(delivery, str(error))

    async def close_delivery(self, delivery: Delivery) -> Delivery:
        """Return a delivery as it is kept in a row: as it came, or closed where it came in clear."""
        if isinstance(delivery, Opened):
            return delivery.stored
        value, kind = delivery.value, dict(delivery.headers).get("ce_sagakind", b"event")
        if value is None or kind != b"event":
            return delivery
        return replace(delivery, value=await self.close(value, _about(delivery)))

    # --- upkeep --------------------------------------------------------------------------------------------

    @property
    def ages(self) -> bool:
        """Return whether there are blobs here that are deleted by age."""
        return self._claim is not None and isinstance(self._claim.blobs, AgingBlobs)

    async def prune(self) -> None:
        """Delete blobs that are older than they are kept, until cancelled."""
        claim = self._claim
        while claim is not None and isinstance(claim.blobs, AgingBlobs):
            try:
                while await claim.blobs.prune(claim.keep_days * 86_400):
                    await anyio.lowlevel.checkpoint()
            except OSError as error:
                log.warning("blobs are deleted later: %s", error)
            await anyio.sleep(PRUNE_EVERY_SECONDS)


def _opened(delivery: Delivery, value: bytes) -> Opened:
    return Opened(
        topic=delivery.topic,
        partition=delivery.partition,
        offset=delivery.offset,
        key=delivery.key,
        value=value,
        headers=delivery.headers,
        stored=delivery,
    )


def _unopened(delivery: Delivery, why: str, blob: str = "") -> Unopened:
    return Unopened(
        topic=delivery.topic,
        partition=delivery.partition,
        offset=delivery.offset,
        key=delivery.key,
        value=delivery.value,
        headers=delivery.headers,
        why=why,
        blob=blob,
    )


def _about(delivery: Delivery) -> About:
    headers = dict(delivery.headers)
    return About(message_id=_text(headers, "ce_id"), type=_text(headers, "ce_type"), tenant=_tenant(headers))


def _tenant(headers: dict[str, bytes]) -> str:
    return _text(headers, "ce_sagatenant") or _text(headers, "ce_tenant")


def _text(headers: dict[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")
