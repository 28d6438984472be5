from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.testbed import guard

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 20_000, 32_000
STOP_SECONDS = 20.0


class ServerFailed(RuntimeError):
    """A server did not start, ended by itself or does not answer; the text carries the end of its log."""


def free_port() -> int:
    """Return a loopback port on which nothing listens.

    It lies below the range the kernel uses for outgoing connections: a client which retries while the server
    is down can neither take the port nor connect to itself.
    """
    for port in random.sample(range(FIRST_PORT, LAST_PORT), k=200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise ServerFailed(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def accepts(host: str, port: int) -> bool:
    """Tell whether something listens on the port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def run_apart(make: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine to its end on a thread and a loop of its own: it works beside a running loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


def wait_until(ready: Callable[[], bool], seconds: float, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Poll until `ready`; return False once the time is over or the server has `stopped`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if stopped() or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class LocalServer:
    """A server process with a data directory, which can be stopped, killed and started again in place.

    Its ports stay the same across restarts. It ends with the process that started it. All methods block and
    may be called from any thread, one at a time.
    """

    name = "server"
    stop_signal = signal.SIGTERM
    immediate_signal = signal.SIGKILL
    start_seconds = 60.0
    user: str | None = None

    def __init__(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix=f"saga-testbed-{self.name}-"))
        self.log = self.scratch / "server.log"
        self.pid = 0
        self._guard: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line of the server."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Tell whether clients are served."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the process and wait until it serves clients."""
        if self._guard is None:
            self.launch()
            self.await_ready()

    def launch(self) -> None:
        """Start the process without waiting for it."""
        script = str(Path(guard.__file__))
        arguments = [
            f"--signal={int(self.stop_signal)}",
            f"--grace={STOP_SECONDS}",
            f"--scratch={self.scratch}",
        ]
        if self.user is not None:
            arguments.append(f"--user={self.user}")
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", script, *arguments, "--", *self.command()],
                cwd=self.scratch,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal ends the tests first, then the servers
            )
        self._guard = process
        assert process.stdout is not None
        with process.stdout as line:
            self.pid = int(line.readline() or b"0")

    @property
    def running(self) -> bool:
        """Tell whether the process was started and not stopped."""
        return self._guard is not None

    def stop(self) -> None:
        """End the process in order and keep its data."""
        process = self._guard
        if process is None:
            return
        with contextlib.suppress(BrokenPipeError):
            process.communicate(guard.KEEP, timeout=STOP_SECONDS + 10)
        self._guard = None

    def stop_immediate(self) -> None:
        """End the process as a crash would, and keep its data."""
        if self._guard is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.immediate_signal)
            self._guard.wait(STOP_SECONDS)
            self.stop()

    def restart(self) -> None:
        """Stop in order, then start on the same ports and data."""
        self.stop()
        self.start()

    def restart_immediate(self) -> None:
        """Crash, then start on the same ports and data."""
        self.stop_immediate()
        self.start()

    def close(self) -> None:
        """End the process and remove its data."""
        self.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def await_ready(self) -> None:
        """Wait until the launched process serves clients."""
        process = self._guard
        assert process is not None
        if wait_until(self.ready, self.start_seconds, lambda: process.poll() is not None):
            return
        why = "ended" if process.poll() is not None else f"does not answer after {self.start_seconds:.0f} s"
        tail = self.log.read_text(errors="replace")[-3000:]
        self.close()
        raise ServerFailed(f"{self.name} {why}; the end of its log:\n{tail}")
