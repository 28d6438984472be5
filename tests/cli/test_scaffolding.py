"""`saga new` writes a project that runs as it is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saga.cli.commands import app
from saga.cli.scaffolding import FILES, SCAFFOLD


def new(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["new", *arguments])
    return done.exit_code, done.output


def python(folder: Path, *arguments: str) -> str:
    """Run a module of the project as its README says, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    code, said = new("web-shop", "--into", str(folder))
    assert (code, "python -m web_shop" in said) == (0, True)
    return folder / "web-shop"


def test_what_it_writes_runs(project: Path) -> None:
    assert python(project, "-m", "web_shop").splitlines() == [
        "o-1: completed",
        "o-2: compensated (Declined(reason='more than 100.00 is too much'))",
        "o-3: compensated (OutOfStock(sku='lamp'))",
    ]


def test_what_it_prints_can_be_pasted_into_a_fresh_shell(tmp_path: Path) -> None:
    code, said = new("my-shop", "--into", str(tmp_path / "a folder"))
    first, *steps = said.splitlines()
    assert (code, first.endswith("is there. Next:")) == (0, True)
    # pip finds what the project names where this test has it from, and asks nobody else.
    known = os.pathsep.join([sysconfig.get_path("purelib"), str(Path(__file__).parents[2])])
    shell = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": known}
    done = subprocess.run(
        ["bash", "-e"],
        input="\n".join(steps),
        cwd=tmp_path,
        env=shell | {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Requirement already satisfied: pytest" in done.stdout
    assert "o-1: completed" in done.stdout
    assert "4 passed" in done.stdout


def test_its_tests_pass_without_a_warning(project: Path) -> None:
    assert "4 passed" in python(project, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")


def test_its_plan_can_be_made(project: Path) -> None:
    assert "new, revision 1" in python(project, "-m", "saga.cli", "plan", "web_shop.services:services")
    assert (project / "plans" / "checkout.v1.plan.json").is_file()


def test_no_mark_is_left_and_every_template_is_used(project: Path) -> None:
    written = [path for path in project.rglob("*") if path.is_file() and path.suffix in (".py", ".md", ".toml", ".sql")]
    assert len(written) >= len(FILES)
    for path in written:
        assert "@NAME@" not in path.read_text()
        assert "@PROJECT@" not in path.read_text()
    assert FILES.keys() == {path.name for path in SCAFFOLD.iterdir()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Shop", "cannot be a project's name: write lower-case letters"),
        ("../shop", "cannot be a project's name"),
        ("class", "cannot be a project's name"),
        ("saga", "a package saga is installed already"),
        ("json", "a package json is installed already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, said: str) -> None:
    code, output = new(name, "--into", str(tmp_path))
    assert (code, said in output) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "web-shop").mkdir()
    code, output = new("web-shop", "--into", str(tmp_path))
    assert (code, "is there already" in output) == (2, True)
    assert list((tmp_path / "web-shop").iterdir()) == []
