"""Show by a file that a process is up; imports little, so that looking costs little."""

from __future__ import annotations

import time
from pathlib import Path

import anyio

BEAT_SECONDS = 5.0


async def beat(file: str) -> None:
    """Touch a file every now and then; does nothing without one."""
    while file:
        await anyio.Path(file).touch()
        await anyio.sleep(BEAT_SECONDS)


def is_alive(file: str) -> bool:
    """Return whether the file was touched lately."""
    path = Path(file)
    return path.is_file() and time.time() - path.stat().st_mtime < 3 * BEAT_SECONDS
