"""Make what tells one process from another: its draws, and the name under which it holds leases."""

from __future__ import annotations

import os
import socket
from random import Random, SystemRandom


def drawn() -> Random:
    """Return a source of jitter: nothing in it has to be unguessable, but two processes must not draw alike."""
    return Random(SystemRandom().getrandbits(64))  # noqa: S311 - jitter is no secret


def owner_of(rng: Random) -> str:
    """Return a name for leases that no other process has, and that a person can find its process by."""
    return f"{socket.gethostname()}-{os.getpid()}-{rng.getrandbits(32):08x}"
