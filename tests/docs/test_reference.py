"""Hold that the reference names everything that is public, and nothing else."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import pytest

from tests.docs import reference

WRITE = "run `python -m tests.docs.reference`"
PAGE = reference.PAGE.read_text()


def section(name: str) -> str:
    """Return the part of the page about a module."""
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def named(text: str) -> set[str]:
    """Return the names that have an entry."""
    return {*re.findall(r"^### (\w+)$", text, re.MULTILINE), *re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)} - {
        "Errors"
    }


@pytest.mark.parametrize("name", reference.MODULES)
def test_every_public_name_has_an_entry(name: str) -> None:
    module = importlib.import_module(name)
    assert named(section(name)) == set(module.__all__), WRITE


@pytest.mark.parametrize("name", reference.MODULES)
def test_every_entry_says_what_the_docstring_says(name: str) -> None:
    text = " ".join(section(name).split())
    for one in reference.entries(importlib.import_module(name)):
        assert one.sentence in text, f"{name}.{one.name}: {WRITE}"
        for member in one.members:
            assert member.name in text, f"{name}.{member.name}: {WRITE}"


def test_a_name_that_is_missing_is_found() -> None:
    assert named("### One\n\n### Errors\n\n| `Two` | no |\n### three\n") == {"One", "Two", "three"}


def test_a_name_without_a_docstring_is_refused() -> None:
    module = ModuleType("made_up")
    exec("def nothing() -> None: ...\n__all__ = ['nothing']", module.__dict__)
    with pytest.raises(AssertionError, match="has no docstring"):
        list(reference.entries(module))
