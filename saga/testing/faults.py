"""Say what may go wrong, as values: what dies, what is sent twice or late, what a step does instead of its work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from saga._core.events import Refusal

COORDINATOR = "coordinator"
"""The name of the process that the coordinator is."""


class Moment(StrEnum):
    """Say when a process dies.

    BEFORE_COMMIT: its handlers have returned and nothing is written. AFTER_COMMIT: the rows are written
    and nothing is sent. AFTER_PUBLISH: a message is out, and its row still says that it is not.
    """

    BEFORE_COMMIT = "before commit"
    AFTER_COMMIT = "after commit"
    AFTER_PUBLISH = "after sending message"


class When(StrEnum):
    """Say whether a step goes wrong before its handler is called, or after it has done its work."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Let a process die at once, without any cleaning up, and start again after `down_seconds`.

    `number` counts the commits of that process, or the messages it has sent, from 1; with a `step` only
    those that are about it.
    """

    process: str
    moment: Moment
    number: int = 1
    step: str = ""
    down_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Break the connection to the database while the answer to commit `number` is on its way: it has happened."""

    process: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Send message `number` of a process twice, the second time `seconds` later."""

    process: str
    number: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Hold message `number` of a process back for `seconds`; all others go on."""

    process: str
    number: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder:
    """Hold message `number` of a process back until two others have been sent, or a second has passed."""

    process: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Let a step refuse, instead of being called, in the next `times` runs of it."""

    step: str
    refusal: Refusal
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Let the next `times` calls of a handler raise: before it has done anything, or after it has done its work."""

    step: str
    times: int = 1
    when: When = When.BEFORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """Let the next `times` calls of a handler hang until they time out: before or after it has done its work."""

    step: str
    times: int = 1
    when: When = When.BEFORE


ProcessFault = Crash | Cut | Duplicate | Delay | Reorder
StepFault = Refuse | Fail | Hang
Fault = ProcessFault | StepFault


class Injected(Exception):
    """Be the error of a call that was made to fail."""


def in_words(fault: Fault) -> str:
    """Return a fault as a sentence."""
    match fault:
        case Crash(process=process, moment=moment, number=number, step=step, down_seconds=down):
            about = f" of {step}" if step else ""
            return f"{process} dies {moment.value} {number}{about} and is back after {down:g} s"
        case Cut(process=process, number=number):
            return f"{process} gets no answer to commit {number}, which has happened"
        case Duplicate(process=process, number=number, seconds=seconds):
            return f"message {number} of {process} is sent twice, {seconds:g} s apart"
        case Delay(process=process, number=number, seconds=seconds):
            return f"message {number} of {process} is {seconds:g} s late"
        case Reorder(process=process, number=number):
            return f"message {number} of {process} comes after later ones"
        case Refuse(step=step, refusal=refusal, times=times):
            return f"{step} refuses{_often(times)} with {type(refusal).__qualname__} {refusal.model_dump_json()}"
        case Fail(step=step, times=times, when=when):
            return f"{step} raises{_often(times)} {_done(when)}"
        case Hang(step=step, times=times, when=when):
            return f"{step} hangs{_often(times)} {_done(when)}"
        case _:
            assert_never(fault)


def _often(times: int) -> str:
    return "" if times == 1 else f" {times} times"


def _done(when: When) -> str:
    return "before it has done anything" if when is When.BEFORE else "after it has done its work"
