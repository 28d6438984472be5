"""Declare `saga doctor`: find what is wrong with databases, broker, code and fleet, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Annotated

import anyio
import typer
from rich.text import Text

from saga._core.diagnosing import Found, Limits, Severity, diagnose
from saga._core.doctor.facts import Facts
from saga.cli.configuring import Json
from saga.cli.examining import Asked, examine
from saga.cli.saying import Exit, fail, out, print_json, printable, sentences
from saga.cli.targets import BadTarget
from saga.errors import PlanError, SettingsError
from saga.settings import read_settings

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TARGET]...",
        show_default=False,
        help="The code that runs, as for plan: then topics, plans and timeouts are held against it, too.",
    ),
]
Stores = Annotated[
    list[str] | None,
    typer.Option(
        "--store",
        metavar="URL",
        show_default=False,
        help="A database, of services or of the coordinator; may stand several times. (env: SAGA_STORE, "
        "SAGA_COORDINATOR_STORE and SAGA_SERVICE_STORES together)",
    ),
]
Transport = Annotated[
    str, typer.Option("--transport", metavar="URL", show_default=False, help="kafka://host:port. (env: SAGA_TRANSPORT)")
]
Partitions = Annotated[
    int, typer.Option("--partitions", min=0, metavar="N", help="That topics must have at least; 0 asks for one.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 1 for risks, too.")]
LimitOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        show_default=False,
        help=f"From when on something is wrong: {', '.join(f'{f.name}={f.default:g}' for f in fields(Limits))}.",
    ),
]
_STYLES = {Severity.UNAVAILABLE: "bold red", Severity.WRONG: "bold red", Severity.RISK: "bold yellow"}


def doctor(
    targets: Targets = None,
    store: Stores = None,
    transport: Transport = "",
    partitions: Partitions = 0,
    limit: LimitOptions = None,
    strict: Strict = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Find what is wrong with databases, broker, code and fleet, and name the command that mends it.

    Changes nothing. Exits 0 when all is well (risks are told), 1 when something is wrong, 3 when a database or the
    broker cannot be asked.
    """
    with sentences():
        asked = _asked(tuple(targets or ()), tuple(store or ()), transport, partitions, limits_of(limit or ()))
        try:
            facts = anyio.run(examine, asked)
        except BadTarget as error:
            fail([str(error)], Exit.USAGE)
        except PlanError as error:
            fail(error.problems, Exit.NOTHING)
        else:
            found = diagnose(facts, asked.limits)
            _tell(found, facts, json=json)
            if code := exit_code(found, strict=strict):
                raise typer.Exit(int(code))


def _asked(targets: tuple[str, ...], stores: tuple[str, ...], transport: str, partitions: int, limits: Limits) -> Asked:
    settings = read_settings().settings
    known = (settings.store_url, settings.coordinator_url, *settings.service_urls)
    stores = stores or tuple(dict.fromkeys(filter(None, known)))
    transport = transport or settings.transport
    if not (stores or transport):
        raise SettingsError("name what to look at: --store and --transport, or set SAGA_STORE and SAGA_TRANSPORT")
    return Asked(targets=targets, stores=stores, transport=transport, partitions=partitions, limits=limits)


def limits_of(given: Sequence[str]) -> Limits:
    """Return the limits with those changed that were given as `name=value`; raises SettingsError."""
    names = [field.name for field in fields(Limits)]
    limits = Limits()
    for text in given:
        name, separator, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            separator = ""
            number = 0.0
        if not separator or name not in names:
            raise SettingsError(f"--limit {text!r}: write NAME=NUMBER, with a name of {', '.join(names)}")
        limits = replace(limits, **{name: number})
    return limits


def exit_code(found: Sequence[Found], *, strict: bool) -> Exit:
    """Return what the command exits with."""
    kinds = {one.severity for one in found}
    if Severity.UNAVAILABLE in kinds:
        return Exit.UNAVAILABLE
    return Exit.NOTHING if Severity.WRONG in kinds or (strict and kinds) else Exit.OK


# --- saying it -------------------------------------------------------------------------------------------------


def _tell(found: Sequence[Found], facts: Facts, *, json: bool) -> None:
    if json:
        for one in found:
            print_json(
                {"severity": one.severity, "code": one.code, "where": one.where, "text": one.text, "mend": one.mend}
            )
        return
    for one in found:
        tag = (f"{one.severity}: ", _STYLES[one.severity])
        out.print(Text.assemble(tag, (one.where, "bold"), f": {printable(one.text)}  [{one.code}]"))
        if one.mend:
            out.print(Text.assemble("    ", (printable(one.mend), "green")))
    wrong = len(found) or "nothing"
    out.print(f"{wrong} found; looked at {'; '.join(looked_at(facts))}")
    if missed := not_looked_at(facts):
        out.print(f"not looked at: {'; '.join(missed)}")


def not_looked_at(facts: Facts) -> list[str]:
    """Return in words what nobody has asked for, and the option that asks for it."""
    told: list[str] = []
    components = {name for one in facts.databases for name in one.components}
    barred = any(one.barred is not None for one in facts.databases)
    if facts.broker is None and not facts.transport.startswith("memory:"):
        told.append("Kafka, and which services run (--transport kafka://HOST:PORT)")
    if "participant" not in components and not barred:
        told.append("the services' databases (--store URL, once for each)")
    if "coordinator" not in components and not barred:
        told.append("the coordinator's database (--store URL)")
    if not facts.targets:
        told.append("the code (name it as TARGET)")
    return told


def looked_at(facts: Facts) -> list[str]:
    """Return in words what the facts are about."""
    told = [one.name for one in facts.databases]
    if facts.broker is not None:
        told.append(f"{facts.broker.name} ({len(facts.broker.topics)} topics, {len(facts.broker.groups)} groups)")
    if facts.plans:
        told.append(f"{len(facts.plans)} plans made from code")
    return told
