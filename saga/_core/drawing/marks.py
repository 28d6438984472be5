"""Hold what a picture is made of, before it is text: boxes, ways, words and groups of them, in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

Point = tuple[float, float]
"""x and y, in pixels from the left and from the top."""


class Align(StrEnum):
    """Say which end of a text stands at its place; the values are SVG's."""

    START = "start"
    MIDDLE = "middle"
    END = "end"


class Joined(StrEnum):
    """Say how the points of a way are joined: straight, by curves that leave them upright, or as an outline."""

    STRAIGHT = "straight"
    CURVED = "curved"
    OUTLINE = "outline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Be a rectangle; `name` are its classes."""

    name: str
    x: float
    y: float
    width: float
    height: float
    rounded: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Be a line through points, or the outline of a shape."""

    name: str
    points: tuple[Point, ...]
    joined: Joined = Joined.STRAIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """Be a circle."""

    name: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Be one line of text whose base line is at `y`."""

    name: str
    x: float
    y: float
    text: str
    align: Align = Align.START


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Be marks that belong together; `title` is what a pointer over them is told, `href` where they lead."""

    marks: tuple[Mark, ...]
    name: str = ""
    title: str = ""
    data: tuple[tuple[str, str], ...] = ()
    href: str = ""


Mark = Box | Way | Dot | Words | Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Be a whole drawing; `title` and `about` are what it says to who cannot see it."""

    name: str
    title: str
    about: str
    width: float
    height: float
    marks: tuple[Mark, ...]


def flat(marks: Iterable[Mark]) -> Iterator[Box | Way | Dot | Words]:
    """Yield the marks of all groups, in the order they are drawn."""
    for mark in marks:
        if isinstance(mark, Group):
            yield from flat(mark.marks)
        else:
            yield mark
