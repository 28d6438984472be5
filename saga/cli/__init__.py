"""Offer the command `saga`: make plans, check them, export manifests."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; without the extra [cli] it says so and exits 2."""
    try:
        from saga.cli.commands import app  # noqa: PLC0415 - the core install has neither typer nor rich
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write("error: the command `saga` needs the extra [cli]: pip install 'saga-choreography[cli]'\n")
        raise SystemExit(2) from None
    app(prog_name="saga")
