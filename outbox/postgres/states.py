"""Say what an SQLSTATE means to the runtime, whichever driver has brought it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from outbox.postgres.grants import grant_for
from saga.errors import Conflict, Contended, GrantMissing, StoreError, StoreUnavailable

ENDED_INSIDE = "the transaction was ended inside its unit of work: a handler must not commit or roll back"

_CONTENDED = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock timeout
_AWAY = ("08", "53", "57P", "58", "25006")  # connection, resources, shutdown, system error, read-only standby
_LOST = ("08", "57P")
_CANCELED = "57014"
_DUPLICATE = "23505"
_ABORTED = "25P02"
_DENIED = "42501"
_NOT_ALL_MET = "22012"  # what `Composer.whole` makes of a missing row: nothing else of ours divides
# Each partition of the inbox has a name of its own.
_OURS = ("saga_run", "saga_instance", "saga_cursor", "saga_delivery", "saga_inbox")


class Origin(StrEnum):
    """Say whose statement failed: a user's own error reaches the user as the driver's."""

    OURS = "ours"
    USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Be an error as the server has reported it; what it did not tell is empty."""

    state: str
    text: str
    table: str
    detail: str


def meaning(error: Reported, origin: Origin) -> StoreError | None:
    """Return what an error of the server means to the runtime, None if it is nobody's business but the caller's."""
    if error.state in _CONTENDED:
        return Contended(error.text)
    if error.state.startswith(_AWAY):
        return StoreUnavailable(error.text)
    return _meaning_of_ours(error) if origin is Origin.OURS else None


def is_lost(state: str) -> bool:
    """Return whether an SQLSTATE says that the connection is gone."""
    return state.startswith(_LOST)


def _meaning_of_ours(error: Reported) -> StoreError | None:
    if error.state == _CANCELED:
        # Statements of ours are short: only a wait for a lock reaches the statement timeout.
        return Contended(error.text)
    if error.state == _DUPLICATE and error.table.startswith(_OURS):
        return Conflict(error.detail or error.text)
    if error.state == _DENIED:
        return GrantMissing(grant_for(error.text))
    if error.state == _NOT_ALL_MET:
        return Conflict("a row was changed by somebody else since it was read")
    if error.state == _ABORTED:
        return StoreError(
            "a statement of the handler failed and the handler went on: PostgreSQL has aborted the transaction; "
            "let the error out of the handler, or write `on conflict do nothing`"
        )
    return None
