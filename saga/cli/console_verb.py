"""Declare `saga console`: the console as a program of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import anyio
import typer

from saga._http import Address, parse_address
from saga._process import serving
from saga._serving import until_told
from saga.cli.configuring import CoordinatorUrl
from saga.cli.explaining import ServiceUrls
from saga.cli.saying import Exit, err, fail, sentences
from saga.errors import SettingsError

if TYPE_CHECKING:
    from saga.console import Authenticate, Console

ADDRESS = "127.0.0.1:8998"

Broker = Annotated[
    str,
    typer.Option("--transport", metavar="URL", envvar="SAGA_TRANSPORT", help="kafka://host:port: who runs, breakers."),
]
Listen = Annotated[str, typer.Option("--listen", metavar="ADDRESS", help="Where to listen; loopback without --auth.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME", show_default=False, help="A name it goes by, beside those of this machine."),
]
Auth = Annotated[
    str,
    typer.Option(
        "--auth",
        metavar="MODULE:FUNCTION",
        show_default=False,
        help="What finds out who asks: async (request) -> User or None. Without it only this machine may look.",
    ),
]
Traces = Annotated[
    str,
    typer.Option(
        "--traces",
        metavar="URL",
        show_default=False,
        help="Where traces are shown, such as http://127.0.0.1:16686/trace/{trace_id}.",
    ),
]
PayloadsTo = Annotated[
    str,
    typer.Option(
        "--payloads", metavar="ROLE", show_default=False, help="Who may see payloads: read, operate or admin."
    ),
]


def console(
    store: CoordinatorUrl,
    service_store: ServiceUrls = None,
    transport: Broker = "",
    listen: Listen = ADDRESS,
    host: Hosts = None,
    auth: Auth = "",
    traces: Traces = "",
    payloads: PayloadsTo = "",
    port: Annotated[str, typer.Option("--port", hidden=True)] = "",
) -> None:
    """Show sagas in a browser, and act on them, until Ctrl-C."""
    with sentences():
        if port:
            fail([f"there is no --port: write --listen 127.0.0.1:{port}"], Exit.USAGE)
        address = parse_address(listen, "--listen")
        if not auth and not _is_loopback(address):
            sentence = f"--listen {address} lets others look: say who they are with --auth module:function"
            fail([sentence], Exit.USAGE)
        app = _console(store, service_store or [], transport, host or [], auth, traces, payloads)
        anyio.run(until_told, _served(app, address))


def _console(
    store: str, services: list[str], transport: str, hosts: list[str], auth: str, traces: str, payloads: str
) -> Console:
    from saga.console import Console, Role  # noqa: PLC0415 - importing it needs its extra

    if payloads and payloads not in tuple(Role):
        raise SettingsError(f"--payloads {payloads} is none of {', '.join(Role)}")
    return Console(
        store,
        services=services,
        transport="" if transport.startswith("memory:") else transport,
        authenticate=_hook(auth) if auth else None,
        hosts=hosts,
        payloads=Role(payloads) if payloads else None,
        traces=traces,
    )


@asynccontextmanager
async def _served(app: Console, address: Address) -> AsyncGenerator[None]:
    async with app, serving(app, address, "the console") as at:
        err.print(f"console: http://{at}")
        yield


def _hook(named: str) -> Authenticate:
    """Return the function that `module:function` names; raises SettingsError."""
    module_name, _, name = named.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"--auth {named}: {error}; write module:function, such as shop.auth:who") from None
    if not callable(found):
        raise SettingsError(f"--auth {named} is a {type(found).__name__}, and no function")
    return cast("Authenticate", found)


def _is_loopback(address: Address) -> bool:
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"
