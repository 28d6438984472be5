"""Hold the numbers that a coordinator runs with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorTuning:
    """Hold the numbers the coordinator runs with.

    A deadline that this coordinator has stored is looked for at its time; `tick_seconds` is how often it looks for
    those that others have stored. It fires once everything before it has been read.
    """

    batch_cap: int = 500
    tick_seconds: float = 0.5
    due_cap: int = 500
    drain_seconds: float = 10.0
