"""Hold what a person can ask of a saga; `acting` decides what follows."""

from __future__ import annotations

from dataclasses import dataclass

from saga._core.words import RunKey, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSaga:
    """Undo the saga, as its starter's `cancel` does."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSaga:
    """Keep everything that arrives for the saga as rows, and do nothing about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSaga:
    """Go on with a held saga."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStep:
    """Try again at once: a compensation that has failed, or an action that waits for its next attempt."""

    key: RunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipStep:
    """Count a run as undone, or an action as done with the given result, without calling anything.

    With a service's name in place of a step: count a service that came too late as closed, with nothing to undo.
    """

    key: RunKey
    reason: str
    result_type: str = ""
    result: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveStep:
    """Say what came of an outside call in doubt."""

    key: RunKey
    reason: str
    verdict: Verdict
    result_type: str = ""
    result: bytes = b""


Verb = CancelSaga | HoldSaga | ReleaseSaga | RetryStep | SkipStep | ResolveStep
