"""Declare `saga explain`: why a saga is or was undone, what it waits for, and which command helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from shlex import quote
from typing import Annotated
from urllib.parse import urlsplit

import anyio
import typer
from rich.text import Text

from outbox.urls import open_coordination_store
from saga._core.explaining import About, Explanation, Line, explain
from saga._core.plan import Plan
from saga._core.planning import plan_from_json
from saga._masking import masked_url
from saga.cli.configuring import CoordinatorUrl, Json, services_or_set
from saga.cli.naming import whole_id
from saga.cli.saying import Exit, fail, moment, out, print_json, printable, sentences
from saga.errors import SettingsError
from saga.operating import AuditRow, InstanceFilter, InstanceRow, SagaRows, open_operating_store
from saga.settings import read_settings

ACTS = 1_000

SagaId = Annotated[str, typer.Argument(metavar="SAGA_ID", show_default=False, help="The saga's ID, or how it begins.")]
ServiceUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--service-store",
        metavar="URL",
        callback=services_or_set,
        show_default=False,
        help="A database of services, may stand several times. (env: SAGA_SERVICE_STORES; default: that of --store, if "
        "it is theirs, too)",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Hold what was read of one saga; `rows` is None where no database of services was looked at.

    `places` says in which database each service's letters are.
    """

    row: InstanceRow | None
    plan: Plan | None
    rows: SagaRows | None
    audits: tuple[AuditRow, ...]
    now: datetime
    places: Mapping[str, str] = field(default_factory=dict[str, str])


