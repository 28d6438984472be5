"""Write a picture as SVG text: every value escaped, no style and no script, only classes that a stylesheet colours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import assert_never

from saga._core.drawing.marks import Box, Dot, Group, Joined, Mark, Picture, Point, Way, Words
from saga._core.drawing.style import stylesheet


class Sheet(StrEnum):
    """Say where a drawing will stand: in a page that brings the stylesheet, or in a file of its own."""

    PAGE = "page"
    FILE = "file"


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def escaped(text: str) -> str:
    """Return text for XML, between tags and in quotes alike; what no XML can hold becomes U+FFFD."""
    return _NOT_XML.sub("\ufffd", text).translate(_ESCAPES)


def svg(picture: Picture, sheet: Sheet = Sheet.PAGE) -> str:
    """Return a picture as one `svg` element; the same picture makes the same text."""
    width, height = number(picture.width), number(picture.height)
    file = sheet is Sheet.FILE
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg {_XMLNS if file else ""}class="sg {picture.name}" {size} role="{_role(picture.marks)}">',
        f"<title>{escaped(picture.title)}</title>",
        f"<desc>{escaped(picture.about)}</desc>",
    ]
    if file:
        paper = Box(name="sg-paper", x=0, y=0, width=picture.width, height=picture.height)
        lines += [f"<style>\n{stylesheet()}</style>", _text(paper)]
    lines += _written(picture.marks)
    return "\n".join((*lines, "</svg>")) + "\n"


def _role(marks: Iterable[Mark]) -> str:
    """Return what the whole is to who cannot see it: a picture is one thing, and links in it would not be found."""
    return "group" if any(isinstance(mark, Group) and mark.href for mark in marks) else "img"


_XMLNS = 'xmlns="http://www.w3.org/2000/svg" '


def _written(marks: Iterable[Mark]) -> Iterator[str]:
    for mark in marks:
        if isinstance(mark, Group):
            yield from _group(mark)
        else:
            yield _text(mark)


def _group(group: Group) -> Iterator[str]:
    said = [("class", group.name), *((f"data-{name}", value) for name, value in group.data)]
    attributes = "".join(f' {name}="{escaped(value)}"' for name, value in said if value)
    if group.href:
        yield f'<a href="{escaped(group.href)}">'
    yield f"<g{attributes}>"
    if group.title:
        yield f"<title>{escaped(group.title)}</title>"
    yield from _written(group.marks)
    yield "</g>"
    if group.href:
        yield "</a>"


def _text(mark: Box | Way | Dot | Words) -> str:
    match mark:
        case Box(x=x, y=y, width=width, height=height):
            corners = f' rx="{number(mark.rounded)}"' if mark.rounded else ""
            return (
                f'<rect class="{mark.name}" x="{number(x)}" y="{number(y)}" width="{number(width)}" '
                f'height="{number(height)}"{corners}/>'
            )
        case Way(points=points):
            filled = "" if mark.joined is Joined.OUTLINE else ' fill="none"'
            return f'<path class="{mark.name}"{filled} d="{_path(points, mark.joined)}"/>'
        case Dot(x=x, y=y):
            return f'<circle class="{mark.name}" cx="{number(x)}" cy="{number(y)}" r="{number(mark.radius)}"/>'
        case Words(x=x, y=y):
            anchor = "" if mark.align.value == "start" else f' text-anchor="{mark.align.value}"'
            return f'<text class="{mark.name}" x="{number(x)}" y="{number(y)}"{anchor}>{escaped(mark.text)}</text>'
        case _:
            assert_never(mark)


def _path(points: tuple[Point, ...], joined: Joined) -> str:
    (x, y), *rest = points
    path = f"M{number(x)} {number(y)}"
    for to_x, to_y in rest:
        if joined is Joined.CURVED and to_x != x:
            half = (y + to_y) / 2
            path += f"C{number(x)} {number(half)} {number(to_x)} {number(half)} {number(to_x)} {number(to_y)}"
        else:
            path += f"L{number(to_x)} {number(to_y)}"
        x, y = to_x, to_y
    return path + "Z" if joined is Joined.OUTLINE else path


def number(value: float) -> str:
    """Return a coordinate to a tenth of a pixel, in as few characters as it takes."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
