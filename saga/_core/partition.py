"""Choose partitions as the Java client does, so that one saga is one partition for every client."""

from __future__ import annotations

from functools import lru_cache

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF
_REMEMBERED = 16384
"""A saga's messages have one key, its ID, and a dozen of them come within a moment."""


@lru_cache(_REMEMBERED)
def murmur2(data: bytes) -> int:
    """Return the unsigned 32-bit murmur2 of `data`, bit for bit as `org.apache.kafka.common.utils.Utils`."""
    length = len(data)
    whole = length & ~3
    h = _SEED ^ length
    for at in range(0, whole, 4):
        k = (int.from_bytes(data[at : at + 4], "little") * _MIX) & _MASK
        k ^= k >> 24
        h = ((h * _MIX) & _MASK) ^ ((k * _MIX) & _MASK)
    if whole != length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _MIX) & _MASK
    h ^= h >> 13
    h = (h * _MIX) & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key: positive murmur2 modulo the number of partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
