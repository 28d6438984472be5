"""Name the topics an app needs, and run users' own migrations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from saga._core.definition import ServiceDefinition
from saga._core.plan import Plan
from saga._core.topics import BREAKERS, EVENTS, MANIFESTS, OUTCOMES, PLANS, RUNS, commands_topic, events_topic, in_lane
from saga._core.words import Priority
from saga.errors import SchemaMismatch, SettingsError, StoreError
from saga.ports import Claim, Cleanup, Lock, ParticipantStore, TopicSpec, UnitOfWork

log = logging.getLogger("saga")

COMPACTED = (PLANS, MANIFESTS, BREAKERS)
APPLIED = "create table if not exists saga_user_migration (service text, name text, primary key (service, name))"


def topic_specs(services: Sequence[ServiceDefinition], plans: Sequence[Plan], partitions: int) -> tuple[TopicSpec, ...]:
    """Return every topic the services and the plans name; those that everybody reads whole have one partition."""
    names = {service.name for service in services}
    for plan in plans:
        names |= {plan.starter, *(step.service for step in plan.steps)}
    keyed = [RUNS]
    for lane in Priority:
        keyed += [in_lane(OUTCOMES, lane)]
        for name in sorted(names):
            keyed += [events_topic(name, lane), commands_topic(name, lane)]
    plain = {subscriber.topic for service in services for subscriber in service.subscribers}
    keyed += sorted(topic for topic in plain if topic.endswith(EVENTS) and topic not in keyed)
    specs = [TopicSpec(name=name, partitions=partitions) for name in keyed]
    # What is not a service's own is somebody else's: its number of partitions is theirs to choose.
    specs += [TopicSpec(name=topic, partitions=1) for topic in sorted(plain) if not topic.endswith(EVENTS)]
    return (*specs, *(TopicSpec(name=name, partitions=1, cleanup=Cleanup.COMPACT) for name in COMPACTED))


async def run_user_migrations(store: ParticipantStore, service: ServiceDefinition) -> None:
    """Run the service's SQL files in name order, each once and in a transaction of its own.

    Statements end with a semicolon at the end of a line. Where all have been applied nothing is written, so a user that
    may make no tables will do. Raises SettingsError when the folder does not exist, or for a missing privilege.
    """
    pending = await pending_user_migrations(store, service)
    for name, text in ((name, text) for name, text in _files(service) if name in pending):
        claim = Claim(service=service.name, sagas=("migrations",), lock=Lock.EXCLUSIVE)
        async with store.unit(claim) as unit:
            await _make_table(unit, service)
            known = await unit.db.fetch_one(
                "select name from saga_user_migration where service = $1 and name = $2",
                service.name,
                name,
            )
            if known is not None:
                continue
            for statement in statements_of(text):
                await _run(unit, service, name, statement)
            await unit.db.execute("insert into saga_user_migration (service, name) values ($1, $2)", service.name, name)
            log.info("%s: migration %s applied", service.name, name)


def user_migrations(service: ServiceDefinition) -> tuple[str, ...]:
    """Return the names of the service's SQL files in their order; raises SettingsError without their folder."""
    return tuple(name for name, _ in _files(service))


async def pending_user_migrations(store: ParticipantStore, service: ServiceDefinition) -> tuple[str, ...]:
    """Return the names of the service's SQL files that this database has not had, in their order; changes nothing.

    saga's own tables must be there. Raises SettingsError when the folder does not exist, or for a missing privilege.
    """
    files = _files(service)
    if not files:
        return ()
    claim = Claim(service=service.name, sagas=("migrations",), lock=Lock.EXCLUSIVE)
    known: set[object] = set()
    try:
        async with store.unit(claim) as unit:
            rows = await unit.db.fetch("select name from saga_user_migration where service = $1", service.name)
            known = {row["name"] for row in rows}
    except StoreError:
        raise
    except Exception as error:  # a driver's own
        if _is_denied(error):
            grant = "GRANT SELECT ON saga_user_migration TO the user of this service"
            raise SettingsError(f"{service.name}: {error}: let the owner of that table run {grant}") from error
        if not _is_missing_table(error):  # else no file has ever been applied here
            raise
    return tuple(name for name, _ in files if name not in known)


async def check_user_migrations(store: ParticipantStore, services: Sequence[ServiceDefinition]) -> None:
    """Raise SchemaMismatch while SQL files of these services are not applied; as `pending_user_migrations`."""
    missing = [f"{s.migrations}/{name}" for s in services for name in await pending_user_migrations(store, s)]
    if missing:
        raise SchemaMismatch(
            f"{', '.join(missing)} not applied to this database: run `saga db upgrade TARGET --store URL`, where "
            "TARGET (module:attribute) names the service, or let an App do it with migrate=True"
        )


def _is_missing_table(error: BaseException) -> bool:
    return getattr(error, "sqlstate", "") == "42P01" or "no such table: saga_user_migration" in str(error)


def _is_denied(error: BaseException) -> bool:
    return getattr(error, "sqlstate", "") == "42501"


async def _make_table(unit: UnitOfWork, service: ServiceDefinition) -> None:
    """Make the table that remembers what was applied; it lies where the service's own tables do."""
    try:
        await unit.db.execute(APPLIED)
    except Exception as error:
        if not _is_denied(error):
            raise
        mend = "run `saga db upgrade TARGET --store URL` as a user who may make tables there (GRANT CREATE ON SCHEMA …)"
        raise SettingsError(f"{service.name}: {service.migrations} cannot be applied: {error}: {mend}") from error


async def _run(unit: UnitOfWork, service: ServiceDefinition, name: str, statement: str) -> None:
    try:
        await unit.db.execute(statement)
    except StoreError:
        raise
    except Exception as error:  # the driver's own words about the user's SQL
        hint = "each statement ends with a semicolon at the end of a line"
        msg = f"{service.migrations}/{name} cannot be run ({hint}): {error}"
        raise SettingsError(msg) from error


def _files(service: ServiceDefinition) -> list[tuple[str, str]]:
    if service.migrations is None:
        return []
    folder = Path(service.migrations)
    if not folder.is_dir():
        msg = f"Service({service.name!r}, migrations={service.migrations!r}): there is no such folder"
        raise SettingsError(msg)
    return [(file.name, file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.sql"))]


def statements_of(sql: str) -> tuple[str, ...]:
    """Return the statements of a file, split after semicolons that end a line."""
    found: list[str] = []
    lines: list[str] = []
    for line in sql.splitlines():
        if line.strip().startswith("--"):
            continue
        lines.append(line)
        if line.rstrip().endswith(";"):
            found.append("\n".join(lines).strip())
            lines = []
    rest = "\n".join(lines).strip()
    return (*found, rest) if rest else tuple(found)
