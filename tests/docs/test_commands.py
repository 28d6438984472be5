"""Hold that the commands and options that the documents name are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import typer.main

from saga.app import App, Coordinator, Retention, RowCaps, Tuning
from saga.cli.commands import app
from saga.console import Console
from saga.outbox import Outbox
from tests.docs.blocks import blocks_of
from tests.docs.test_links import DOCUMENTS, ROOT, prose

_INLINE = re.compile(r"`(saga [a-z-][^`\n]*)`")
_CALL = re.compile(r"`(App|Outbox|Coordinator|Console|Tuning|Retention|RowCaps)\(([^`]*)\)`")
CALLED: dict[str, Any] = {
    "App": App,
    "Outbox": Outbox,
    "Coordinator": Coordinator,
    "Console": Console,
    "Tuning": Tuning,
    "Retention": Retention,
    "RowCaps": RowCaps,
}
COMMANDS: Any = typer.main.get_command(app)


def unknown(line: str) -> Iterator[str]:
    """Yield what a command line names that there is not; only the first command of a pipe is looked at."""
    words = re.split(r"\s[|#]|\s\\$", line)[0].replace(",", " ").split()[1:]
    command, path = COMMANDS, "saga"
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        word = words.pop(0)
        if word == "…":
            return
        if word not in command.commands:
            yield f"{path} {word}: there is no such command"
            return
        command, path = command.commands[word], f"{path} {word}"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    yield from (
        f"{path} {word}: there is no such option"
        for word in (word.partition("=")[0] for word in words)
        if word.startswith("--") and word not in known
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_is_there(path: Path) -> None:
    shells = [block.text for block in blocks_of(path.read_text()) if block.language in ("bash", "console")]
    lines = [line for text in shells for line in text.splitlines() if line.startswith("saga ")]
    assert [wrong for line in (*lines, *_INLINE.findall(prose(path))) for wrong in unknown(line)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_argument_is_there(path: Path) -> None:
    for name, arguments in _CALL.findall(path.read_text()):
        named = set(re.findall(r"(?:^|[\s,(])(\w+)=", arguments))
        assert named <= set(signature(CALLED[name]).parameters), f"{name}({arguments})"


def test_what_is_not_there_is_found() -> None:
    assert list(unknown("saga ls --phase stuck --store URL")) == []
    assert list(unknown("saga dlq ls --group  # what has died")) == []
    assert list(unknown("saga lst")) == ["saga lst: there is no such command"]
    assert list(unknown("saga ls --fase stuck")) == ["saga ls --fase: there is no such option"]
