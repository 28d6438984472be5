"""Declare services, steps, compensations, starts and ends; nothing here looks at annotations yet."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from saga._core.definition import Dependency, Saga, milliseconds
from saga._core.events import Event, check_name
from saga._core.function import Function, declared_function
from saga._core.retry import Retry
from saga._core.start import START, Start
from saga._core.step import Nothing, P, Result, Silent, Step, StepDeclaration, check_calls
from saga._core.words import StepKind
from saga.errors import DeclarationError

Emitted = TypeVar("Emitted", bound=Event | None)
Started = TypeVar("Started", bound=Event)

_TIMEOUT: Final = timedelta(seconds=30)
_RETRY: Final = Retry()


@dataclass(slots=True, kw_only=True)
class Declared:
    """Collect what one service has declared so far, in order."""

    steps: list[StepDeclaration] = field(default_factory=list[StepDeclaration])
    starts: list[Start[Any]] = field(default_factory=list[Start[Any]])
    ends: list[tuple[Saga, Function]] = field(default_factory=list[tuple[Saga, Function]])


class Service:
    """Declare one microservice's part in sagas; it owns one database and may run in many replicas."""

    def __init__(self, name: str, *, migrations: str | Path | None = None) -> None:
        check_name(name, "Service", example="inventory")
        if "." in name or name == "saga":
            msg = (
                f"Service {name!r} is not a usable name: 'saga' and names with '.' are ours; write such as 'inventory'"
            )
            raise DeclarationError(msg)
        self.name = name
        self.migrations = None if migrations is None else str(migrations)
        self.declared = Declared()

    def __repr__(self) -> str:
        """Name the service."""
        return f"<Service {self.name}>"

    def starts(self, saga: Saga, event: type[Started]) -> Start[Started]:
        """Declare that this service starts `saga` by emitting `event`; call the result to start one."""
        name = f"{self.name}.{START}"
        if any((s.saga.name, s.saga.version) == (saga.name, saga.version) for s in self.declared.starts):
            msg = f"{name} ({saga}): this service starts the saga already; keep one `starts`"
            raise DeclarationError(msg)
        start = Start(name=name, service=self.name, saga=saga, event=event)
        self.declared.starts.append(start)
        return start

    def step(
        self,
        saga: Saga,
        *,
        timeout: timedelta | None = None,
        retry: Retry = _RETRY,
        calls: Dependency | None = None,
        compensation: Nothing | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Result]]], Step[P, Result]]:
        """Declare a step that can be undone; it reacts to the event it takes and emits what it returns.

        `calls=` makes it external: it runs with no open transaction. It may run more than once.
        """

        def declare(function: Callable[P, Coroutine[Any, Any, Result]]) -> Step[P, Result]:
            declaration = self._add(
                function,
                StepKind.STEP,
                saga,
                timeout=timeout,
                retry=retry,
                calls=calls,
                compensation=compensation,
            )
            return Step(declaration, function)

        return declare

    def pivot(
        self,
        saga: Saga,
        *,
        timeout: timedelta | None = None,
        retry: Retry = _RETRY,
        calls: Dependency | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Result]]], Step[P, Result]]:
        """Declare the point of no return, one for each saga: once done, the saga only goes forward."""

        def declare(function: Callable[P, Coroutine[Any, Any, Result]]) -> Step[P, Result]:
            declaration = self._add(
                function,
                StepKind.PIVOT,
                saga,
                timeout=timeout,
                retry=retry,
                calls=calls,
                compensation=None,
            )
            return Step(declaration, function)

        return declare

    def retriable(
        self,
        saga: Saga,
        *,
        timeout: timedelta | None = None,
        retry: Retry = _RETRY,
        calls: Dependency | None = None,
        compensation: Nothing | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Emitted]]], Step[P, Emitted]]:
        """Declare a step that cannot refuse and is tried until it succeeds; `Retry.attempts` is not used.

        Beside the pivot, not after it, it also needs a compensation or NOTHING.
        """

        def declare(function: Callable[P, Coroutine[Any, Any, Emitted]]) -> Step[P, Emitted]:
            declaration = self._add(
                function,
                StepKind.RETRIABLE,
                saga,
                timeout=timeout,
                retry=retry,
                calls=calls,
                compensation=compensation,
            )
            return Step(declaration, function)

        return declare

    def on_end(self, saga: Saga) -> Callable[[Silent], Silent]:
        """Declare what the starter does once its saga has ended; takes (ended, run)."""

        def declare(function: Silent) -> Silent:
            where = f"{self.name}.on_end ({saga})"
            if any((s.name, s.version) == (saga.name, saga.version) for s, _ in self.declared.ends):
                msg = f"{where} is declared twice; keep one"
                raise DeclarationError(msg)
            self.declared.ends.append((saga, declared_function(function, where)))
            return function

        return declare

    def _add(
        self,
        function: Any,
        kind: StepKind,
        saga: Saga,
        *,
        timeout: timedelta | None,
        retry: Retry,
        calls: Dependency | None,
        compensation: Nothing | None,
    ) -> StepDeclaration:
        if isinstance(function, Step):
            msg = f"{self.name}: {function!r} is declared already; one function is one step, so write a second function"
            raise DeclarationError(msg)
        label = getattr(function, "__name__", repr(function))
        name = f"{self.name}.{label}"
        where = f"{name} ({saga})"
        if label == START:
            msg = f"{where}: `{START}` names the run that starts a saga; rename the function"
            raise DeclarationError(msg)
        taken = (name, saga.name, saga.version)
        if any((s.name, s.saga.name, s.saga.version) == taken for s in self.declared.steps):
            msg = f"{where}: two steps of this name; rename one function"
            raise DeclarationError(msg)
        declared = declared_function(function, where)
        check_name(label, f"{where}: function", example="reserve_stock")
        if timeout is None:
            timeout = min(_TIMEOUT, saga.timeout)
        milliseconds(timeout, f"{where}: timeout")
        if timeout > saga.timeout:
            msg = (
                f"{where}: timeout {timeout} is longer than the saga's {saga.timeout}; shorten it "
                "or lengthen the saga's"
            )
            raise DeclarationError(msg)
        check_calls(calls, where)
        declaration = StepDeclaration(
            name=name,
            saga=saga,
            kind=kind,
            function=declared,
            timeout=timeout,
            retry=retry,
            calls=calls,
            compensation=compensation,
        )
        self.declared.steps.append(declaration)
        return declaration
