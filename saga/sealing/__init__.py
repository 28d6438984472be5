"""Seal payloads, and keep large ones beside the messages: what `App(codec=…, claim_check=…)` takes."""

from __future__ import annotations

from saga._runtime.sealing import ClaimCheck
from saga.ports.sealing import About, AgingBlobs, Blobs, Encoded, Key, Keys, PayloadCodec
from saga.sealing.aes import AesGcm
from saga.sealing.blobs import FileBlobs, MemoryBlobs
from saga.sealing.keys import FileKeys, MemoryKeys

__all__ = [
    "About",
    "AesGcm",
    "AgingBlobs",
    "Blobs",
    "ClaimCheck",
    "Encoded",
    "FileBlobs",
    "FileKeys",
    "Key",
    "Keys",
    "MemoryBlobs",
    "MemoryKeys",
    "PayloadCodec",
]
