"""Stores, relay and pruner: a local transaction carries business writes and events alike."""

from __future__ import annotations

from outbox.pruner import Pruner
from outbox.relay import Relay, RelayTuning
from outbox.urls import open_coordination_store, open_store

__all__ = ["Pruner", "Relay", "RelayTuning", "open_coordination_store", "open_store"]
