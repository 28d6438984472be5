"""Declare `saga relay`: publish what programs have written that only write."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated

import anyio
import typer

from saga._publishing import relay_until_told
from saga.cli.configuring import StoreUrl, TransportUrl
from saga.cli.saying import err, sentences

Migrate = Annotated[bool, typer.Option("--migrate", help="Make the outbox's tables first, or bring them up to date.")]


def relay(
    store: StoreUrl,
    transport: TransportUrl,
    migrate: Migrate = False,  # noqa: FBT002 - a switch
) -> None:
    """Publish the events in a database's outbox until SIGTERM or Ctrl-C.

    For programs without an event loop, which write events and cannot publish them. Several may run at once.
    A database or a Kafka that is away is waited for, 30 seconds each.
    """
    with sentences():
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        began = partial(err.print, "publishing; end with Ctrl-C")
        anyio.run(partial(relay_until_told, store, transport, migrate=migrate, began=began))
        err.print("stopped")
