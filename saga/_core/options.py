"""Name what a step may say of itself, and refuse times that it could never keep."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypedDict

from saga._core.definition import Dependency, Saga, milliseconds
from saga._core.retry import Retry
from saga._core.step import Nothing
from saga._core.words import StepKind
from saga.errors import DeclarationError

TIMEOUT: Final = timedelta(seconds=30)
"""How long a step may take that says nothing."""


class ChildOptions(TypedDict, total=False):
    """Be what every step may say; times are `timedelta`."""

    timeout: timedelta | None
    retry: Retry
    delay: timedelta | None
    within: timedelta | None


class StepOptions(ChildOptions, total=False):
    """Be what a step may say that can call outside."""

    calls: Dependency | None


class UndoneOptions(StepOptions, total=False):
    """Be what a step may say that may have to be undone."""

    compensation: Nothing | None


def timeout_of(where: str, kind: StepKind, saga: Saga, options: StepOptions) -> timedelta:
    """Return how long a step may take; raise DeclarationError for times that cannot be."""
    timeout = options.get("timeout")
    if timeout is None:
        timeout = min(TIMEOUT, saga.timeout)
    milliseconds(timeout, f"{where}: timeout")
    if timeout > saga.timeout:
        msg = f"{where}: timeout {timeout} is longer than the saga's {saga.timeout}; shorten it or lengthen the saga's"
        raise DeclarationError(msg)
    for name, time in (("delay", options.get("delay")), ("within", options.get("within"))):
        if time is not None:
            milliseconds(time, f"{where}: {name}")
    _check_times(where, kind, saga, options)
    return timeout


def _check_times(where: str, kind: StepKind, saga: Saga, options: StepOptions) -> None:
    """Refuse a step that could never be done in time; one after the pivot has no timeout to keep."""
    delay, within = options.get("delay"), options.get("within")
    if delay is not None and delay >= saga.timeout and kind is not StepKind.RETRIABLE:
        msg = f"{where}: delay {delay} is not shorter than the saga's timeout {saga.timeout}, so it could never run"
        raise DeclarationError(f"{msg}; shorten it or lengthen the saga's")
    if delay is not None and within is not None and delay >= within:
        msg = f"{where}: may run {delay} after its event, and has to be done within {within}; lengthen within="
        raise DeclarationError(msg)
