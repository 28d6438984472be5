"""Carry messages: one port, a memory transport for one process and Kafka for many."""

from __future__ import annotations

from transports.memory import MemoryTransport
from transports.urls import open_transport

__all__ = ["MemoryTransport", "open_transport"]
