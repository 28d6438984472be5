"""Find what is wrong with one database, from its facts; pure."""

from __future__ import annotations

from collections.abc import Iterator

from saga._core.doctor.facts import Barred, DatabaseFacts, FileFacts, MigrationFact, SchemaStanding, Trouble
from saga._core.doctor.findings import Code, Found, Limits, Severity
from saga._core.doctor.servers import psql, server_findings
from saga._core.stored_instance import STUCK_PHASE

SIGNED = "--who NAME --why REASON"
_NETWORKS = frozenset({"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"})


def database_findings(facts: DatabaseFacts, limits: Limits, longest_step_seconds: float) -> Iterator[Found]:
    """Yield what is wrong with a database; one that cannot be asked has that one finding, and what its file says."""
    if facts.file is not None:
        yield from _file(facts, facts.file, limits)
    if facts.barred is not None:
        yield _barred(facts, facts.barred)
        return
    if not facts.components:
        text = "has no tables of saga"
        mend = f"saga db upgrade --store {facts.store} --for both"
        yield _found(facts, Severity.WRONG, Code.SCHEMA_MISSING, text, mend)
        return
    yield from _schema(facts)
    if facts.server is not None:
        yield from server_findings(facts, facts.server, limits, longest_step_seconds)
    yield from _outbox(facts, limits)
    yield from _waiting(facts, limits)


def _found(facts: DatabaseFacts, severity: Severity, code: Code, text: str, mend: str = "") -> Found:
    return Found(severity=severity, code=code, where=facts.name, text=text, mend=mend)


def _barred(facts: DatabaseFacts, barred: Barred) -> Found:
    if barred.trouble is Trouble.AWAY:
        mend = f"pg_isready -d {facts.psql}" if facts.file is None else f"ls -l {facts.file.path}"
        return _found(facts, Severity.UNAVAILABLE, Code.DATABASE_AWAY, f"cannot be reached: {barred.text}", mend)
    if barred.trouble is Trouble.DENIED:
        grant = barred.text.partition("let its owner run ")[2].replace("the user of this service", "ROLE")
        mend = psql(facts, grant) if grant else "saga config"
        return _found(facts, Severity.WRONG, Code.GRANTS_MISSING, barred.text, mend)
    text = f"lets nobody in with this URL: {barred.text}"
    mend = f"saga config; psql {facts.psql}" if facts.file is None else "saga config"
    return _found(facts, Severity.UNAVAILABLE, Code.DATABASE_REFUSED, text, mend)


# --- the tables ------------------------------------------------------------------------------------------------


def _schema(facts: DatabaseFacts) -> Iterator[Found]:
    upgrade = f"saga db upgrade --store {facts.store}"

    def named(standing: SchemaStanding, phase: str = "") -> list[MigrationFact]:
        return [m for m in facts.migrations if m.standing is standing and phase in ("", m.phase)]

    if old := named(SchemaStanding.PENDING, "before"):
        text = f"its tables are older than this version of saga: {_names(old)} not applied"
        components = {migration.component for migration in old} - {"shared"}
        yield _found(facts, Severity.WRONG, Code.SCHEMA_OLD, text, f"{upgrade} --for {_side(components)}")
    if left := named(SchemaStanding.PENDING, "after"):
        text = f"{_names(left)} is left to do once no older replica runs any more"
        yield _found(facts, Severity.RISK, Code.SCHEMA_AFTER, text, f"{upgrade} --phase after")
    if edited := named(SchemaStanding.EDITED):
        text = f"{_names(edited)} was edited after it had been applied: nobody knows what the tables are like; "
        text += "put the change into a migration with the next number"
        yield _found(facts, Severity.WRONG, Code.SCHEMA_EDITED, text, f"saga db status --store {facts.store}")
    newer = named(SchemaStanding.NEWER)
    if newer:
        removed = any(migration.phase == "after" for migration in newer)
        severity = Severity.WRONG if removed else Severity.RISK
        text = f"a newer version of saga has applied {_names(newer)}: update saga here"
        yield _found(facts, severity, Code.SCHEMA_NEWER, text, "pip install --upgrade saga-choreography")


def _names(migrations: list[MigrationFact]) -> str:
    return ", ".join(f"{migration.component} {migration.name}" for migration in migrations)


def _side(components: set[str]) -> str:
    return next(iter(components)) if len(components) == 1 else "both"


# --- what waits in them ----------------------------------------------------------------------------------------


