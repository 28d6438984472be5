"""Say whether a process is ready, and of each thing it needs whether that is well."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Name where in its life an app is."""

    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class CheckState(StrEnum):
    """Name what came of a check."""

    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Say how one thing is; `reason` says what is wrong, `seconds` how long the answer took."""

    name: str
    state: CheckState = CheckState.OK
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Hold what was found of everything that a process needs."""

    checks: tuple[Check, ...]

    @property
    def is_ready(self) -> bool:
        """Return whether all is well."""
        return all(check.state is CheckState.OK for check in self.checks)
