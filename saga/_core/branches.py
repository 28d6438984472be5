"""Name the branches of a fan-out: element 2 of 5 runs in branch `2of5`, an empty list says `0of0`."""

from __future__ import annotations

EMPTY = "0of0"
"""The branch of the one event that a fan-out over nothing sends to whoever gathers its branches."""


def branches_of(count: int) -> tuple[str, ...]:
    """Return the branches of a fan-out over `count` elements, in order."""
    return tuple(f"{number}of{count}" for number in range(1, count + 1))


def place_of(branch: str) -> tuple[int, int]:
    """Return number and count of a branch as decoded, `(0, 0)` for EMPTY and for no branch."""
    number, _, count = branch.partition("of")
    return (int(number), int(count)) if count else (0, 0)
