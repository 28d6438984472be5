"""Declare a step's other halves next to it: how it is undone, and how an outside call is recorded and confirmed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from saga._core.definition import Dependency, Saga, milliseconds
from saga._core.events import Event, Refusal
from saga._core.function import Function, declared_function
from saga._core.retry import Retry
from saga._core.start import Start
from saga._core.words import StepKind
from saga.errors import DeclarationError

P = ParamSpec("P")
Result = TypeVar("Result", bound=Event | Refusal | Sequence[Event | Refusal | None] | None)
Completed = TypeVar("Completed", bound=Callable[..., Coroutine[Any, Any, Event | None]])
Silent = TypeVar("Silent", bound=Callable[..., Coroutine[Any, Any, None]])
Found = TypeVar("Found", bound="Event | Refusal | NotFound | None")


class Nothing(Enum):
    """Be the type of NOTHING."""

    NOTHING = "nothing"


NOTHING: Final = Nothing.NOTHING
"""Say of a step that there is nothing to undo: `@service.step(saga, compensation=NOTHING)`."""


class NotFound(Enum):
    """Be the type of NOT_FOUND, for the annotation of a `confirm`: `-> Captured | Declined | NotFound`."""

    NOT_FOUND = "not_found"


NOT_FOUND: Final = NotFound.NOT_FOUND
"""Say in a `confirm` that the outside system knows nothing of the call."""


class Joining(StrEnum):
    """Say whether a step takes one event or joins several."""

    ONE = "one"
    JOIN = "join"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationDeclaration:
    """Hold a compensation as its decorator got it."""

    function: Function
    calls: Dependency | None
    timeout: timedelta
    retry: Retry


@dataclass(slots=True, kw_only=True)
class StepDeclaration:
    """Hold a step as its decorators got it; compensation, `recorded`, `confirm` arrive after the step itself."""

    name: str
    saga: Saga
    kind: StepKind
    function: Function
    timeout: timedelta
    retry: Retry
    calls: Dependency | None
    compensation: CompensationDeclaration | Nothing | None
    recorded: Function | None = None
    confirm: Function | None = None
    delay: timedelta | None = None
    within: timedelta | None = None
    joining: Joining = Joining.ONE
    child: Start[Any] | None = None
    completed: Function | None = None

    @property
    def where(self) -> str:
        """Return how messages name the step."""
        return f"{self.name} ({self.saga})"


class Step(Generic[P, Result]):
    """Be a declared step; calling it calls the function, as in a unit test."""

    def __init__(self, declaration: StepDeclaration, function: Callable[P, Coroutine[Any, Any, Result]]) -> None:
        self.declaration = declaration
        self.function = function
        functools.update_wrapper(self, function)

    @property
    def name(self) -> str:
        """Return the step's name, `service.function`."""
        return self.declaration.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Result]:
        """Call the function itself: no transaction, no outbox, no run row."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        """Name the step."""
        return f"<{self.declaration.kind} {self.declaration.where}>"

    @overload
    def compensation(self, function: Silent, /) -> Silent: ...
    @overload
    def compensation(
        self, *, calls: Dependency | None = None, timeout: timedelta | None = None, retry: Retry | None = None
    ) -> Callable[[Silent], Silent]: ...
    def compensation(
        self,
        function: Silent | None = None,
        *,
        calls: Dependency | None = None,
        timeout: timedelta | None = None,
        retry: Retry | None = None,
    ) -> Silent | Callable[[Silent], Silent]:
        """Declare how the step is undone; parameters are bound by type: its result, its input, the Run.

        `calls=` makes it external: it runs with no open transaction. Not given, `timeout` is the step's and
        `retry` is `UNDO_RETRY`: giving up an undo leaves the saga stuck, so it is tried for long.
        """

        def declare(undo: Silent) -> Silent:
            self._compensate(undo, calls, timeout, retry)
            return undo

        return declare if function is None else declare(function)

    def recorded(self, function: Silent) -> Silent:
        """Declare what is written together with an external step's result; takes (result, run)."""
        declaration = self.declaration
        where = f"{declaration.where}: recorded"
        if declaration.calls is None:
            msg = (
                f"{where}: a step without calls= writes in its own transaction; "
                f"move the writes into {declaration.name} itself, or declare the step with calls="
            )
            raise DeclarationError(msg)
        if declaration.recorded is not None:
            msg = f"{where} is declared twice; keep one"
            raise DeclarationError(msg)
        declaration.recorded = declared_function(function, where)
        return function

    def confirm(self, function: Callable[P, Coroutine[Any, Any, Found]]) -> Callable[P, Coroutine[Any, Any, Found]]:
        """Declare how the outside system is asked what came of a call; takes (event, run), returns what it found.

        It asks by `run.idempotency_key` and changes nothing there. It returns what the step would have returned,
        or NOT_FOUND. It is asked before a call that nobody answered is repeated or undone. NOT_FOUND is believed
        once the last call can no longer be under way (`Dependency.max_in_flight`).
        """
        declaration = self.declaration
        where = f"{declaration.where}: confirm"
        if declaration.calls is None:
            msg = f"{where}: a step without calls= calls nothing outside; remove it, or declare the step with calls="
            raise DeclarationError(msg)
        if declaration.confirm is not None:
            msg = f"{where} is declared twice; keep one"
            raise DeclarationError(msg)
        declaration.confirm = declared_function(function, where)
        return function

    def _compensate(self, undo: Any, calls: Dependency | None, timeout: timedelta | None, retry: Retry | None) -> None:
        declaration = self.declaration
        where = f"{declaration.where}: compensation"
        if declaration.kind is StepKind.PIVOT:
            msg = f"{where}: a pivot is the point of no return and is never undone; use @service.step, or drop this"
            raise DeclarationError(msg)
        if declaration.compensation is NOTHING:
            msg = f"{where}: the step says compensation=NOTHING; remove either that or this function"
            raise DeclarationError(msg)
        if declaration.compensation is not None:
            msg = f"{where} is declared twice; keep one"
            raise DeclarationError(msg)
        if timeout is not None:
            milliseconds(timeout, f"{where}: timeout")
        timeout = declaration.timeout if timeout is None else timeout
        check_calls(calls, timeout, where)
        declaration.compensation = CompensationDeclaration(
            function=declared_function(undo, where),
            calls=calls,
            timeout=timeout,
            retry=UNDO_RETRY if retry is None else retry,
        )


