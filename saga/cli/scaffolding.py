"""Declare `saga new`: write a small project that runs, with a saga, migrations and tests."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from saga.cli.saying import out, sentences
from saga.errors import SettingsError

SCAFFOLD = Path(__file__).parent / "scaffold"
FILES = {
    "README.md.txt": "README.md",
    "pyproject.toml.txt": "pyproject.toml",
    "gitignore.txt": ".gitignore",
    "services.py.txt": "@NAME@/services.py",
    "main.py.txt": "@NAME@/__main__.py",
    "orders.sql.txt": "@NAME@/migrations/orders/0001_orders.sql",
    "stock.sql.txt": "@NAME@/migrations/stock/0001_stock.sql",
    "billing.sql.txt": "@NAME@/migrations/billing/0001_payment.sql",
    "conftest.py.txt": "tests/conftest.py",
    "test.py.txt": "tests/test_@NAME@.py",
}
"""Each template, and the file of the project that it becomes."""
INSTALLED = "saga-choreography[cli,console]"
TAKEN = ("tests", "saga", "outbox", "transports")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project's name: lower case, such as web-shop.")],
    into: Annotated[
        Path, typer.Option("--into", metavar="FOLDER", help="Where its folder is made.", show_default=False)
    ] = Path(),
) -> None:
    """Write a project with a saga over three services, their migrations, tests and a README; it runs as it is."""
    with sentences():
        project = write_project(name, into)
    out.print(
        "\n  ".join((f"{project} is there. Next:", *steps_of(project, package_of(name)))), markup=False, soft_wrap=True
    )


def steps_of(project: Path, package: str) -> tuple[str, ...]:
    """Return what to paste into a shell, which knows nothing of any environment: installed, run and tested."""
    return (
        f"cd {quote(str(project))}",
        "python3 -m venv .venv && . .venv/bin/activate",
        f"pip install '{INSTALLED}' pytest",
        f"python -m {package}",
        "python -m pytest",
    )


def write_project(name: str, into: Path) -> Path:
    """Write the files and return the project's folder; raises SettingsError for a name or a folder that is taken."""
    package, project = package_of(name), into / name
    if project.exists():
        raise SettingsError(f"{project} is there already: choose another name, or another folder with --into")
    words = {"@NAME@": package, "@PROJECT@": name}
    for template, path in FILES.items():
        file = project / _filled(path, words)
        file.parent.mkdir(parents=True, exist_ok=True)
        text = (SCAFFOLD / template).read_text(encoding="utf-8")
        file.write_text(_filled(text, words), encoding="utf-8")
    (project / package / "__init__.py").touch()
    return project


def package_of(name: str) -> str:
    """Return the name of the project's package; raises SettingsError for what cannot be one."""
    package = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(package):
        raise SettingsError(
            f"{name!r} cannot be a project's name: write lower-case letters, digits and '-', as web-shop"
        )
    if package in TAKEN or find_spec(package) is not None:
        raise SettingsError(f"a package {package} is installed already: choose another name")
    return package


def _filled(text: str, words: dict[str, str]) -> str:
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text
