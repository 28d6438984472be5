"""Hold what one coordinator process knows, and what it writes in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saga._core.instance import Instance
from saga._core.rows import Cursor
from saga._runtime.observing import Observer

if TYPE_CHECKING:
    from tests.simulation.world import Task


class Conflict(Exception):
    """Say that somebody else has written since it was read."""


class Stored:
    """Be an instance's row."""

    __slots__ = ("instance", "revision")

    def __init__(self, instance: Instance, revision: int) -> None:
        """Hold what was written at a revision."""
        self.instance = instance
        self.revision = revision


@dataclass(slots=True)
class Changes:
    """Hold everything one transaction writes, all or nothing."""

    instances: list[tuple[Instance, int]]
    cursors: tuple[tuple[Cursor | None, Cursor], ...]
    out: list[Task]


class Replica:
    """Be one coordinator process: where it reads, and the cursor as it knows it."""

    __slots__ = ("cursor", "name", "observer", "position")

    def __init__(self, name: str) -> None:
        """Know nothing yet."""
        self.name = name
        self.position = 0
        self.cursor: Cursor | None = None
        self.observer = Observer()

    def begin_at(self, cursor: Cursor | None) -> None:
        """Start over from what is stored."""
        self.cursor = cursor
        self.position = cursor.position if cursor else 0
        self.observer.forget([0])
