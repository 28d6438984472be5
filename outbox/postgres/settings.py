"""Hold what can be tuned about a PostgreSQL store."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Tune a store; `schema` is where saga's tables lie, None leaves it to the search path.

    `statement_timeout_seconds` ends one statement, a wait for a lock included. A transaction in which
    nothing happens for `idle_in_transaction_seconds` is ended by the server: it must exceed the longest
    step timeout. Both are settings of the session.
    """

    schema: str | None = None
    pool_size: int = 10
    acquire_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 10.0
    statement_timeout_seconds: float = 30.0
    idle_in_transaction_seconds: float = 300.0


def shown(url: str) -> str:
    """Return a URL without user, password and parameters."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
