"""Seal payloads with AES-256-GCM; the one place that imports `cryptography`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import orjson

from saga._core.sealing import key_gone
from saga.errors import SettingsError, Undecodable
from saga.ports.sealing import About, Encoded, Keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
TAG_BYTES = 16
KEY_BYTES = 32


class AesGcm:
    """Be the payload codec `A256GCM` (NIST SP 800-38D) over the keys of `keys`.

    Every payload has a fresh random nonce of 96 bits, so one key serves for 2^32 payloads. Message ID, type and key ID
    are authenticated with it: a payload cannot be moved to another message.
    """

    name = "A256GCM"

    def __init__(self, keys: Keys) -> None:
        """Seal with `keys`; raises SettingsError without the extra [crypto]."""
        try:
            from cryptography.hazmat.primitives.ciphers import aead  # noqa: PLC0415 - only who seals needs it
        except ImportError as error:
            msg = "AesGcm needs the extra [crypto]: pip install 'saga-choreography[crypto]'"
            raise SettingsError(msg) from error
        self.keys = keys
        self._aead = aead

    async def encode(self, payload: bytes, about: About) -> Encoded:
        """Return a payload sealed with the key of its tenant or subject: nonce, ciphertext and tag."""
        key = await self.keys.key_for(about.tenant, about.subject)
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher(key.secret).encrypt(nonce, payload, self._bound(key.id, about))
        return Encoded(key_id=key.id, data=nonce + sealed)

    async def decode(self, encoded: Encoded, about: About) -> bytes:
        """Return the payload; raises StillSealed without its key, Undecodable when anything has been changed."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - only who seals needs it

        key = await self.keys.find(encoded.key_id)
        if key is None:
            raise key_gone(encoded.key_id)
        nonce, sealed = encoded.data[:NONCE_BYTES], encoded.data[NONCE_BYTES:]
        if len(nonce) == NONCE_BYTES and len(sealed) >= TAG_BYTES:
            try:
                return self._cipher(key.secret).decrypt(nonce, sealed, self._bound(key.id, about))
            except InvalidTag:
                pass
        msg = (
            f"the payload of {about.type or 'a message'} is not what was sealed for {about.message_id!r} with key "
            f"{key.id!r}: it has been changed, or moved from another message"
        )
        raise Undecodable(msg)

    def _cipher(self, secret: bytes) -> AESGCM:
        if len(secret) != KEY_BYTES:
            raise SettingsError(f"a key of AesGcm has {KEY_BYTES} bytes, this one has {len(secret)}")
        return self._aead.AESGCM(secret)

    def _bound(self, key_id: str, about: About) -> bytes:
        return orjson.dumps(["saga-sealed.v1", self.name, key_id, about.message_id, about.type])
