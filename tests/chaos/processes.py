"""Run the example's roles as processes of their own, kill them as a crash would, start them again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEASH = (sys.executable, "-I", "-S", str(Path(__file__).parent / "leash.py"), sys.executable)
"""What begins the command of every process, so that no run leaves one behind."""


@dataclass(slots=True)
class Role:
    """Be one process that may die and come back; everything it ever says is in one log file.

    Only a process started here is ever signalled, by its own ID.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    logs: Path
    kills: int = 0
    starts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """Return the file that takes its output."""
        return self.logs / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; it need not be ready when this returns."""
        if self.alive:
            return
        self.starts += 1
        with self.log.open("ab") as log:
            log.write(f"--- start {self.starts} at {_clock()}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*LEASH, *self.arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the run, which then ends its processes
            )

    def kill(self) -> bool:
        """Kill the process with SIGKILL; False if it was not alive."""
        process = self.process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.kills += 1
        with self.log.open("ab") as log:
            log.write(f"--- killed at {_clock()}\n".encode())
        return True

    def end(self, grace_seconds: float = 15.0) -> int | None:
        """Ask the process to end, kill it after the grace; returns its exit code, None if it had to be killed."""
        process = self.process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def fell(self) -> int | None:
        """Return the exit code of a process that has ended although nobody killed it, None otherwise."""
        code = self.process.poll() if self.process is not None else None
        return None if code in (None, -signal.SIGKILL) else code


def _clock() -> str:
    return time.strftime("%H:%M:%S", time.gmtime())


def end_all(roles: Mapping[str, Role]) -> None:
    """End every process: ask all, then wait for each."""
    for role in roles.values():
        if role.alive and role.process is not None:
            role.process.send_signal(signal.SIGTERM)
    for role in roles.values():
        role.end()
