"""Know whether somebody is there: a reader that has joined its group."""

from __future__ import annotations


class Presence:
    """Be there for as long as `async with presence:` lasts."""

    def __init__(self) -> None:
        """Be away."""
        self.is_there = False

    async def __aenter__(self) -> None:
        self.is_there = True

    async def __aexit__(self, *exc: object) -> None:
        self.is_there = False
