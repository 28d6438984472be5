"""Declare `saga relay`: publish what programs have written that only write."""

from __future__ import annotations

import logging
from typing import Annotated

import anyio
import typer

from saga._publishing import relay_until_told
from saga.cli.saying import err, sentences

Store = Annotated[
    str, typer.Option("--store", metavar="URL", show_default=False, help="The database that is written to.")
]
To = Annotated[str, typer.Option("--transport", metavar="URL", show_default=False, help="Where to: kafka://host:port.")]


def relay(store: Store, transport: To) -> None:
    """Publish the events in a database's outbox until SIGTERM or Ctrl-C.

    For programs without an event loop, which write events and cannot publish them. Several may run at once.
    """
    with sentences():
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        err.print("publishing; end with Ctrl-C")
        anyio.run(relay_until_told, store, transport)
