"""Declare services, steps, compensations, starts and ends; nothing here looks at annotations yet."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, Unpack, cast

from saga._core import subscribing
from saga._core.definition import Saga
from saga._core.events import Event, check_name
from saga._core.function import Function, declared_function, declared_rule
from saga._core.locks import EntityLock
from saga._core.options import TIMEOUT, ChildOptions, StepOptions, UndoneOptions, timeout_of
from saga._core.receive import Receive
from saga._core.retry import Retry
from saga._core.start import START, Start, WhenOpen
from saga._core.step import ChildStep, Joining, P, Result, Silent, Step, StepDeclaration, check_calls
from saga._core.words import StepKind
from saga.errors import DeclarationError

Emitted = TypeVar("Emitted", bound=Event | Sequence[Event | None] | None)
Started = TypeVar("Started", bound=Event)
Rule = TypeVar("Rule", bound=Callable[[Any], Event])

_RETRY: Final = Retry()


@dataclass(slots=True, kw_only=True)
class Declared:
    """Collect what one service has declared so far, in order."""

    steps: list[StepDeclaration] = field(default_factory=list[StepDeclaration])
    starts: list[Start[Any]] = field(default_factory=list[Start[Any]])
    receives: list[Receive[Any]] = field(default_factory=list[Receive[Any]])
    ends: list[tuple[Saga, Function]] = field(default_factory=list[tuple[Saga, Function]])
    upcasters: list[Function] = field(default_factory=list[Function])
    locks: list[EntityLock] = field(default_factory=list[EntityLock])
    subscribers: list[subscribing.Declaration] = field(default_factory=list[subscribing.Declaration])


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

    def starts(
        self,
        saga: Saga,
        event: type[Started],
        *,
        when_open: WhenOpen = WhenOpen.LET_THROUGH,
        hold_seconds: float = 10.0,
    ) -> Start[Started]:
        """Declare that this service starts `saga` by emitting `event`; call the result to start one.

        While the fleet leaves a dependency alone that the plan calls, a start is let through (its run waits there),
        held for at most `hold_seconds`, or refused, as `when_open` says.
        """
        name = f"{self.name}.{START}"
        if any((s.saga.name, s.saga.version) == (saga.name, saga.version) for s in self.declared.starts):
            msg = f"{name} ({saga}): this service starts the saga already; keep one `starts`"
            raise DeclarationError(msg)
        start = Start(
            name=name, service=self.name, saga=saga, event=event, when_open=when_open, hold_seconds=hold_seconds
        )
        self.declared.starts.append(start)
        return start

    def step(
        self, saga: Saga, **options: Unpack[UndoneOptions]
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Result]]], Step[P, Result]]:
        """Declare a step that can be undone; it reacts to the event it takes and emits what it returns.

        A list of events goes on once for each element. `calls=` makes it external: it runs with no open
        transaction. It may run more than once. `delay=` lets it wait after its event, `within=` closes the saga
        when it has not ended that long after its cause, whatever the saga's own timeout.
        """
        return self._declaring(saga, StepKind.STEP, options)

    def pivot(
        self, saga: Saga, **options: Unpack[StepOptions]
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Result]]], Step[P, Result]]:
        """Declare the point of no return, one for each saga: once done, the saga only goes forward."""
        return self._declaring(saga, StepKind.PIVOT, options)

    def retriable(
        self, saga: Saga, **options: Unpack[UndoneOptions]
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Emitted]]], Step[P, Emitted]]:
        """Declare a step that cannot refuse and is tried until it succeeds; `Retry.attempts` is not used.

        Beside the pivot, not after it, it also needs a compensation or NOTHING.
        """
        return self._declaring(saga, StepKind.RETRIABLE, options)

    def join(
        self, saga: Saga, *, kind: StepKind = StepKind.STEP, **options: Unpack[UndoneOptions]
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Result]]], Step[P, Result]]:
        """Declare a step that takes several events, or `list[Event]` of all branches of a fan-out.

        It runs once, with the delivery that completes the set; what came before waits in its run row. `kind` says
        what it promises, as the other decorators do: STEP, PIVOT or RETRIABLE.
        """
        return self._declaring(saga, kind, options, joins=Joining.JOIN)

    def child(
        self, saga: Saga, start: Start[Any], **options: Unpack[ChildOptions]
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Started]]], ChildStep[P, Started]]:
        """Declare a step that is a saga of its own: it returns the event that `start` starts the child with.

        The step is done when the child has completed, with what the function marked `@<step>.completed` returns.
        It is refused or has failed when the child was undone. When the parent is undone, so is the child, also one
        that has completed; therefore its plan has no pivot. The child has its own plan, timeout and outcome.
        """

        def declare(function: Callable[P, Coroutine[Any, Any, Started]]) -> ChildStep[P, Started]:
            declaration = self._add(function, StepKind.STEP, saga, cast("StepOptions", options))
            if start.service != self.name:
                msg = f"{declaration.where}: {start!r} is another service's; declare `{self.name}.starts(...)` for it"
                raise DeclarationError(msg)
            declaration.child = start
            return ChildStep(declaration, function)

        return declare

    def receives(self, saga: Saga, event: type[Started]) -> Receive[Started]:
        """Declare that `event` comes into the saga from outside; call the result to hand one in.

        A join of the saga takes it, whether it comes before or after the saga asks for it.
        """
        received = Receive(service=self.name, saga=saga, event=event)
        if any(r.name == received.name and r.saga == saga for r in self.declared.receives):
            msg = f"{received.name} ({saga}): this service receives {event.__qualname__} already; keep one `receives`"
            raise DeclarationError(msg)
        self.declared.receives.append(received)
        return received

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

    def on(
        self,
        event: type[Event],
        *,
        source: Service | str | None = None,
        topic: str | None = None,
        timeout: timedelta = TIMEOUT,
        retry: Retry = _RETRY,
    ) -> Callable[[Silent], Silent]:
        """Declare what this service does about a plain event, one outside of any saga; takes (event, run).

        It comes from the service `source`, or from `topic`. Its effects in the service's own database happen once.
        A failed attempt is made again as `retry` says; then the event becomes a dead letter.
        """
        at = subscribing.topic_of(self.name, event, source.name if isinstance(source, Service) else source, topic)

        def declare(function: Silent) -> Silent:
            self.declared.subscribers.append(subscribing.declared(self.name, event, at, function, timeout, retry))
            return function

        return declare

    def upcaster(self, function: Rule) -> Rule:
        """Declare how an older version of an event becomes a later one: a plain `def` from one to the other.

        It reads what senders before the change have sent and what was stored before it. It must be pure: it runs
        again for every attempt. The function stays as it is, so several services may declare the same.
        """
        label = getattr(function, "__name__", repr(function))
        self.declared.upcasters.append(declared_rule(function, f"{self.name}: upcaster {label}"))
        return function

    def lock(self, kind: str) -> EntityLock:
        """Declare that sagas hold entities of this service, such as `sku`; `run.lock` takes one by its ID."""
        check_name(kind, f"{self.name}: lock", example="sku")
        lock = EntityLock(self.name, kind)
        if lock in self.declared.locks:
            msg = f"{lock}: this service declares the lock already; keep one and import it"
            raise DeclarationError(msg)
        self.declared.locks.append(lock)
        return lock

    def _declaring(
        self, saga: Saga, kind: StepKind, options: StepOptions, joins: Joining = Joining.ONE
    ) -> Callable[[Callable[P, Coroutine[Any, Any, Any]]], Step[P, Any]]:
        def declare(function: Callable[P, Coroutine[Any, Any, Any]]) -> Step[P, Any]:
            declaration = self._add(function, kind, saga, options)
            declaration.joining = joins
            return Step(declaration, function)

        return declare

    def _add(self, function: Any, kind: StepKind, saga: Saga, options: StepOptions) -> StepDeclaration:
        where = self._checked_name(function, saga)
        declared = declared_function(function, where)
        check_name(function.__name__, f"{where}: function", example="reserve_stock")
        if kind is StepKind.RECEIVE:
            msg = f"{where}: kind={kind!r} is no promise of a step; write StepKind.STEP, PIVOT or RETRIABLE"
            raise DeclarationError(msg)
        timeout = timeout_of(where, kind, saga, options)
        check_calls(options.get("calls"), timeout, where)
        declaration = StepDeclaration(
            name=f"{self.name}.{function.__name__}",
            saga=saga,
            kind=kind,
            function=declared,
            timeout=timeout,
            retry=options.get("retry", _RETRY),
            calls=options.get("calls"),
            compensation=cast("UndoneOptions", options).get("compensation"),
            delay=options.get("delay"),
            within=options.get("within"),
        )
        self.declared.steps.append(declaration)
        return declaration

    def _checked_name(self, function: Any, saga: Saga) -> str:
        """Return how messages name the step to declare; raise DeclarationError when it cannot have its name."""
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
        return where
