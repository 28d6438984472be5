"""Declare `saga ls` and `saga history`: which sagas there are, and what people did to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import anyio
import orjson
import typer

from outbox.urls import open_coordination_store
from saga._core.inspecting import InstancePlace, fits, newest_first
from saga._core.instance import Phase
from saga._core.stored_instance import STUCK_PHASE, instance_of
from saga.cli.configuring import CoordinatorUrl
from saga.cli.explaining import ServiceUrls
from saga.cli.letters import Json
from saga.cli.saying import Exit, err, fail, moment, nothing_matched, print_json, print_table, printable, sentences
from saga.cli.untold import untold_ends
from saga.errors import SettingsError, StoreUnavailable
from saga.operating import AuditRow, InstanceFilter, InstanceRow, UntoldEnd, open_operating_store, place_of

OnEndFails = Annotated[bool, typer.Option("--on-end-fails", help="Only those whose on_end keeps failing.")]
PHASES = (STUCK_PHASE, *(phase.value for phase in Phase))


def ls(
    store: CoordinatorUrl,
    saga: Annotated[str, typer.Option("--saga", metavar="NAME", help="Only sagas of this name.")] = "",
    version: Annotated[int, typer.Option("--version", min=0, help="Only this version; 0 stands for any.")] = 0,
    phase: Annotated[
        list[str] | None, typer.Option("--phase", show_default=False, help=f"One or more of {', '.join(PHASES)}.")
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", metavar="NAME", help="Only sagas of this tenant.")] = "",
    since: Annotated[datetime | None, typer.Option("--since", help="Started then or later, UTC.")] = None,
    before: Annotated[datetime | None, typer.Option("--before", help="Started before then, UTC.")] = None,
    after: Annotated[str, typer.Option("--after", metavar="PLACE", help="Go on there; a full page says where.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to list.")] = 100,
    on_end_fails: OnEndFails = False,  # noqa: FBT002 - a switch
    service_store: ServiceUrls = None,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """List the sagas that a coordinator knows, newest first; `--phase stuck` are those that need a person.

    Whose `on_end` keeps failing is known to the services' databases, where they are not the coordinator's.
    """
    with sentences():
        if wrong := sorted(set(phase or ()) - set(PHASES)):
            fail([f"--phase {wrong[0]!r} is none of {', '.join(PHASES)}"], Exit.USAGE)
        wanted = InstanceFilter(
            saga=saga,
            version=version,
            phases=tuple(phase or ()),
            tenant=tenant,
            started_from=_utc(since),
            started_before=_utc(before),
        )
        services = tuple(service_store or ())
        if on_end_fails:
            if after:
                fail(["--on-end-fails lists all there are: leave --after out"], Exit.USAGE)
            anyio.run(_list_untold, store, services, wanted, limit, json)
        else:
            anyio.run(_list, store, services, wanted, _place(after), limit, json)


def _utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None else None


def _place(text: str) -> InstancePlace | None:
    """Return the place that a full page has printed: `<start>/<saga ID>`."""
    if not text:
        return None
    started, separator, saga_id = text.partition("/")
    try:
        at = datetime.fromisoformat(started) if started else None
    except ValueError:
        at, separator = None, ""
    if not separator or (at is not None and at.tzinfo is None):
        fail([f"--after {text!r} is no place: copy it from the end of the page before"], Exit.USAGE)
    return (at, saga_id)


async def _list(
    store: str,
    services: tuple[str, ...],
    wanted: InstanceFilter,
    after: InstancePlace | None,
    limit: int,
    json: bool,  # noqa: FBT001 - anyio.run
) -> None:
    async with open_operating_store(store) as opened:
        rows = await opened.find(wanted, after=after, limit=limit)
        ends: Mapping[str, UntoldEnd] = {}
        try:
            ends = await untold_ends(opened, services, [row.saga_id for row in rows]) if rows else {}
        except (SettingsError, StoreUnavailable) as error:
            # The list itself is the coordinator's.
            err.print(f"whose on_end fails is not known: {printable(str(error))}")
    _tell(rows, ends, json=json)
    if len(rows) == limit:
        at, saga_id = place_of(rows[-1])
        err.print(f"there may be more: --after {at.isoformat() if at else ''}/{saga_id}")


async def _list_untold(store: str, services: tuple[str, ...], wanted: InstanceFilter, limit: int, json: bool) -> None:  # noqa: FBT001 - anyio.run
    async with open_operating_store(store) as opened, open_coordination_store(store) as coordination:
        await opened.find(wanted, limit=1)  # says that it is no coordinator's
        ends = await untold_ends(opened, services)
        rows = [row for row in (await coordination.load(list(ends))).values() if fits(row, wanted)]
    _tell(sorted(rows, key=newest_first)[:limit], ends, json=json)


def _tell(rows: Sequence[InstanceRow], ends: Mapping[str, UntoldEnd], *, json: bool) -> None:
    if not rows:
        nothing_matched()
    if json:
        for row in rows:
            print_json(_saga_json(row, ends.get(row.saga_id)))
        return
    print_table(
        ("saga ID", "saga", "phase", "tenant", "started", "ended", "why"),
        [
            (
                r.saga_id,
                f"{r.saga or '?'} v{r.version}",
                r.phase,
                r.tenant,
                moment(r.started_at),
                moment(r.ended_at),
                "; ".join(filter(None, (_end_words(ends.get(r.saga_id)), ": ".join(filter(None, _why(r)))))),
            )
            for r in rows
        ],
    )


def _end_words(end: UntoldEnd | None) -> str:
    """Return in words that the handler of an end keeps failing, "" where it does not."""
    return "" if end is None else f"on_end fails, {end.attempt} times so far: {end.error}"


def _why(row: InstanceRow) -> tuple[str, str]:
    """Return why a saga is stuck, else why it is or was undone, and what is known of it; empty for all others."""
    try:
        instance = instance_of(row)
    except (ValueError, KeyError):
        return "", "its state is of another version of saga"
    if instance.stuck is not None:
        return instance.stuck.value, instance.stuck_detail
    return (instance.cause.value, instance.detail) if instance.cause is not None else ("", "")


def _saga_json(row: InstanceRow, end: UntoldEnd | None) -> dict[str, object]:
    why, detail = _why(row)
    return {
        "saga_id": row.saga_id,
        "saga": row.saga,
        "version": row.version,
        "plan": row.plan,
        "tenant": row.tenant,
        "phase": row.phase,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "due_at": row.due_at,
        "why": why,
        "detail": detail,
        "on_end": None if end is None else {"service": end.service, "attempt": end.attempt, "error": end.error},
    }


def history(
    saga_id: Annotated[str, typer.Argument(metavar="ID", help="The saga's ID.")],
    store: CoordinatorUrl,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many acts to list.")] = 100,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """List what people did to a saga, newest first; every database keeps its own trail."""
    with sentences():
        anyio.run(_history, store, saga_id, limit, json)


async def _history(store: str, saga_id: str, limit: int, json: bool) -> None:  # noqa: FBT001 - anyio.run
    async with open_operating_store(store) as opened:
        rows = await opened.audits(saga_id, limit=limit)
    if not rows:
        nothing_matched()
    if json:
        for row in rows:
            print_json(_audit_json(row))
        return
    _print_acts(rows)


def _print_acts(rows: Sequence[AuditRow]) -> None:
    print_table(
        ("at", "who", "did", "to", "why", "before", "after"),
        [
            (moment(r.at), r.who, r.verb, r.target, r.why, r.before.decode("utf-8", "replace"), r.after.decode())
            for r in rows
        ],
    )


def _audit_json(row: AuditRow) -> dict[str, object]:
    return {
        "at": row.at,
        "who": row.who,
        "why": row.why,
        "verb": row.verb,
        "saga_id": row.saga_id,
        "target": row.target,
        "before": orjson.Fragment(row.before),
        "after": orjson.Fragment(row.after),
    }
