"""Turn a database URL into a store; asyncpg is imported only when a `postgresql://` URL asks for it."""

from __future__ import annotations

import importlib.util
import os.path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard
from urllib.parse import parse_qs, unquote, urlsplit

from outbox.sqlite import SqliteCoordinationStore, SqliteOperatingStore, SqliteStore
from outbox.sqlite.checkup import SqliteCheckup
from outbox.sqlite.overseeing import SqliteOverseeingStore
from saga.errors import SettingsError
from saga.ports import Clock, CoordinationStore, OperatingStore, Store
from saga.ports.checkups import Checkup
from saga.ports.overseeing import OverseeingStore

if TYPE_CHECKING:
    from outbox.postgres import PostgresSettings

_ACCEPTED = "use sqlite:///path/file.db, sqlite:///:memory: or postgresql://user@host:port/database"
_POSTGRES = ("postgresql", "postgres")
_CARRIED = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey"})
"""Parameters that mean the same to every driver."""


class Engine(Protocol):
    """Be an `AsyncEngine` of SQLAlchemy's, which the core does not import."""

    @property
    def sync_engine(self) -> Any:
        """Return the engine below."""
        ...

    @property
    def dialect(self) -> Any:
        """Return what says which database and driver it is for."""
        ...


class AnyEngine(Protocol):
    """Be an engine of SQLAlchemy's, also one that is not asynchronous: it says at least where its database is."""

    @property
    def url(self) -> Any:
        """Return its URL, with the password."""
        ...

    @property
    def dialect(self) -> Any:
        """Return what says which database and driver it is for."""
        ...


def is_engine(at: object) -> TypeGuard[Engine]:
    """Return whether that is an engine of SQLAlchemy's, also one that cannot be used."""
    return any(cls.__module__.partition(".")[0] == "sqlalchemy" for cls in type(at).__mro__)


def open_store(url: str | Engine, *, clock: Clock | None = None, settings: PostgresSettings | None = None) -> Store:
    """Build the participant's store a URL names, without connecting; or one on an engine of SQLAlchemy's.

    `clock` applies to SQLite only, PostgreSQL has its own; `settings` to PostgreSQL only. Raises
    SettingsError for another scheme, a malformed URL, a missing `[postgres]` extra, or an engine of another driver
    than asyncpg. A URL of SQLAlchemy's (`postgresql+psycopg://…`) is taken without its driver.
    """
    if isinstance(url, str):
        url = without_driver(url)
    else:
        _check_driver("an engine of SQLAlchemy's")
        from outbox.sqlalchemy.pool import checked_engine  # noqa: PLC0415 - the core has no SQLAlchemy
        from outbox.sqlalchemy.stores import SqlAlchemyStore  # noqa: PLC0415

        return SqlAlchemyStore(checked_engine(url), settings=settings)
    if _scheme(url) in _POSTGRES:
        _check_postgres(url)
        from outbox.postgres import PostgresStore  # noqa: PLC0415 - the core install has no asyncpg

        return PostgresStore(url, settings=settings)
    path, name = _sqlite(url, settings)
    return SqliteStore(path, name=name, clock=clock)


def open_coordination_store(
    url: str | Engine, *, clock: Clock | None = None, settings: PostgresSettings | None = None
) -> CoordinationStore:
    """Build the coordinator's store a URL names, without connecting; see `open_store`."""
    if isinstance(url, str):
        url = without_driver(url)
    else:
        _check_driver("an engine of SQLAlchemy's")
        from outbox.sqlalchemy.pool import checked_engine  # noqa: PLC0415 - as above
        from outbox.sqlalchemy.stores import SqlAlchemyCoordinationStore  # noqa: PLC0415

        return SqlAlchemyCoordinationStore(checked_engine(url), settings=settings)
    if _scheme(url) in _POSTGRES:
        _check_postgres(url)
        from outbox.postgres import PostgresCoordinationStore  # noqa: PLC0415 - the core install has no asyncpg

        return PostgresCoordinationStore(url, settings=settings)
    path, name = _sqlite(url, settings)
    return SqliteCoordinationStore(path, name=name, clock=clock)


def open_operating_store(
    url: str, *, clock: Clock | None = None, settings: PostgresSettings | None = None
) -> OperatingStore:
    """Build what a person looks at a database with, a participant's or a coordinator's; see `open_store`."""
    url = without_driver(url)
    if _scheme(url) in _POSTGRES:
        _check_postgres(url)
        from outbox.postgres import PostgresOperatingStore  # noqa: PLC0415 - the core install has no asyncpg

        return PostgresOperatingStore(url, settings=settings)
    path, name = _sqlite(url, settings)
    return SqliteOperatingStore(path, name=name, clock=clock)