def explain_saga(
    saga_id: SagaId,
    store: CoordinatorUrl,
    service_store: ServiceUrls = None,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Tell why a saga is or was undone, what it waits for, and which command helps.

    The databases of its services, where they are not the coordinator's, make it more exact: attempts, errors, times.
    """
    with sentences():
        found = anyio.run(look, store, tuple(service_store or ()), saga_id)
        if found.row is None:
            fail([unknown(saga_id, found)], Exit.NOTHING)
            return
        told = explain(found.row, plan=found.plan, rows=found.rows, audits=found.audits, now=found.now)
        if json:
            print_json(explanation_json(told, store, found.places))
        else:
            _print(told, store, found.places)


async def look(store: str, services: Sequence[str], saga_id: str) -> Found:
    """Read one saga of a coordinator's database and of its services'; raises SettingsError, StoreUnavailable.

    The beginning of an ID is enough where it is that of one saga only.
    """
    saga_id = await whole_id(store, saga_id)
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_operating_store(store))
        coordination = await stack.enter_async_context(open_coordination_store(store))
        await opened.find(InstanceFilter(), limit=1)  # says that it is no coordinator's
        row = (await coordination.load([saga_id])).get(saga_id)
        plans = [plan_from_json(each.body) for each in await coordination.put_plans(())]
        audits = [*await opened.audits(saga_id, limit=ACTS)]
        parts: list[SagaRows] = []
        places: dict[str, str] = {}
        for url in services or (store,):
            reading = opened if url == store else await stack.enter_async_context(open_operating_store(url))
            try:
                part = await reading.find_runs(saga_id)
            except SettingsError:
                if services:
                    raise
                continue
            parts.append(part)
            places |= dict.fromkeys({each.service for each in part.deliveries}, url)
            audits += [] if reading is opened else await reading.audits(saga_id, limit=ACTS)
        now = await coordination.now()
    plan = next((plan for plan in plans if row is not None and plan.hash == row.plan), None)
    rows = _joined(parts) if parts else None
    return Found(row=row, plan=plan, rows=rows, audits=tuple(audits), now=now, places=places)


def _joined(parts: Sequence[SagaRows]) -> SagaRows:
    return SagaRows(
        runs=tuple(run for part in parts for run in part.runs),
        gates=tuple(gate for part in parts for gate in part.gates),
        deliveries=tuple(delivery for part in parts for delivery in part.deliveries),
    )


def unknown(saga_id: str, found: Found) -> str:
    """Say that the coordinator knows no such saga, and whether its services do."""
    if found.rows is not None and found.rows.runs:
        return (
            f"this coordinator knows no saga {saga_id}, and its services keep {len(found.rows.runs)} runs of it: its "
            "records have not been read yet; run saga doctor"
        )
    return f"this coordinator knows no saga {saga_id}: look at the ID, and at the database's URL"


# --- saying it -------------------------------------------------------------------------------------------------


def with_store(command: str, url: str) -> str:
    """Return a command line with the database it goes to; where the settings name it anyway, as it is."""
    if not command:
        return command
    configured = url in _configured().values()
    stored = command if configured else f"{command} --store {store_word(url)}"
    return f"{stored} --transport {transport_word()}" if command == "saga doctor" and transport_word() else stored


def transport_word() -> str:
    """Return what to write behind `--transport`: "" where the settings name it anyway."""
    try:
        return "" if read_settings().settings.transport else "kafka://HOST:PORT"
    except SettingsError:
        return "kafka://HOST:PORT"


def store_word(url: str) -> str:
    """Return a database's URL for a shell; one with a password as the variable that it comes from."""
    secret = not url.startswith("sqlite") and urlsplit(url).password is not None
    if not secret:
        return quote(url)
    variable = next((name for name, known in _configured().items() if known == url), "")
    if not variable and url in _services_set():
        return quote(masked_url(url))  # one of several in a variable: the shell cannot take it out of there
    return f'"${variable or "SAGA_STORE"}"'


def _configured() -> dict[str, str]:
    try:
        settings = read_settings().settings
    except SettingsError:
        return {}
    return {"SAGA_STORE": settings.store_url, "SAGA_COORDINATOR_STORE": settings.coordinator_url}


def _services_set() -> tuple[str, ...]:
    try:
        return read_settings().settings.service_urls
    except SettingsError:
        return ()


def explanation_json(told: Explanation, store: str, places: Mapping[str, str]) -> dict[str, object]:
    """Return an explanation as JSON values."""
    return {
        "saga_id": told.saga_id,
        "saga": told.title,
        "phase": told.phase,
        "verdict": told.verdict,
        "lines": [_line_json(line) for line in told.lines],
        "mends": [
            {"command": with_store(mend.command, places.get(mend.service, store)), "text": mend.text}
            for mend in told.mends
        ],
    }


def _line_json(line: Line) -> dict[str, object]:
    run = {"step": line.run.step, "branch": line.run.branch} if line.run is not None else None
    return {"about": line.about, "text": line.text, "at": line.at, "run": run}


_HEADS = {
    About.BEGAN: "how it began",
    About.CAUSE: "why it turned",
    About.PERSON: "what people did",
    About.UNDONE: "what was undone, in this order",
    About.WAITS: "what it waits for",
    About.ENDED: "how it ended",
}


def _print(told: Explanation, store: str, places: Mapping[str, str]) -> None:
    out.print(Text(f"{told.title} {told.saga_id}: {told.phase}", style="bold"))
    out.print(Text(f"{_sentence(told.verdict)}"))
    for kind, head in _HEADS.items():
        lines = told.about(kind)
        if lines:
            out.print(Text(f"\n{head}", style="bold"))
        for number, line in enumerate(lines, start=1):
            mark = f"{number}." if kind is About.UNDONE else "-"
            at = f" ({moment(line.at)})" if line.at is not None else ""
            out.print(f"  {mark} {printable(line.text)}{at}")
    if told.mends:
        out.print(Text("\nwhat helps", style="bold"))
    for mend in told.mends:
        command = with_store(mend.command, places.get(mend.service, store))
        if command:
            out.print(Text.assemble("  ", (printable(command), "bold green")))
        out.print(f"    {printable(mend.text)}")


def _sentence(text: str) -> str:
    return printable(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))
