"""Hold what a service declared, resolved and checked: what the runtime calls."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from saga._core.breaker_settings import Breaker
from saga._core.events import Event, Refusal, check_name
from saga._core.locks import EntityLock
from saga._core.plan import Undoing
from saga._core.retry import Retry
from saga._core.words import Effects, Handles, StepKind, Takes
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


class TurnDown(StrEnum):
    """Say whether a step is started although the saga's time will not do; EARLY fails it instead."""

    NEVER = "never"
    EARLY = "early"


@dataclass(frozen=True, slots=True)
class Saga:
    """Name one version of a business transaction; services declare their steps for it.

    After `timeout` a saga that can still be undone is closed and undone. One past its pivot goes on
    until `forward_window` later; after that no step starts. A saga whose ended runs have taken more than
    `attempts` in all has failed, if it can still be undone; each run takes at least one, None counts none.
    All services must say the same. `turn_down` is each service's own: with EARLY a step that can be undone fails
    at once when the way to the pivot, or to the end, has lately always taken longer than is left.
    """

    name: str
    _: KW_ONLY
    version: int
    timeout: timedelta = timedelta(minutes=5)
    forward_window: timedelta = timedelta(days=7)
    attempts: int | None = None
    turn_down: TurnDown = TurnDown.NEVER

    def __post_init__(self) -> None:
        """Refuse names and times that cannot be meant."""
        check_name(self.name, "Saga", example="checkout")
        if self.version < 1:
            msg = f"Saga({self.name!r}, version={self.version}): versions count from 1"
            raise DeclarationError(msg)
        milliseconds(self.timeout, f"Saga({self.name!r}): timeout")
        milliseconds(self.forward_window, f"Saga({self.name!r}): forward_window")
        if self.attempts is not None and self.attempts < 1:
            msg = f"Saga({self.name!r}, attempts={self.attempts}): write how many all runs may take, or None"
            raise DeclarationError(msg)

    def __str__(self) -> str:
        """Return name and version as messages print them."""
        return f"{self.name} v{self.version}"


@dataclass(frozen=True, slots=True)
class Dependency:
    """Name something outside that steps call; `calls=` of a step makes the step external.

    At most `concurrency` calls to it are under way in one process, and at most `rate_per_second` begin in a
    second. `breaker` says when it is left alone; None never does.

    A call given up may still take effect until `max_in_flight` after it was made: before that, a `confirm`
    that finds nothing proves nothing. Choose it longer than the timeouts of the steps and of everything between.
    The outside system knows an idempotency key again for `key_ttl` after it saw it first: later a call nobody
    answered is not repeated any more, and a person has to look.
    """

    name: str
    _: KW_ONLY
    concurrency: int = 20
    rate_per_second: float | None = None
    breaker: Breaker | None = None
    max_in_flight: timedelta = timedelta(minutes=2)
    key_ttl: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        """Refuse names and numbers that cannot be meant."""
        check_name(self.name, "Dependency", example="gateway")
        milliseconds(self.max_in_flight, f"Dependency({self.name!r}): max_in_flight")
        milliseconds(self.key_ttl, f"Dependency({self.name!r}): key_ttl")
        if self.key_ttl <= self.max_in_flight:
            msg = (
                f"Dependency({self.name!r}): key_ttl {self.key_ttl} is not longer than max_in_flight "
                f"{self.max_in_flight}, so no call could ever be repeated; give the times of the outside system"
            )
            raise DeclarationError(msg)
        if self.concurrency < 1:
            msg = (
                f"Dependency({self.name!r}, concurrency={self.concurrency}): at least 1 call must be allowed at a time"
            )
            raise DeclarationError(msg)
        if self.rate_per_second is not None and not 0 < self.rate_per_second < math.inf:
            msg = f"Dependency({self.name!r}, rate_per_second={self.rate_per_second}): write a number above 0, or None"
            raise DeclarationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcaster:
    """Describe how one version of an event becomes a later one; `handler` is plain, pure and synchronous."""

    name: str
    source: type[Event]
    target: type[Event]
    handler: Callable[[Any], Any]


