"""Say what the user of a running service needs to be allowed, and what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from outbox.sql import Component
from saga.errors import SettingsError

_ALL = "SELECT, INSERT, UPDATE, DELETE"

# `for update` needs UPDATE, also where a row is never changed: with it those who delete pass each other by.
GRANTS: Mapping[Component, Mapping[str, str]] = {
    Component.SHARED: {
        "saga_migration": "SELECT",
        "saga_outbox": "SELECT, INSERT, DELETE",
        "saga_outbox_cdc": _ALL,
        "saga_delivery": _ALL,
        "saga_lease": _ALL,
        "saga_audit": _ALL,
    },
    Component.PARTICIPANT: {
        "saga_run": _ALL,
        "saga_gate": _ALL,
        "saga_lock": _ALL,
        "saga_lock_queue": _ALL,
        "saga_inbox": "SELECT, INSERT",
        "saga_inbox_rest": "SELECT, DELETE",
    },
    Component.COORDINATOR: {
        "saga_instance": _ALL,
        "saga_cursor": "SELECT, INSERT, UPDATE",
        "saga_plan": _ALL,
    },
}

_DENIED = re.compile(r"permission denied for (?:table|relation|view|sequence|schema) (\S+)")


def grants_of(components: Iterable[Component]) -> dict[str, str]:
    """Return the privileges on each table of some components."""
    return {table: privileges for component in components for table, privileges in GRANTS[component].items()}


def grant_for(text: str) -> str:
    """Return what to do about an error that says what is denied."""
    found = _DENIED.search(text)
    name = found[1] if found else ""
    for kind in ("schema", "sequence"):
        if f"for {kind} " in text:
            return f"{text}: let its owner run GRANT USAGE ON {kind.upper()} {name} TO the user of this service"
    privileges = grants_of(Component).get(name)
    if privileges is not None:
        return f"{text}: let its owner run GRANT {privileges} ON {name} TO the user of this service"
    return f"{text}: let the owner of saga's tables grant it to the user of this service"


def check_grants(missing: Mapping[str, Iterable[str]], role: str, where: str) -> None:
    """Raise SettingsError with a GRANT for each table on which privileges are missing."""
    wanted = [f'GRANT {", ".join(privileges)} ON {table} TO "{role}";' for table, privileges in missing.items()]
    if wanted:
        lines = "\n".join(wanted)
        raise SettingsError(f"{where}: user {role} may not do all that a service does; let the owner run\n{lines}")
