"""Examine a SQLite file; see `saga.ports.checkups.Checkup`."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from outbox.backlog import as_backlog
from outbox.checkup import components_in, migration_facts, stuck_in, untold_in
from outbox.operating import GROUP_LIMIT, as_count, as_group
from outbox.sql import Component, Dialect, Migration, migrations
from outbox.sqlite.base import SqliteBase
from outbox.sqlite.driver import MEMORY
from saga._core.doctor.facts import DatabaseFacts, FileFacts
from saga._core.doctor.mounts import mount_of
from saga._core.letters import ERROR_PREFIX_CHARS

MOUNTS = Path("/proc/mounts")


def file_facts(path: str, mounts: Path = MOUNTS) -> FileFacts:
    """Return what this machine says of a file that need not be there, without opening it; blocks for microseconds."""
    if path == MEMORY:
        return FileFacts(path=path)
    folder = Path(path).parent
    mount = mount_of(path, mounts.read_text("utf-8") if mounts.is_file() else "")
    there = Path(path).is_file()
    return FileFacts(
        path=path,
        filesystem=mount.kind,
        read_only=mount.is_read_only,
        there=there,
        writable=not there or (os.access(folder, os.W_OK) and os.access(path, os.W_OK)),
        free_bytes=shutil.disk_usage(folder).free if folder.is_dir() else None,
    )


class SqliteCheckup(SqliteBase):
    """Read what a file says of saga's tables."""

    component = Component.SHARED

    def __init__(self, path: str, **given: Any) -> None:
        super().__init__(path, **given)
        self._there: tuple[Component, ...] = ()

    async def facts(self) -> DatabaseFacts:
        """Read everything; a part whose tables are missing is left out."""
        read, sql = self._database.read, self._sql
        self._there = components_in((await read(sql["tables"]))[0])
        name = f"sqlite:///{self._path}"
        file = replace(file_facts(self._path), journal_mode=await self._journal_mode())
        if not self._there:
            return DatabaseFacts(name=name, store="", file=file)
        names = frozenset(component.value for component in self._there)
        behind = migration_facts(await self.migrations())
        if any(fact.phase == "before" for fact in behind):
            return DatabaseFacts(name=name, store="", components=names, migrations=behind, file=file)
        now = self._now()
        coordinates = Component.COORDINATOR in self._there
        groups = await read(sql["group_dead"], (ERROR_PREFIX_CHARS, GROUP_LIMIT, now))
        due = (await read(sql["checkup_overdue"]))[0]["due"] if coordinates else None
        parts, shards = await read(sql["backlog_parts"], (now,)), await read(sql["backlog_shards"], (now,))
        leases, oldest = await read(sql["backlog_leases"], (now,)), await read(sql["backlog_oldest"], (now,))
        return DatabaseFacts(
            name=name,
            store="",
            components=names,
            migrations=behind,
            file=file,
            backlog=as_backlog(parts, shards, leases, oldest, 1e-6),
            letters=tuple(as_group(row) for row in groups),
            counts=tuple(as_count(row) for row in await read(sql["count_instances"])) if coordinates else (),
            stuck=stuck_in(await read(sql["checkup_stuck"])) if coordinates else "",
            untold=untold_in(await read(sql["checkup_untold"])),
            overdue_seconds=max(0.0, (now - due) / 1e6) if due is not None else 0.0,
        )

    async def _journal_mode(self) -> str:
        """Return how the file keeps its journal."""
        return str((await self._database.read("PRAGMA journal_mode"))[0]["journal_mode"])

    def _known(self) -> list[Migration]:
        return [each for name in self._there for each in migrations(Dialect.SQLITE, name)]

    @property
    def _components(self) -> tuple[Component, ...]:
        return self._there
