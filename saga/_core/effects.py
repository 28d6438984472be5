"""Name what the coordinator can decide to send."""

from __future__ import annotations

from dataclasses import dataclass

from saga._core.bodies import Command, Outcome
from saga._core.words import RunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SendClose:
    """Ask a service to close the saga."""

    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendUndo:
    """Ask a run's service to undo it."""

    key: RunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a service any other command."""

    service: str
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleChild:
    """Tell the child saga of a run that its parent has completed."""

    key: RunKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Publish how the saga ended."""

    outcome: Outcome


Effect = SendClose | SendUndo | Send | SettleChild | Tell
