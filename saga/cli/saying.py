"""Speak to people and to programs: two consoles, JSON lines, and errors as sentences with an exit code."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saga.errors import Contended, SagaError, SchemaMismatch, SettingsError, StoreUnavailable, TransportUnavailable


class Exit(IntEnum):
    """Name what the commands for operating exit with."""

    OK = 0
    NOTHING = 1
    USAGE = 2
    UNAVAILABLE = 3


PIPE_COLUMNS = 1_000
out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
_wide = Console(width=PIPE_COLUMNS, highlight=False, markup=False, emoji=False)
err = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=True)


def print_json(values: Mapping[str, object]) -> None:
    """Print one JSON object on a line of its own."""
    typer.echo(orjson.dumps(values).decode())


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their heads; what stands in them is text, whatever it looks like."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for number, head in enumerate(heads):
        # The first column names the row: an ID in pieces can be neither copied nor searched for.
        table.add_column(Text(head), overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    # Whoever reads a pipe has no width: nothing is folded there.
    (out if out.is_terminal else _wide).print(table, soft_wrap=False)


def printable(text: str) -> str:
    """Return text without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def moment(at: datetime | None) -> str:
    """Tell a time to the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at is not None else "-"


def span(seconds: float) -> str:
    """Tell a length of time to the second."""
    return str(timedelta(seconds=int(seconds)))


def fail(sentences: Sequence[str], code: Exit) -> None:
    """Print sentences as errors and exit; raises typer.Exit."""
    for sentence in sentences:
        err.print(Text.assemble(("error: ", "bold red"), printable(sentence)))
    raise typer.Exit(int(code)) from None


def nothing_matched() -> None:
    """Say that there is nothing of what was asked for, which may be good news, and exit; raises typer.Exit."""
    err.print("nothing matched")
    raise typer.Exit(int(Exit.NOTHING)) from None


@contextmanager
def sentences() -> Generator[None]:
    """Turn an error into a sentence and an exit code: 2 used wrongly, 3 not to be reached, 1 anything else."""
    try:
        yield
    except SchemaMismatch as error:
        fail([str(error)], Exit.NOTHING)
    except SettingsError as error:
        fail([str(error)], Exit.USAGE)
    except (StoreUnavailable, TransportUnavailable, Contended) as error:
        fail([str(error)], Exit.UNAVAILABLE)
    except SagaError as error:
        fail([str(error)], Exit.NOTHING)
