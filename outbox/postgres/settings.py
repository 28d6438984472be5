"""Hold what can be tuned about a PostgreSQL store, and read it from a URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from math import isfinite
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from saga.errors import SettingsError

STATEMENT_CACHE = 100


class PgBouncer(StrEnum):
    """Say what stands between a store and its server: nothing, or a pgbouncer in transaction mode."""

    NONE = "none"
    TRANSACTION = "transaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """Tune a store; `schema` is where saga's tables lie, None leaves it to the search path.

    `statement_timeout_seconds` ends one statement, a wait for a lock included. A transaction in which
    nothing happens for `idle_in_transaction_seconds` is ended by the server: it must exceed the longest
    step timeout. Both are settings of the session, or of each transaction behind a pgbouncer: that refuses
    settings of a session, and would hand them on to the next client. `statement_cache_size` is how many
    prepared statements a connection keeps, None chooses: none behind a pgbouncer, since one older than 1.21
    or without `max_prepared_statements` cannot carry them.
    """

    schema: str | None = None
    pool_size: int = 10
    acquire_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 10.0
    statement_timeout_seconds: float = 30.0
    idle_in_transaction_seconds: float = 300.0
    pgbouncer: PgBouncer = PgBouncer.NONE
    statement_cache_size: int | None = None

    @property
    def server(self) -> Mapping[str, str]:
        """Return the timeouts under the names they have at the server, in milliseconds."""
        return {
            "statement_timeout": f"{self.statement_timeout_seconds * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction_seconds * 1000:.0f}",
        }

    @property
    def local(self) -> str:
        """Return the same as statements for the beginning of a transaction."""
        return "; ".join(f"SET LOCAL {name} = {value}" for name, value in self.server.items())

    @property
    def cached_statements(self) -> int:
        """Return how many prepared statements a connection keeps."""
        if self.statement_cache_size is not None:
            return self.statement_cache_size
        return STATEMENT_CACHE if self.pgbouncer is PgBouncer.NONE else 0


def read_url(url: str, settings: PostgresSettings | None) -> tuple[str, PostgresSettings]:
    """Return a URL without the parameters that are a store's settings, and `settings` changed by them.

    Parameters of any other name stay: they are the driver's. Raises SettingsError for a value that cannot be one.
    """
    parts = urlsplit(url)
    names = {field.name for field in fields(PostgresSettings)}
    given = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: _value(name, text) for name, text in given if name in names}
    if not ours:
        return url, settings or PostgresSettings()
    rest = urlencode([(name, text) for name, text in given if name not in names])
    return urlunsplit(parts._replace(query=rest)), replace(settings or PostgresSettings(), **ours)


def _value(name: str, text: str) -> Any:
    try:
        if name == "schema":
            return text
        if name == "pgbouncer":
            return PgBouncer(text)
        number = int(text) if name in ("pool_size", "statement_cache_size") else float(text)
        if number > 0 and isfinite(number):
            return number
    except ValueError:
        pass
    if (name, text) == ("statement_cache_size", "0"):
        return 0
    wanted = "none or transaction" if name == "pgbouncer" else "a number above 0"
    raise SettingsError(f"?{name}={text[:40]} in a postgresql:// URL cannot be used: write {wanted}")


def pasted(url: str, schema: str | None) -> str:
    """Return a URL for a command line: with its user, `***` for a password, and of the parameters the schema."""
    parts = urlsplit(url)
    who, at, host = parts.netloc.rpartition("@")
    user, colon, _ = who.partition(":")
    query = "" if schema is None else f"?schema={quote(schema)}"
    return f"{parts.scheme}://{user}{colon and ':***'}{at}{host}{parts.path}{query}"


def shown(url: str) -> str:
    """Return a URL without user, password and parameters."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
