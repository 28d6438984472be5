"""Find what is wrong with a PostgreSQL server and with the rights of its user, from facts; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from shlex import quote

from saga._core.doctor.facts import DatabaseFacts, ServerFacts
from saga._core.doctor.findings import Code, Found, Limits, Severity

_SPECIAL = frozenset('"$`\\!')
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_ON = ("on", "true", "yes", "1")
_NEEDED = {
    "fsync": (Code.FSYNC_OFF, "a crash of the machine can lose commits and destroy the database"),
    "full_page_writes": (
        Code.FULL_PAGE_WRITES_OFF,
        "a crash of the machine can destroy pages that were half written",
    ),
    "autovacuum": (
        Code.AUTOVACUUM_OFF,
        "dead rows are never cleared away, and the outbox grows until the disk is full",
    ),
}
_SESSION = ("on", "remote_apply", "remote_write", "local")


def server_findings(
    facts: DatabaseFacts, server: ServerFacts, limits: Limits, longest_step_seconds: float
) -> Iterator[Found]:
    """Yield what is wrong with the server, its settings and this user's rights."""
    yield from _role(facts, server)
    yield from _settings(facts, server)
    yield from _timeouts(facts, server, limits, longest_step_seconds)
    yield from _connections(facts, server, limits)
    yield from _pinned(facts, server, limits)
    yield from _bloat(facts, server, limits)
    if abs(server.skew_seconds) - server.skew_error_seconds > limits.skew_seconds:
        way = "behind" if server.skew_seconds > 0 else "ahead of"
        text = f"this machine's clock is {abs(server.skew_seconds):.0f} s {way} the database's: set it right (NTP)"
        mend = "timedatectl set-ntp true; chronyc makestep"
        yield Found(severity=Severity.RISK, code=Code.CLOCK_SKEW, where=facts.name, text=text, mend=mend)


def psql(facts: DatabaseFacts, *statements: str) -> str:
    """Return the command line that runs SQL statements there, quoted for a shell."""
    return f"psql {facts.psql} " + " ".join(f"-c {_quoted(statement)}" for statement in statements)


def _quoted(statement: str) -> str:
    return quote(statement) if set(statement) & _SPECIAL else f'"{statement}"'


def _ident(name: str) -> str:
    """Return a name as SQL takes it."""
    doubled = name.replace('"', '""')
    return name if _PLAIN.fullmatch(name) else f'"{doubled}"'


def _role(facts: DatabaseFacts, server: ServerFacts) -> Iterator[Found]:
    if server.in_recovery:
        text = "is a standby, which takes no writes: name the primary"
        yield Found(
            severity=Severity.WRONG, code=Code.DATABASE_STANDBY, where=facts.name, text=text, mend="saga config"
        )
    if server.missing:
        grants = [
            f"GRANT {', '.join(rights)} ON {table} TO {_ident(server.role)}" for table, rights in server.missing.items()
        ]
        text = f"user {server.role} lacks privileges on {', '.join(server.missing)}: let the tables' owner grant them"
        mend = psql(facts, *grants)
        yield Found(severity=Severity.WRONG, code=Code.GRANTS_MISSING, where=facts.name, text=text, mend=mend)


def _settings(facts: DatabaseFacts, server: ServerFacts) -> Iterator[Found]:
    for name, (code, why) in _NEEDED.items():
        if server.settings.get(name, "on") not in _ON:
            text = f"{name} is off: {why}"
            mend = psql(facts, f"alter system set {name} = on", "select pg_reload_conf()")
            yield Found(severity=Severity.WRONG, code=code, where=facts.name, text=text, mend=mend)
    if (value := server.settings.get("synchronous_commit", "on")) not in _SESSION:
        text = f"synchronous_commit is {value}: after a crash, events that were published may have no rows"
        mend = psql(facts, f"alter role {_ident(server.role)} set synchronous_commit = on")
        yield Found(severity=Severity.WRONG, code=Code.SYNCHRONOUS_COMMIT_OFF, where=facts.name, text=text, mend=mend)


