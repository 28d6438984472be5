"""Stand a real pgbouncer in front of the tests' PostgreSQL, where one is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from urllib.parse import urlsplit, urlunsplit

from tests.testbed.cluster import unprivileged_user
from tests.testbed.server import LOOPBACK, LocalServer, accepts, free_port

SERVERS = 2


def installed() -> str | None:
    """Return the program: on the path, or where Debian puts it."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class PgBouncerServer(LocalServer):
    """A pgbouncer in transaction mode, with fewer server connections than its clients have."""

    name = "pgbouncer"
    stop_signal = signal.SIGINT

    def __init__(self, program: str, database: str) -> None:
        super().__init__()
        self._program = program
        self.user = unprivileged_user()
        self.port = free_port()
        parts = urlsplit(database)
        self.url = urlunsplit(parts._replace(netloc=f"postgres@{LOOPBACK}:{self.port}"))
        self._config = self.scratch / "pgbouncer.ini"
        server = f"host={parts.hostname} port={parts.port or 5432} user={parts.username or 'postgres'}"
        if parts.password:
            server += f" password={parts.password}"
        self._config.write_text(
            f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr={LOOPBACK}\nlisten_port={self.port}\n"
            f"unix_socket_dir=\nauth_type=any\npool_mode=transaction\ndefault_pool_size={SERVERS}\n"
        )
        if self.user is not None:
            os.chown(self.scratch, pwd.getpwnam(self.user).pw_uid, pwd.getpwnam(self.user).pw_gid)
            self._config.chmod(0o644)

    def command(self) -> list[str]:
        return [self._program, str(self._config)]

    def ready(self) -> bool:
        return accepts(LOOPBACK, self.port)
