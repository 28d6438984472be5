"""Run a command again whenever the source it runs changes."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import anyio
from anyio.abc import Process

from saga.cli.targets import BadTarget

LOOK_SECONDS = 0.4
KILL_SECONDS = 15.0
MOST_FILES = 5_000
SUFFIXES = (".py", ".sql")
_SKIPPED = ("__pycache__", "node_modules", "site-packages")
USAGE = 2

Marks = Mapping[Path, int]
"""Hold when each file was last changed, in nanoseconds."""


def source_of(target: str) -> Path:
    """Return the folder that a target's source lies in: its top-level package, or the folder of a module alone.

    Imports nothing; raises BadTarget.
    """
    top = target.partition(":")[0].partition(".")[0]
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not folders:
            raise BadTarget(f"{target}: there is no module {top}; run from the folder it lies in")
        return Path(folders[0])
    return Path(str(spec.origin)).parent


def marks_of(folder: Path) -> Marks:
    """Return the source files below a folder, at most 5,000, and when each was changed."""
    found: dict[Path, int] = {}
    for path in _files(folder):
        try:
            found[path] = path.stat().st_mtime_ns
        except OSError:
            continue  # it is being replaced: the next look finds it
        if len(found) == MOST_FILES:
            break
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Yield what may be source; hidden folders and those of installed packages are left out."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _SKIPPED or (entry / "pyvenv.cfg").is_file():
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        elif entry.suffix in SUFFIXES:
            yield entry


def changed(before: Marks, after: Marks) -> Path | None:
    """Return a file that is new, gone or changed, None when there is none."""
    differing = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return min(differing, default=None)


class Why(StrEnum):
    """Name why a wait is over."""

    TOLD = "told"
    CHANGED = "changed"
    ENDED = "ended"


@dataclass(slots=True, kw_only=True)
class Reloader:
    """Run a command until told to stop, anew after each change in a folder; what it prints goes where ours goes."""

    command: Sequence[str]
    folder: Path
    say: Callable[[str], None]
    look_seconds: float = LOOK_SECONDS
    _told: anyio.Event = field(default_factory=anyio.Event)
    _marks: Marks = field(default_factory=dict[Path, int])

    async def run(self) -> int:
        """Return 0 when told by SIGTERM or SIGINT, and 2 when the command says that it is used wrongly."""
        code = 0
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, signals)
                code = await self._loop()
                tasks.cancel_scope.cancel()
        return code

    async def _listen(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for _ in signals:
            self._told.set()

    async def _loop(self) -> int:
        self._marks = marks_of(self.folder)
        while True:
            async with await anyio.open_process(self.command, stdin=None, stdout=None, stderr=None) as process:
                try:
                    why = await self._wait(process)
                finally:
                    code = await _end(process)
            if why is Why.ENDED and code == USAGE:
                return USAGE
            if why is Why.ENDED:
                self.say("it has ended; the next change starts it again")
                why = await self._wait(None)
            if why is Why.TOLD:
                return 0

    async def _wait(self, process: Process | None) -> Why:
        """Return after a change, once told, or when the process has ended."""
        while not self._told.is_set():
            if process is not None and process.returncode is not None:
                return Why.ENDED
            now = marks_of(self.folder)
            path, self._marks = changed(self._marks, now), now
            if path is not None:
                self.say(f"{path} has changed")
                return Why.CHANGED
            with anyio.move_on_after(self.look_seconds):
                await self._told.wait()
        return Why.TOLD


async def _end(process: Process) -> int:
    """End a process if it has not ended; one that does not obey within its time is killed."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
        with anyio.move_on_after(KILL_SECONDS) as waiting:
            await process.wait()
        if waiting.cancelled_caught:
            process.kill()
            await process.wait()
    return process.returncode or 0
