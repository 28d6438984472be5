"""Carry messages inside one process: partitions, groups, redelivery, compacted topics; not a mock."""

from __future__ import annotations

from transports.memory.transport import MemoryTransport

__all__ = ["MemoryTransport"]
