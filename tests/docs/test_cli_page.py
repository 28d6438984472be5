"""Hold that docs/cli.md has every verb, docs/doctor.md each finding, and that what people are told to run is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from saga._core.diagnosing import Code
from saga.cli.commands import app
from tests.docs.test_commands import unknown
from tests.docs.test_links import ROOT

_ROW = re.compile(r"^\| `(saga [a-z ]+)` \|", re.MULTILINE)
_MEND = re.compile(r"""(?:"|; )(saga [a-z]+[^"';]*)""")
ADVISING = sorted((ROOT / "saga/_core/doctor").glob("*s.py"))


def verbs(command: Any, path: str) -> Iterator[str]:
    """Yield every command that does something, as it is typed."""
    if not hasattr(command, "commands"):
        yield path
        return
    for name, below in command.commands.items():
        yield from verbs(below, f"{path} {name}")


def test_the_table_of_verbs_is_complete() -> None:
    listed = _ROW.findall((ROOT / "docs/cli.md").read_text())
    assert sorted(listed) == sorted(verbs(typer.main.get_command(app), "saga"))
    assert len(listed) == len(set(listed))


def test_the_doctors_page_has_every_finding() -> None:
    cells = [
        line.split("|")[1] for line in (ROOT / "docs/doctor.md").read_text().splitlines() if line.startswith("| `")
    ]
    named = [name for cell in cells for name in re.findall(r"`([a-z-]+)`", cell)]
    assert sorted(named) == sorted(Code)


@pytest.mark.parametrize("path", ADVISING, ids=lambda path: path.name)
def test_what_people_are_told_to_run_is_there(path: Any) -> None:
    text = re.sub(r"\{[^{}]*\}", "X", path.read_text())
    assert [told for line in _MEND.findall(text) for told in unknown(line)] == []
