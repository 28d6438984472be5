"""Run the command as a process, read what it says, and tell it to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

PROMPT_SECONDS = 20  # far below what it waits for a database or a broker


@contextmanager
def running(*arguments: str, **environ: str) -> Generator[subprocess.Popen[str]]:
    """Run the command as a process; its errors are what one can read of it. It ends with the test."""
    command = [sys.executable, "-m", "saga.cli", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean | environ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read what the process says until a line has these words in it; returns that line."""
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return line
    pytest.fail(f"{words!r} was never said:\n{''.join(said)}")


def told(process: subprocess.Popen[str]) -> int:
    """Tell a process to stop, and return what it exits with; it must not take long."""
    process.send_signal(signal.SIGTERM)
    return process.wait(PROMPT_SECONDS)
