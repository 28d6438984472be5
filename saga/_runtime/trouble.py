"""Carry what went wrong in a user's handler."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import cast, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails, core_schema

from saga._core.events import Hidden
from saga._core.hiding import hidden_values, redacted
from saga._runtime.tracing import NO_SPAN
from saga.errors import SagaError, StoreError
from saga.ports import Span

TEXT_CHARS = 200
_LINKS = 20
_VALUE = Hidden("value")
_PLAIN = frozenset(get_args(core_schema.ErrorType)) - {"value_error", "assertion_error"}
"""What pydantic itself finds; it says no value."""
_DRIVERS = frozenset({"asyncpg", "psycopg", "sqlalchemy", "sqlite3"})
"""The packages whose errors quote rows: `Key (name)=(…) already exists`, `Failing row contains (…)`."""


class Redacted(Exception):
    """Stand for an error of a handler's whose own text must not be printed; it has its traceback."""


class HandlerTrouble(Exception):
    """Carry what a user's handler raised, with a text fit for rows and reports.

    No value of a marked field of what the handler was `given` is in the text, nor in `shown`. `span` is the one it
    happened in, held until it is known what follows.
    """

    def __init__(self, error: BaseException, met: StoreError | None = None, *, given: Iterable[object] = ()) -> None:
        """Keep `error`; `met` is what the handler's own transaction has met, if anything."""
        self.error = error
        self.met = met
        self.span: Span = NO_SPAN
        self._hidden = hidden_values(given)
        super().__init__(f"{type(error).__name__}: {redacted(text_of(error), self._hidden)}"[:TEXT_CHARS])

    @property
    def shown(self) -> BaseException:
        """Return what may be logged with its traceback: the error, or what stands for it where it says values."""
        return shown(self.error, self._hidden)


def shown(error: BaseException, hidden: Mapping[str, str]) -> BaseException:
    """Return an error fit for a log: as it is, unless it or what it comes from says a value that is hidden."""
    chain = list(_chain(error))
    if not any(_tells(each, hidden) for each in chain):
        return error
    below: Redacted | None = None
    for each in reversed(chain):
        stand_in = Redacted(f"{type(each).__qualname__}: {redacted(text_of(each), hidden)}")
        stand_in.__traceback__ = each.__traceback__
        stand_in.__cause__ = below
        below = stand_in
    assert below is not None
    return below


def unquoted(error: BaseException) -> BaseException:
    """Return what may be logged of an error that no handler has raised; a database driver's says no row.

    Where a driver is at the bottom of it, what is not ours is said by its class and code alone; tracebacks stay.
    """
    chain = list(_chain(error))
    if not any(map(_quotes_rows, chain)):
        return error
    below: BaseException | None = None
    for each in reversed(chain):
        stand_in: BaseException = Redacted(said_of(each) if isinstance(each, SagaError) else _class_of(each))
        if isinstance(each, BaseExceptionGroup):
            inside = cast("BaseExceptionGroup[BaseException]", each).exceptions
            stand_in = BaseExceptionGroup("several errors", [unquoted(one) for one in inside])
        stand_in.__traceback__ = each.__traceback__
        stand_in.__cause__ = below
        below = stand_in
    assert below is not None
    return below


def said_of(error: BaseException) -> str:
    """Return the class of an error and what it says, for a line or a row; of a database driver's no text."""
    if any(map(_quotes_rows, _chain(error))) and not isinstance(error, SagaError):
        return _class_of(error)
    return f"{type(error).__name__}: {text_of(error)}"


def _quotes_rows(error: BaseException) -> bool:
    """Return whether the text of an error, or of one inside of a group, is a database driver's."""
    if isinstance(error, BaseExceptionGroup):
        inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return any(_quotes_rows(link) for each in inside for link in _chain(each))
    return any(each.__module__.partition(".")[0] in _DRIVERS for each in type(error).__mro__)


def _class_of(error: BaseException) -> str:
    """Return the class of an error, with the code that its driver gives it."""
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    name = type(error).__name__
    return f"{name}{f' {code}' if code else ''}: its text may quote a row and is left out"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it comes from, as a traceback shows them."""
    for _ in range(_LINKS):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _tells(error: BaseException, hidden: Mapping[str, str]) -> bool:
    """Return whether a traceback would print a hidden value, or those of a model that hides nothing."""
    if isinstance(error, ValidationError):
        return True
    said = "\n".join((text_of(error), *getattr(error, "__notes__", ())))
    if isinstance(error, BaseExceptionGroup):
        said = "".join(traceback.format_exception(cast("BaseException", error)))
    return redacted(said, hidden) != said or " validation error" in said


def text_of(error: BaseException) -> str:
    """Return what an error says; its text is the user's code too."""
    try:
        # A misfit in the user's own code says the values; nothing of them may end up in a row or a report.
        return misfit_text(error) if isinstance(error, ValidationError) else str(error)
    except Exception:  # noqa: BLE001 - the text is the user's code too
        return "(its text cannot be printed)"


def misfit_text(error: Exception) -> str:
    """Return why a payload cannot be read, without its values."""
    if not isinstance(error, ValidationError):
        return str(error)
    return f"payload does not fit {error.title}: {misfits_of(error)}"


def misfits_of(error: ValidationError) -> str:
    """Return what is wrong with the first fields that are, without their values."""
    return "; ".join(_misfit(each) for each in error.errors()[:5])


def _misfit(found: ErrorDetails) -> str:
    """Return what is wrong with a field; what a validator of the user's says about it may quote it."""
    where = ".".join(str(part) for part in found["loc"]) or "payload"
    if found["type"] in _PLAIN:
        return f"{where}: {found['msg']}"
    return f"{where}: {redacted(found['msg'], hidden_values([found['input']], _VALUE))}"
