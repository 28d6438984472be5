from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from tests.testbed.server import LOOPBACK, LocalServer, ServerFailed, accepts, free_port, run_apart

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_min_messages": "warning",
}
DEBIAN = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """Return the directory of PostgreSQL's server programs: on the path, else Debian's newest."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = [path for path in DEBIAN.glob("*/bin") if (path / "initdb").exists()]
    return max(versions, key=lambda path: float(path.parent.name), default=None)


def unprivileged_user() -> str | None:
    """Return the user under whom the server runs: it refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def postgres_answers(url: str) -> bool:
    """Tell whether the server takes connections."""
    parts = urlsplit(url)
    if not accepts(parts.hostname or LOOPBACK, parts.port or 5432):
        return False
    return run_apart(lambda: _can_connect(url))


async def _can_connect(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True


class LocalPostgres(LocalServer):
    """A PostgreSQL cluster of its own; `url` is the superuser's and stays the same across restarts.

    Commits are durable (`fsync` and `synchronous_commit` are on), so a crash loses nothing acknowledged.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: open connections are ended
    immediate_signal = signal.SIGQUIT

    def __init__(self, port: int | None = None) -> None:
        super().__init__()
        directory = binaries()
        if directory is None:
            raise ServerFailed("PostgreSQL's server programs are not installed")
        self.binaries = directory
        self.port = port or free_port()
        self.url = f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"
        self.user = unprivileged_user()
        self._data = self.scratch / "data"
        try:
            self._initialise()
        except BaseException:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise

    def command(self) -> list[str]:
        settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.scratch)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.binaries / "postgres"), "-D", str(self._data), *options]

    def ready(self) -> bool:
        return postgres_answers(self.url)

    def _initialise(self) -> None:
        """Create the cluster; not waiting for the disk here is safe, nothing is in it yet."""
        command = [str(self.binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        if self.user is None:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        else:
            group = pwd.getpwnam(self.user).pw_gid
            os.chown(self.scratch, pwd.getpwnam(self.user).pw_uid, group)
            done = subprocess.run(
                command,
                cwd=self.scratch,
                capture_output=True,
                text=True,
                check=False,
                user=self.user,
                group=group,
                extra_groups=[],
            )
        if done.returncode != 0:
            raise ServerFailed(f"initdb failed:\n{(done.stdout + done.stderr)[-3000:]}")
