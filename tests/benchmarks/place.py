"""Say what one process of a benchmark is asked to measure, and where; travels as JSON on its command line."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Name the servers and what on them is this program's own; a process ID of 0 is a server out of sight."""

    kafka: str
    services: str
    coordinator: str
    prefix: str
    kafka_pid: int = 0
    postgres_pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Say what the sagas are like: how many steps, and how many bytes each event carries beside its number."""

    steps: int = 4
    payload_bytes: int = 0

    @property
    def note(self) -> str:
        """Return as many characters, which do not get smaller when a database compresses them."""
        drawn = random.Random(self.payload_bytes).randbytes(self.payload_bytes)
        return base64.b64encode(drawn).decode()[: self.payload_bytes]


class Kind(StrEnum):
    """Say how sagas are started."""

    CLOSED = "closed"
    FLOOD = "flood"
    POISSON = "poisson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Be one case: so many open for a time, so many at once, or so many a second for a time."""

    case: str
    kind: Kind
    open: int = 0
    seconds: float = 0.0
    sagas: int = 0
    per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """Be what one process measures, one load after another, after a warm-up."""

    place: Place
    shape: Shape = field(default_factory=Shape)
    warm_seconds: float = 1.0
    loads: tuple[Load, ...] = ()
    options: dict[str, str] = field(default_factory=dict[str, str])


SITTING = TypeAdapter(Sitting)
