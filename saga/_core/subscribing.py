"""Declare subscribers of plain events, and refuse those that could never hear of one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType

from saga._core.definition import SubscriberDefinition, Upcasters, milliseconds
from saga._core.events import Event, check_name
from saga._core.function import Function, declared_function, read_signature
from saga._core.plain import check_topic
from saga._core.retry import Retry
from saga._core.run import Run
from saga._core.start import is_event
from saga._core.topics import URGENT, events_topic
from saga.errors import DeclarationError, SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """Hold a subscriber as its decorator got it."""

    name: str
    event: type[Event]
    topic: str
    function: Function
    timeout: timedelta
    retry: Retry

    @property
    def where(self) -> str:
        """Return how messages name the subscriber."""
        return f"{self.name} (on {self.event.__qualname__})"


def topic_of(service: str, event: object, source: str | None, topic: str | None) -> str:
    """Return the topic a subscriber reads; raises DeclarationError unless exactly one of the two names it."""
    label = getattr(event, "__qualname__", repr(event))
    where = f"{service}.on({label})"
    if not is_event(event):
        msg = f"{where}: {label} is not an Event class; write `class {label}(Event, name=..., version=1)`"
        raise DeclarationError(msg)
    if (source is None) == (topic is None):
        msg = (
            f"{where}: say where the event comes from: source='customers' for the events of that service, or topic=... "
            "for any other topic, one of them"
        )
        raise DeclarationError(msg)
    if source is not None:
        check_name(source, f"{where}: source", example="customers")
        return events_topic(source)
    assert topic is not None
    try:
        check_topic(topic)
    except SettingsError as error:
        raise DeclarationError(f"{where}: {error}") from error
    if topic.startswith("saga.") or topic.endswith((".commands", URGENT)):
        msg = (
            f"{where}: no plain events are on topic {topic!r}, only messages of sagas; write such as 'customers.events'"
        )
        raise DeclarationError(msg)
    return topic


def declared(
    service: str, event: type[Event], topic: str, function: object, timeout: timedelta, retry: Retry
) -> Declaration:
    """Return a subscriber as it is declared; raises DeclarationError."""
    label = getattr(function, "__name__", repr(function))
    where = f"{service}.{label} (on {event.__qualname__})"
    found = declared_function(function, where)
    check_name(label, f"{where}: function", example="bill_customer")
    milliseconds(timeout, f"{where}: timeout")
    return Declaration(
        name=f"{service}.{label}", event=event, topic=topic, function=found, timeout=timeout, retry=retry
    )


def resolved(
    declarations: Iterable[Declaration], steps: Iterable[str], upcasters: Upcasters
) -> tuple[SubscriberDefinition, ...]:
    """Return the subscribers of a service, annotations read; raises DeclarationError for the first fault."""
    taken = dict.fromkeys(steps, "a step")
    found: list[SubscriberDefinition] = []
    for one in declarations:
        if one.name in taken:
            msg = f"{one.where}: {taken[one.name]} has this name already; rename one function"
            raise DeclarationError(msg)
        taken[one.name] = "another subscriber"
        _check_signature(one)
        found.append(
            SubscriberDefinition(
                name=one.name,
                event=one.event,
                topic=one.topic,
                handler=one.function.handler,
                timeout_seconds=one.timeout.total_seconds(),
                retry=one.retry,
                upcasters=upcasters,
            )
        )
    return tuple(found)


def _check_signature(one: Declaration) -> None:
    signature = read_signature(one.function, one.where)
    if [parameter.options for parameter in signature.parameters] != [(one.event,), (Run,)]:
        msg = f"{one.where}: takes the event and the run; write `(event: {one.event.__qualname__}, run: Run) -> None`"
        raise DeclarationError(msg)
    if signature.returns != (NoneType,):
        msg = (
            f"{one.where}: returns what nobody would receive; write `-> None`, and publish events with run.publish(...)"
        )
        raise DeclarationError(msg)
