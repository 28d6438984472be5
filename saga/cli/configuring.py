"""Declare `saga config`, and the options by which other commands take their databases and their transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from saga._masking import Shown, masked
from saga.cli.saying import err, print_json, print_table, sentences
from saga.errors import SettingsError
from saga.settings import Origin, Reading, Settings, Source, read_settings, variable_of, write_of

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


def _stored(url: Callable[[Settings], str], option: str, variables: str) -> Callable[[], str]:
    """Return what finds a URL in the settings when its option is not given."""

    def find() -> str:
        try:
            found = url(read_settings().settings)
        except SettingsError as error:
            raise typer.BadParameter(str(error), param_hint=option) from None
        if not found:
            raise typer.BadParameter(f"name a URL, or set {variables}", param_hint=option)
        return found

    return find


_HINT = "; the variable, or a file named by it with _FILE, keeps its password out of the list of processes."

StoreUrl = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        show_default=False,
        default_factory=_stored(lambda s: s.store_url or s.coordinator_url, "--store", "SAGA_STORE"),
        help="The database of a service or of the coordinator. (env: SAGA_STORE" + _HINT + ")",
    ),
]
CoordinatorUrl = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        show_default=False,
        default_factory=_stored(lambda s: s.coordinator_url, "--store", "SAGA_COORDINATOR_STORE or SAGA_STORE"),
        help="The coordinator's database. (env: SAGA_COORDINATOR_STORE, else SAGA_STORE" + _HINT + ")",
    ),
]
TransportUrl = Annotated[
    str,
    typer.Option(
        "--transport",
        metavar="URL",
        show_default=False,
        default_factory=_stored(lambda s: s.transport, "--transport", "SAGA_TRANSPORT"),
        help="The transport: kafka://host:port. (env: SAGA_TRANSPORT)",
    ),
]


def services_or_set(urls: list[str] | None) -> list[str]:
    """Return the services' databases that were named, else those of SAGA_SERVICE_STORES; a callback of an option."""
    try:
        return urls or list(read_settings().settings.service_urls)
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None


def config(json: Json = False) -> None:  # noqa: FBT002 - a switch
    """Print the settings in force and where each comes from; passwords are masked.

    Exits 2 when one of them cannot be used.
    """
    with sentences():
        reading = read_settings()
        warn_of(reading)
        rows = [_row(name, reading) for name in Settings.model_fields]
    if json:
        for name, value, origin in rows:
            print_json(
                {
                    "variable": variable_of(name),
                    "setting": name,
                    "value": value,
                    "source": origin.source,
                    "from": origin.name,
                    "path": origin.path,
                }
            )
        return
    print_table(
        ("variable", "value", "from"),
        [(variable_of(name), _said(value), _whence(origin)) for name, value, origin in rows],
    )


def warn_of(reading: Reading) -> None:
    """Print what may be misspelled."""
    for warning in reading.warnings:
        err.print(f"warning: {warning}", markup=False)


def _row(name: str, reading: Reading) -> tuple[str, str | float | bool | None, Origin]:
    value = getattr(reading.settings, name)
    shown: Shown = write_of(Settings.model_fields[name]).shown
    plain = masked(value, shown)
    return name, plain if isinstance(plain, str | int | float | None) else str(plain), reading.origins[name]


def _said(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _whence(origin: Origin) -> str:
    match origin.source:
        case Source.FILE:
            return f"{origin.path} ({origin.name})"
        case Source.VARIABLE:
            return "environment"
        case Source.DEFAULT | Source.OPTION:
            return str(origin.source)
