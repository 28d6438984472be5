"""Measure text that a browser will set, and tell lengths of time in few characters."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

SIZE = 12.0
"""Of the text of every drawing, in pixels; the stylesheet says the same."""
SMALL = 10.5
_EM = 0.61
"""How wide a character of a monospaced font is; they differ by a hundredth."""
MORE = "…"
TIMES = "\N{MULTIPLICATION SIGN}"


def width_of(text: str, size: float = SIZE) -> float:
    """Return how wide a line of text is, in pixels, never too little for the fonts of the stylesheet."""
    return sum(map(_cells, text)) * _EM * size


def _cells(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def fitted(text: str, width: float, size: float = SIZE) -> str:
    """Return as much of the text as fits into `width`, with `…` where something is missing."""
    if width_of(text, size) <= width:
        return text
    room = width - width_of(MORE, size)
    kept = 0
    for kept, character in enumerate(text):  # noqa: B007 - where it stops is what is asked for
        room -= _cells(character) * _EM * size
        if room < 0:
            break
    return text[:kept].rstrip() + MORE


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SECOND = 1_000
_EXACT = 10
"""Seconds below which a tenth of a second is told."""


def span(seconds: float) -> str:
    """Tell a length of time with at most two units: `41 ms`, `2.5 s`, `3 min 20 s`, `2 d 4 h`."""
    milliseconds = max(seconds, 0.0) * 1000
    if round(milliseconds) < _SECOND:
        return f"{milliseconds:.1f} ms" if milliseconds > 0 and round(milliseconds) < 1 else f"{milliseconds:.0f} ms"
    whole = round(seconds)
    if whole < _EXACT:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    for number, (unit, name) in enumerate(_UNITS[:-1]):
        if whole >= unit:
            lower, lower_name = _UNITS[number + 1]
            rest = whole % unit // lower
            return f"{whole // unit} {name}" + (f" {rest} {lower_name}" if rest else "")
    return f"{whole} s"


def counted(number: int, one: str, more: str = "") -> str:
    """Tell how many: `1 branch`, `200 branches`."""
    return f"{number} {one}" if number == 1 else f"{number} {more or one + 's'}"