Upcasters = Mapping[str, Upcaster]
"""The upcasters of one service, by the wire type each reads."""


Bindings = tuple[Binding | int, ...]
"""What each parameter of a handler gets, in order; a number is the join's input at that place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDefinition:
    """Describe one event a step takes: of its own branch, or of every branch as a list."""

    event: type[Event]
    takes: Takes = Takes.ONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildDefinition:
    """Describe the child saga of a step: its start, and what makes the step's event of its end."""

    start: str
    saga: str
    version: int
    event: type[Event]
    completed: Handler | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompensationDefinition:
    """Describe how a step is undone: positional bindings in order, and where its effect lives."""

    handler: Handler
    bindings: Bindings
    effects: Effects
    dependency: Dependency | None
    timeout_seconds: float
    retry: Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """Describe one declared step: its shape, its handler and its local tuning.

    `input` is the event class it reacts to, `emits` the alternatives, `ends` whether it may return None,
    `refuses` the refusal classes. `compensation` is None for NOTHING and for steps that are never undone.
    `recorded` runs in the transaction that stores an external result; it takes (result, run). `confirm` asks
    what came of a call; it takes (input, run).
    `undoing` tells NOTHING from NEVER where there is no compensation. A join has all its `inputs`, others the one
    `input`. `fan_out` is the event class that is returned as a list. `child` is set for a step that is a saga
    of its own: its handler returns the start event of the child. `upcasters` are all of its service.
    """

    name: str
    saga: str
    version: int
    kind: StepKind
    effects: Effects
    handler: Handler
    bindings: Bindings
    input: type[Event]
    emits: tuple[type[Event], ...]
    ends: bool
    refuses: tuple[type[Refusal], ...]
    dependency: Dependency | None
    timeout_seconds: float
    retry: Retry
    compensation: CompensationDefinition | None
    recorded: Handler | None
    confirm: Handler | None = None
    undoing: Undoing = Undoing.NEVER
    inputs: tuple[InputDefinition, ...] = ()
    fan_out: type[Event] | None = None
    delay_seconds: float = 0.0
    within_seconds: float = 0.0
    child: ChildDefinition | None = None
    handles: Handles = Handles.ONE
    upcasters: Upcasters = field(default_factory=dict[str, Upcaster], hash=False)

    @property
    def is_join(self) -> bool:
        """Return whether the step takes several events, or those of every branch."""
        return Binding.INPUT not in self.bindings


@dataclass(frozen=True, slots=True, kw_only=True)
class StartDefinition:
    """Describe how a service starts a saga and what it does at the end (`on_end`, taking (ended, run))."""

    name: str
    saga: str
    version: int
    event: type[Event]
    on_end: Handler | None
    upcasters: Upcasters = field(default_factory=dict[str, Upcaster], hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveDefinition:
    """Describe an event that comes into a saga from outside, at this service."""

    name: str
    saga: str
    version: int
    event: type[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberDefinition:
    """Describe a subscriber of plain events on one topic; its handler takes (event, run) and returns nothing."""

    name: str
    event: type[Event]
    topic: str
    handler: Handler
    timeout_seconds: float
    retry: Retry
    upcasters: Upcasters = field(default_factory=dict[str, Upcaster], hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDefinition:
    """Be everything one service declared, resolved: steps, starts, and the sagas they belong to."""

    name: str
    steps: tuple[StepDefinition, ...]
    starts: tuple[StartDefinition, ...]
    migrations: str | None
    sagas: tuple[Saga, ...] = ()
    receives: tuple[ReceiveDefinition, ...] = ()
    upcasters: Upcasters = field(default_factory=dict[str, Upcaster], hash=False)
    locks: tuple[EntityLock, ...] = ()
    subscribers: tuple[SubscriberDefinition, ...] = ()