def _timeouts(
    facts: DatabaseFacts, server: ServerFacts, limits: Limits, longest_step_seconds: float
) -> Iterator[Found]:
    statement, idle = server.statement_timeout_seconds, server.idle_in_transaction_seconds
    where = facts.name
    if 0 < statement < limits.statement_seconds:
        text = f"statement_timeout is {statement:g} s: a wait for a lock under load counts as a failed attempt"
        mend = "saga config  # then write ?statement_timeout_seconds=30 into the store's URL"
        yield Found(severity=Severity.RISK, code=Code.STATEMENT_TIMEOUT_LOW, where=where, text=text, mend=mend)
    if 0 < idle <= longest_step_seconds:
        text = (
            f"a transaction in which nothing happens is ended after {idle:g} s, and a step may take "
            f"{longest_step_seconds:g} s: its work would be lost each time"
        )
        wanted = int(longest_step_seconds * 2)
        mend = f"saga config  # then write ?idle_in_transaction_seconds={wanted} into the store's URL"
        yield Found(severity=Severity.WRONG, code=Code.IDLE_TIMEOUT_LOW, where=where, text=text, mend=mend)


def _connections(facts: DatabaseFacts, server: ServerFacts, limits: Limits) -> Iterator[Found]:
    if not server.allowed:
        return
    kind = server.limit_of or "max_connections"
    mend = {
        "max_connections": psql(facts, f"alter system set max_connections = {server.allowed * 2}")
        + "  # and restart it",
        "database": psql(facts, f"alter database {_ident(server.database)} connection limit -1"),
        "role": psql(facts, f"alter role {_ident(server.role)} connection limit -1"),
    }.get(kind, "")
    what = "max_connections" if kind == "max_connections" else f"the connection limit of the {kind}"
    if server.allowed < server.pool_size:
        text = f"{what} leaves {server.allowed} connections, fewer than the {server.pool_size} of one store's pool"
        text += "; more, or a smaller ?pool_size="
        yield Found(severity=Severity.WRONG, code=Code.CONNECTIONS_FEW, where=facts.name, text=text, mend=mend)
    elif server.used >= server.allowed * limits.connections_share:
        text = f"{server.used} of {server.allowed} connections are taken ({what}): the next replica may get none"
        yield Found(severity=Severity.RISK, code=Code.CONNECTIONS_TAKEN, where=facts.name, text=text, mend=mend)


def _pinned(facts: DatabaseFacts, server: ServerFacts, limits: Limits) -> Iterator[Found]:
    for one in server.transactions:
        if one.seconds <= limits.transaction_seconds:
            continue
        who = f"{one.application or 'a program without a name'} (pid {one.pid}, user {one.user})"
        text = f"{who} has had a transaction open for {one.seconds:.0f} s ({one.state}): no dead row is cleared away"
        mend = psql(facts, f"select pg_terminate_backend({one.pid})")
        yield Found(severity=Severity.RISK, code=Code.TRANSACTION_OLD, where=facts.name, text=text, mend=mend)
    for each in server.held_back:
        if each.transactions <= limits.held_transactions:
            continue
        drop = {
            "replication slot": f"select pg_drop_replication_slot('{each.name}')",
            "prepared transaction": f"rollback prepared '{each.name}'",
        }.get(each.kind, "")
        text = f"{each.kind} {each.name} keeps dead rows of the last {each.transactions} transactions"
        mend = psql(facts, drop)
        yield Found(severity=Severity.RISK, code=Code.ROWS_HELD_BACK, where=facts.name, text=text, mend=mend)


def _bloat(facts: DatabaseFacts, server: ServerFacts, limits: Limits) -> Iterator[Found]:
    swollen = [t for t in server.tables if t.dead > max(limits.dead_rows, t.live * limits.dead_share)]
    if swollen:
        told = ", ".join(f"{table.name} ({table.dead} dead, {table.live} live rows)" for table in swollen)
        text = f"autovacuum does not keep up with {told}: reading them gets slow"
        names = ", ".join(table.name for table in swollen)
        mend = psql(facts, f"vacuum (analyze) {names}")
        yield Found(severity=Severity.RISK, code=Code.BLOAT, where=facts.name, text=text, mend=mend)