def _outbox(facts: DatabaseFacts, limits: Limits) -> Iterator[Found]:
    backlog = facts.backlog
    if backlog is None or backlog.oldest_seconds <= limits.outbox_seconds:
        return
    at_work = backlog.sweeper or ", ".join(backlog.relays)
    text = f"{_counted(backlog.rows, 'row')} of its outbox wait, the oldest for {_span(backlog.oldest_seconds)}; "
    if at_work:
        text += f"{at_work} is at work, and the broker does not take them: its log says why"
        yield _found(facts, Severity.WRONG, Code.OUTBOX_OLD, text, f"saga outbox --store {facts.store}")
        return
    text += "no relay is at work: start the service that writes it, or a relay"
    yield _found(
        facts, Severity.WRONG, Code.OUTBOX_OLD, text, f"saga relay --store {facts.store} --transport TRANSPORT"
    )


def _waiting(facts: DatabaseFacts, limits: Limits) -> Iterator[Found]:
    letters = sum(group.letters for group in facts.letters)
    if letters:
        first = max(facts.letters, key=lambda group: group.letters)
        oldest = _span(max(group.oldest_seconds for group in facts.letters))
        text = f"{_counted(letters, 'dead letter')}, the oldest for {oldest}; "
        text += f"most often {first.error or 'without an error'} at {first.step or first.service}"
        mend = f"saga dlq ls --group --store {facts.store}; saga dlq replay --all {SIGNED} --store {facts.store}"
        yield _found(facts, Severity.WRONG, Code.DEAD_LETTERS, text, mend)
    if facts.untold is not None:
        untold = facts.untold
        sagas, most = _counted(untold.sagas, "saga"), _counted(untold.attempt, "time")
        text = f"on_end of {untold.service} fails for {sagas}, up to {most}: "
        text += f"{untold.error or 'it did not say why'}; outcome() waits, and each is tried again until it succeeds"
        mend = f"saga explain {untold.saga_id} --store STORE --service-store {facts.store}"
        yield _found(facts, Severity.WRONG, Code.ON_END_FAILS, text, mend)
    stuck = sum(count.sagas for count in facts.counts if count.phase == STUCK_PHASE)
    if stuck:
        text = f"{_counted(stuck, 'saga')} stuck: nothing moves without a person"
        one = facts.stuck or "SAGA_ID"
        mend = f"saga ls --phase stuck --store {facts.store}; saga explain {one} --store {facts.store}"
        yield _found(facts, Severity.WRONG, Code.SAGAS_STUCK, text, mend)
    if facts.overdue_seconds > limits.overdue_seconds:
        text = f"a saga's time has been over for {_span(facts.overdue_seconds)} and nobody has acted on it: "
        text += "no coordinator is at work, or it is far behind"
        mend = f"saga coordinator --store {facts.store} --transport TRANSPORT"
        yield _found(facts, Severity.WRONG, Code.COORDINATOR_SILENT, text, mend)


# --- SQLite ----------------------------------------------------------------------------------------------------


def _file(facts: DatabaseFacts, file: FileFacts, limits: Limits) -> Iterator[Found]:
    if file.filesystem in _NETWORKS:
        text = f"lies on a network file system ({file.filesystem}), where SQLite's locks and its WAL do not hold"
        mend = f"cp {file.path} /var/lib/saga/"
        yield _found(
            facts, Severity.WRONG, Code.SQLITE_NETWORK, f"{text}; stop its service and move it to a local disk", mend
        )
    if file.read_only or not file.writable:
        why = "its file system is mounted read-only" if file.read_only else "this user may not write it or its folder"
        mend = (
            f"mount -o remount,rw {_folder(file.path)}"
            if file.read_only
            else f"chown $USER {file.path} {_folder(file.path)}"
        )
        yield _found(facts, Severity.WRONG, Code.SQLITE_READ_ONLY, f"cannot be written: {why}", mend)
    if file.journal_mode not in ("", "wal", "memory"):
        text = f"its journal mode is {file.journal_mode}, not wal: readers and the writer wait for each other"
        yield _found(facts, Severity.RISK, Code.SQLITE_JOURNAL, text, f"sqlite3 {file.path} 'pragma journal_mode=wal'")
    if file.free_bytes is not None and file.free_bytes < limits.free_bytes:
        text = f"its disk has {file.free_bytes // 1_000_000} MB left: when it is full, nothing commits any more"
        yield _found(facts, Severity.RISK, Code.DISK_FULL, text, f"df -h {_folder(file.path)}")


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _span(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"  # noqa: PLR2004
