"""Declare `saga run` and `saga coordinator`: the processes of a fleet, from settings."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from saga._process import serve_app
from saga.app import App, Coordinator
from saga.cli.configuring import warn_of
from saga.cli.saying import Exit, err, fail, sentences
from saga.cli.targets import BadTarget, services_at, value_at
from saga.errors import PlanError, SettingsError
from saga.settings import Settings, read_settings

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        show_default=False,
        help="module:attribute (a Service, a list of Services or an App).",
    ),
]
Store = Annotated[
    str | None, typer.Option("--store", metavar="URL", show_default=False, help="The services' database. (SAGA_STORE)")
]
To = Annotated[
    str | None,
    typer.Option("--transport", metavar="URL", show_default=False, help="kafka://host:port. (SAGA_TRANSPORT)"),
]
Slot = Annotated[
    str | None,
    typer.Option(
        "--slot", metavar="N", show_default=False, help="The replica's number, the same after a restart. (SAGA_SLOT)"
    ),
]
Health = Annotated[
    str | None,
    typer.Option(
        "--health",
        metavar="ADDRESS",
        show_default=False,
        help="Answer /livez and /readyz on host:port, or a port of 127.0.0.1. (SAGA_HEALTH)",
    ),
]
Plans = Annotated[
    str | None,
    typer.Option("--plans", metavar="FOLDER", show_default=False, help="The plan files to publish. (SAGA_PLANS)"),
]


def run(
    target: Target,
    store: Store = None,
    transport: To = None,
    slot: Slot = None,
    health: Health = None,
) -> None:
    """Run services until SIGTERM or Ctrl-C, then finish what is in hand; settings come from SAGA_ variables.

    Waits for its database, its broker and its plans, and then ends with what is missing. An App is run with what it
    was made with, services with what `saga config` prints.
    """
    with spoken():
        settings = settings_of(store=store, transport=transport, slot=slot, health=health)
        found = value_at(target)
        if isinstance(found, App):
            if store or transport or slot:
                raise SettingsError(
                    f"{target} is an App, made with its own store=, transport= and slot=: set them there"
                )
            app = found
        else:
            app = App.from_env(services_at(target), settings=settings)
        names = ", ".join(service.name for service in app.services) or "coordinator"
        serve_app(app, settings, names.replace(", ", "-"), partial(err.print, f"running {names}; end with Ctrl-C"))
        err.print("stopped")


def coordinator(
    plans: Plans = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", metavar="URL", show_default=False, help="Its own database. (SAGA_COORDINATOR_STORE, SAGA_STORE)"
        ),
    ] = None,
    transport: To = None,
    slot: Slot = None,
    health: Health = None,
) -> None:
    """Run a coordinator until SIGTERM or Ctrl-C; it publishes the plans. Run two, with different slots."""
    with spoken():
        settings = settings_of(plans=plans, coordinator_store=store, transport=transport, slot=slot, health=health)
        app = App.from_env(coordinator=Coordinator(), settings=settings)
        serve_app(app, settings, "coordinator", partial(err.print, "coordinating; end with Ctrl-C"))
        err.print("stopped")


def settings_of(**given: str | None) -> Settings:
    """Read the settings, with options before variables, and print what may be misspelled."""
    reading = read_settings(given=given)
    warn_of(reading)
    return reading.settings


@contextmanager
def spoken() -> Generator[None]:
    """Turn errors into sentences and an exit code, those about targets and plans too."""
    with sentences():
        try:
            yield
        except BadTarget as error:
            fail([str(error)], Exit.USAGE)
        except PlanError as error:
            fail(error.problems, Exit.NOTHING)
