"""Run one server which ends when the process that asked for it ends, however it ends.

A pipe on standard input tells: the kernel closes it even after `kill -9`. (The death signal of Linux alone
would not do: it follows the starting thread, and tests restart servers from worker threads.) This file runs
as a script of its own and imports only the standard library.
"""

import argparse
import ctypes
import pwd
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
KEEP = b"keep"


def die_with_guard() -> None:
    """Ask Linux to kill the server if the guard itself is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def spawn(command: list[str], user: str | None) -> subprocess.Popen[bytes]:
    """Start the server, as another user where one is named."""
    devnull = subprocess.DEVNULL
    if user is None:
        return subprocess.Popen(command, stdin=devnull, stdout=sys.stderr, preexec_fn=die_with_guard)  # noqa: PLW1509 - no thread yet
    group = pwd.getpwnam(user).pw_gid
    return subprocess.Popen(
        command,
        stdin=devnull,
        stdout=sys.stderr,
        preexec_fn=die_with_guard,  # noqa: PLW1509 - no thread yet
        user=user,
        group=group,
        extra_groups=[],
    )


def main() -> None:
    """Start the server, print its process ID, and stop it when standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--user")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    server = spawn(options.command, options.user)
    orphaned = threading.Event()

    def watch() -> None:
        if sys.stdin.buffer.read() != KEEP:
            orphaned.set()
        server.send_signal(options.signal)
        try:
            server.wait(options.grace)
        except subprocess.TimeoutExpired:
            server.kill()

    threading.Thread(target=watch, daemon=True).start()
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.close()
    server.wait()
    if orphaned.is_set():
        shutil.rmtree(options.scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
