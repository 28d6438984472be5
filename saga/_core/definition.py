"""Hold what a service declared, resolved and checked: what the runtime calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from saga._core.events import Event, Refusal, check_name
from saga._core.plan import Undoing
from saga._core.retry import Retry
from saga._core.words import Effects, StepKind
from saga.errors import DeclarationError

Handler = Callable[..., Awaitable[Any]]


class Binding(StrEnum):
    """Say what a handler's parameter gets."""

    INPUT = "input"
    RESULT = "result"
    RUN = "run"


def milliseconds(duration: timedelta, what: str) -> int:
    """Return `duration` in whole milliseconds; raise DeclarationError unless it is at least one."""
    if not isinstance(duration, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers may be untyped
        msg = f"{what} is {duration!r}: write a timedelta, such as timedelta(seconds=30)"
        raise DeclarationError(msg)
    if (whole := duration // timedelta(milliseconds=1)) < 1:
        msg = f"{what} is {duration}: it must be at least one millisecond, such as timedelta(seconds=30)"
        raise DeclarationError(msg)
    return whole


@dataclass(frozen=True, slots=True)
class Saga:
    """Name one version of a business transaction; services declare their steps for it.

    After `timeout` a saga that can still be undone is closed and undone. One past its pivot goes on
    until `forward_window` later; after that no step starts. All services must say the same.
    """

    name: str
    _: KW_ONLY
    version: int
    timeout: timedelta = timedelta(minutes=5)
    forward_window: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        """Refuse names and times that cannot be meant."""
        check_name(self.name, "Saga", example="checkout")
        if self.version < 1:
            msg = f"Saga({self.name!r}, version={self.version}): versions count from 1"
            raise DeclarationError(msg)
        milliseconds(self.timeout, f"Saga({self.name!r}): timeout")
        milliseconds(self.forward_window, f"Saga({self.name!r}): forward_window")

    def __str__(self) -> str:
        """Return name and version as messages print them."""
        return f"{self.name} v{self.version}"


@dataclass(frozen=True, slots=True)
class Dependency:
    """Name something outside that steps call; `calls=` of a step makes the step external.

    At most `concurrency` calls to it are under way in one process.
    """

    name: str
    _: KW_ONLY
    concurrency: int = 20

    def __post_init__(self) -> None:
        """Refuse names and numbers that cannot be meant."""
        check_name(self.name, "Dependency", example="gateway")
        if self.concurrency < 1:
            msg = (
                f"Dependency({self.name!r}, concurrency={self.concurrency}): at least 1 call must be allowed at a time"
            )
            raise DeclarationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationDefinition:
    """Describe how a step is undone: positional bindings in order, and where its effect lives."""

    handler: Handler
    bindings: tuple[Binding, ...]
    effects: Effects
    dependency: Dependency | None
    timeout_seconds: float
    retry: Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """Describe one declared step: its shape, its handler and its local tuning.

    `input` is the event class it reacts to, `emits` the alternatives, `ends` whether it may return None,
    `refuses` the refusal classes. `compensation` is None for NOTHING and for steps that are never undone.
    `recorded` runs in the transaction that stores an external result; it takes (result, run).
    `undoing` tells NOTHING from NEVER where there is no compensation.
    """

    name: str
    saga: str
    version: int
    kind: StepKind
    effects: Effects
    handler: Handler
    bindings: tuple[Binding, ...]
    input: type[Event]
    emits: tuple[type[Event], ...]
    ends: bool
    refuses: tuple[type[Refusal], ...]
    dependency: Dependency | None
    timeout_seconds: float
    retry: Retry
    compensation: CompensationDefinition | None
    recorded: Handler | None
    undoing: Undoing = Undoing.NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class StartDefinition:
    """Describe how a service starts a saga and what it does at the end (`on_end`, taking (ended, run))."""

    name: str
    saga: str
    version: int
    event: type[Event]
    on_end: Handler | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition:
    """Be everything one service declared, resolved: steps, starts, and the sagas they belong to."""

    name: str
    steps: tuple[StepDefinition, ...]
    starts: tuple[StartDefinition, ...]
    migrations: str | None
    sagas: tuple[Saga, ...] = ()