class ChildStep(Step[P, Result]):
    """Be a declared step whose effect is a child saga."""

    def completed(self, function: Completed) -> Completed:
        """Declare what the parent goes on with once the child has completed; takes (ended, run), returns an event.

        It runs in the transaction that ends the step, and may run more than once like any handler.
        """
        declaration = self.declaration
        where = f"{declaration.where}: completed"
        if declaration.completed is not None:
            msg = f"{where} is declared twice; keep one"
            raise DeclarationError(msg)
        declaration.completed = declared_function(function, where)
        return function

    def _compensate(self, undo: Any, calls: Dependency | None, timeout: timedelta | None, retry: Retry | None) -> None:
        del undo, calls, timeout, retry
        msg = f"{self.declaration.where}: compensation: a child saga is undone by its own steps; remove this function"
        raise DeclarationError(msg)


UNDO_RETRY = Retry(attempts=50, base_seconds=0.2, cap_seconds=60.0)
"""How often a compensation is tried: about 20 minutes on average, before a person has to look."""


def check_calls(calls: Any, timeout: timedelta, where: str) -> None:
    """Raise DeclarationError unless `calls` is None, or a Dependency whose calls may last as long as `timeout`."""
    if calls is not None and not isinstance(calls, Dependency):
        msg = f"{where}: calls={calls!r} is not a Dependency; write calls=Dependency('gateway')"
        raise DeclarationError(msg)
    if calls is not None and timeout > calls.max_in_flight:
        msg = (
            f"{where}: timeout {timeout} is longer than the {calls.max_in_flight} that a call to {calls.name} may be "
            f"under way, so one that hangs could not be repeated in time; give timeout=, or a longer max_in_flight "
            f"(and key_ttl) to Dependency({calls.name!r})"
        )
        raise DeclarationError(msg)
