"""Hold that what the documents point at is there: files, headings, and the tests and guards they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*/*.md"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *EXAMPLES]
_LINK = re.compile(r"!?\[([^\]]*)\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_GUARDED = re.compile(r"`(\w+)\.(\w+)`")


def prose(path: Path) -> str:
    return _FENCED.sub("", path.read_text())


def broken(path: Path) -> Iterator[str]:
    """Yield a sentence for each link of a document that leads nowhere."""
    for text, target in _LINK.findall(prose(path)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, heading = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            yield f"{target}: there is no such file"
        elif heading and heading not in map(anchor, re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)):
            yield f"{target}: there is no such heading"
        elif file.suffix == ".py" and text.startswith("`") and not is_in(text.strip("`"), file.read_text()):
            yield f"{text}: is not in {target}"


def anchor(heading: str) -> str:
    """Return how GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def is_in(name: str, code: str) -> bool:
    """Return whether code defines a test of this name, or names a guard like this."""
    return f"def {name}(" in code if name.startswith("test_") else f'"{name}"' in code


def races() -> list[list[str]]:
    """Return the rows of the table of races, each as its columns."""
    text = (ROOT / "docs/architecture.md").read_text()
    _, _, section = text.partition("## The races\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [[column.strip() for column in row.strip("|").split(" | ")] for row in rows[1:]]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert list(broken(path)) == []


def test_every_page_is_on_the_map() -> None:
    on_it = {target.partition("#")[0] for _, target in _LINK.findall((ROOT / "docs/index.md").read_text())}
    pages = [*(path.name for path in ROOT.glob("docs/*.md")), *(f"../{path.relative_to(ROOT)}" for path in EXAMPLES)]
    assert {*pages} - on_it == {"index.md"}


def test_every_alert_says_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "compose/alerts.yaml").read_text())
    told = re.findall(r"^\| `(Saga\w+)` \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(alerts)


def test_every_race_has_a_test() -> None:
    assert len(races()) > 30
    without = [race for race, *_, tests in races() if not re.search(r"\]\(\.\./tests/", tests)]
    assert without == []


def test_every_race_is_held_by_code_that_is_there() -> None:
    code = {path: path.read_text() for folder in ("saga", "outbox") for path in ROOT.glob(f"{folder}/**/*.py")}
    for race, _, held, _ in races():
        for owner, name in _GUARDED.findall(held):
            homes = [text for path, text in code.items() if path.stem == owner or f"class {owner}" in text]
            there = re.compile(rf"^ *(async def|def|class) {name}\b", re.MULTILINE)
            assert any(there.search(text) for text in homes), f"{race}: there is no {owner}.{name}"


def test_what_leads_nowhere_is_found(tmp_path: Path) -> None:
    page, code = tmp_path / "page.md", tmp_path / "tests.py"
    code.write_text('def test_one() -> None: ...\n\nMUTANT = "a guard"\n')
    page.write_text("# A heading, or two\n[x](#a-heading-or-two) [`test_one`](tests.py) [`a guard`](tests.py)\n")
    assert list(broken(page)) == []
    page.write_text("[x](#no) [x](no.md) [`test_on`](tests.py) [`guard`](tests.py)\n```\n[x](code.md)\n```\n")
    assert [sentence.partition(":")[0] for sentence in broken(page)] == ["#no", "no.md", "`test_on`", "`guard`"]
