"""Collect what the explorations found, for the end of the test run."""

from __future__ import annotations

LINES: list[str] = []


def report(line: str) -> None:
    """Keep a line for the end and print it for whoever looks on."""
    LINES.append(line)
    print(line)  # noqa: T201 numbers are part of the result
