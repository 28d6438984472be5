"""Derive every identifier from what it names, so that doing something twice gives the same one."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID, uuid5

import orjson

from saga._core.words import Ending, Kind, RunKey, RunStatus

SAGA_NAMESPACE = UUID("bbd0a47e-7103-5fb6-80d1-f45fd3aa768d")
"""The namespace of saga IDs: UUIDv5 of `urn:saga:saga-id` in the URL namespace; part of the wire protocol."""


def saga_id_of(saga: str, tenant: str, key: str) -> str:
    """Return the saga ID of a business key: UUIDv5 over the UTF-8 JSON array `[saga, tenant, key]`.

    The array is written without whitespace as RFC 8785 (JCS) says, so other languages get the same ID.
    """
    return str(uuid5(SAGA_NAMESPACE, orjson.dumps([saga, tenant, key]).decode()))


def child_id_of(child: str, tenant: str, parent_id: str, key: RunKey) -> str:
    """Return the saga ID of a child saga such as `trip.v1`: its business key is the run that has started it."""
    return saga_id_of(child.rpartition(".v")[0], tenant, f"{parent_id}/{run_path(key.step, key.branch)}")


def run_path(step: str, branch: str = "") -> str:
    """Return `<step>` or `<step>/<branch>`, the one spelling of a run inside its saga."""
    return f"{step}/{branch}" if branch else step


def event_id(saga_id: str, step: str, branch: str = "") -> str:
    """Return the ID of the event a run emits: `<saga_id>/<step>[/<branch>]`."""
    return f"{saga_id}/{step}/{branch}" if branch else f"{saga_id}/{step}"


def record_id(saga_id: str, step: str, branch: str, status: RunStatus) -> str:
    """Return the ID of a run record: `<saga_id>/<step>[/<branch>]#run-<status>`."""
    # Added to, not formatted or asked for its value: both are slow for a member of an enumeration.
    return f"{event_id(saga_id, step, branch)}#run-" + status


def run_message_id(saga_id: str, step: str, branch: str, kind: Kind) -> str:
    """Return the ID of a message about one run: `<saga_id>/<step>[/<branch>]#<kind>`."""
    return f"{event_id(saga_id, step, branch)}#{kind.value}"


def service_message_id(saga_id: str, service: str, kind: Kind) -> str:
    """Return the ID of a message about a saga at one service: `<saga_id>/<service>#<kind>`."""
    return f"{saga_id}/{service}#{kind.value}"


def outcome_id(saga_id: str, ending: Ending) -> str:
    """Return the ID of an outcome: `<saga_id>#outcome-<ending>`."""
    return f"{saga_id}#outcome-{ending.value}"


def idempotency_key(saga_id: str, step: str, branch: str, generation: int = 0, *, compensation: bool = False) -> str:
    """Return the key to hand to an outside system: 32 hex digits, the same for every attempt of one call.

    The first half of the SHA-256 over the JSON array of all arguments. An action and its
    compensation have different keys; a new generation has a new one.
    """
    parts = [saga_id, step, branch, generation, compensation]
    return sha256(orjson.dumps(parts)).hexdigest()[:32]