def open_overseeing_store(
    url: str, *, clock: Clock | None = None, settings: PostgresSettings | None = None
) -> OverseeingStore:
    """Build what a console looks at a database with, a participant's or a coordinator's; see `open_store`."""
    url = without_driver(url)
    if _scheme(url) in _POSTGRES:
        _check_postgres(url)
        from outbox.postgres.overseeing import PostgresOverseeingStore  # noqa: PLC0415 - the core install has no asyncpg

        return PostgresOverseeingStore(url, settings=settings)
    path, name = _sqlite(url, settings)
    return SqliteOverseeingStore(path, name=name, clock=clock)


def open_checkup(url: str, *, clock: Clock | None = None, settings: PostgresSettings | None = None) -> Checkup:
    """Build what a database is examined with, whatever state its tables are in; see `open_store`."""
    url = without_driver(url)
    if _scheme(url) in _POSTGRES:
        _check_postgres(url)
        from outbox.postgres.checkup import PostgresCheckup  # noqa: PLC0415 - the core install has no asyncpg

        return PostgresCheckup(url, settings=settings, clock=clock)
    path, name = _sqlite(url, settings)
    return SqliteCheckup(path, name=name, clock=clock)


def file_of(url: str) -> str:
    """Return the path of a `sqlite:///` URL's file, "" for any other; raises SettingsError."""
    url = without_driver(url)
    return "" if _scheme(url) in _POSTGRES else _sqlite(url, None)[0]


def without_driver(url: str) -> str:
    """Return a URL of SQLAlchemy's without its driver, any other as it is: `postgresql+psycopg://…` is for people."""
    scheme, separator, rest = url.partition("://")
    dialect, plus, _ = scheme.partition("+")
    return f"{dialect}{separator}{rest}" if plus and dialect in (*_POSTGRES, "sqlite") else url


def url_of(engine: AnyEngine) -> str:
    """Return the URL of an engine of SQLAlchemy's, of any driver, with its password.

    Raises SettingsError for one that may say more than its URL does: a database in memory, unknown parameters.
    """
    found = engine.url
    kind = f"{type(engine).__module__}.{type(engine).__qualname__}"
    told = f"store= is a {kind}, whose URL cannot be taken over: pass the URL instead, store='postgresql://…'"
    if found.get_backend_name() not in (*_POSTGRES, "sqlite") or found.query.keys() - _CARRIED:
        raise SettingsError(f"{told} or store='sqlite:///file.db'")
    if found.get_backend_name() == "sqlite" and found.database in (None, "", ":memory:"):
        raise SettingsError(f"{told}; a database in memory belongs to its engine alone")
    return without_driver(found.render_as_string(hide_password=False))


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in (*_POSTGRES, "sqlite"):
        found = f"scheme {scheme!r}" if separator else "no scheme"
        raise SettingsError(f"a database URL with {found} cannot be used; {_ACCEPTED}")
    return scheme


def _sqlite(url: str, settings: PostgresSettings | None) -> tuple[str, str | None]:
    """Return path and name of a `sqlite:///` URL; three slashes begin a relative path, four an absolute one."""
    if settings is not None:
        raise SettingsError("settings= belong to PostgreSQL; leave them out with sqlite:///, or use postgresql://")
    rest = url.removeprefix("sqlite://")
    path, _, query = rest.partition("?")
    if not path.startswith("/") or path == "/":
        raise SettingsError(f"sqlite:// needs three slashes and a path; {_ACCEPTED}")
    path = unquote(path[1:])
    parameters = parse_qs(query, keep_blank_values=True)
    if path == ":memory:":
        name = parameters.pop("name", [None])[-1]
        if not parameters:
            return path, name
    elif not query:
        return os.path.realpath(path), None
    raise SettingsError(f"a sqlite:/// URL takes no parameters (a database in memory takes ?name=…); {_ACCEPTED}")


def _check_postgres(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and len(parts.path) > 1 and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"a postgresql:// URL needs a host and a database; {_ACCEPTED}")
    _check_driver("postgresql://")


def _check_driver(what: str) -> None:
    if importlib.util.find_spec("asyncpg") is None:
        raise SettingsError(f"{what} needs the extra [postgres]: pip install 'saga-choreography[postgres]'")
