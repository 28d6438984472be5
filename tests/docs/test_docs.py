from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of, run_document

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder and forget the modules that came out of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if name.startswith("document_") or (file is not None and Path(file).is_relative_to(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_code_in_a_document_runs(path: Path) -> None:
    run_document(path)


def document(text: str) -> Path:
    path = Path("page.md")
    path.write_text(text)
    return path


def test_blocks_share_one_module_and_files_can_be_imported() -> None:
    run_document(
        document(
            "```python\nfrom __future__ import annotations\nx = 1\n```\n"
            "```python\n# pack/thing.py\ny = 2\n```\n"
            "```python\nfrom pack.thing import y\nassert x + y == 3\n```\n"
        )
    )


def test_an_error_names_the_line_of_the_document() -> None:
    page = document("text\n\n```python\nx = 1\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_document(page)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page.resolve(), 5)


def test_what_must_not_run_says_why() -> None:
    run_document(document("```python no-run: needs a broker\n1 / 0\n```\n```bash no-run: serves\nsaga nope\n```\n"))
    with pytest.raises(AssertionError, match="no-run: why"):
        run_document(document("```python no-run\n1 / 0\n```\n"))


def test_a_command_must_exit_and_print_as_the_document_says() -> None:
    command = "```bash\npython -c 'raise SystemExit(\"no\")'  # exits 1\n```\n\n"
    run_document(document(f"{command}```text\nno\n```\n"))
    with pytest.raises(AssertionError, match="exits 2"):
        run_document(document("```bash\nsaga show nope.json\n```\n"))
    with pytest.raises(AssertionError, match="prints something else"):
        run_document(document(f"{command}```text\nfine\n```\n"))


def test_sql_becomes_a_file_and_programs_run() -> None:
    page = (
        "```sql\n-- tables/one.sql\ncreate table one (id integer);\n```\n"
        "```sql\ncreate table two (id integer);\n```\n"
        "```python\n# look.py\nfrom pathlib import Path\nprint(*Path('tables').iterdir())\n```\n"
        "```bash\npython look.py\n```\n```text\ntables/one.sql\n```\n"
    )
    run_document(document(page))
    with pytest.raises(AssertionError, match="prints something else"):
        run_document(document(page.replace("text\ntables", "text\nfolder")))


def test_text_elsewhere_is_only_text() -> None:
    run_document(document("```bash\nsaga show nope.json  # exits 2\n```\nand\n\n```text\nfine\n```\n"))


def test_a_block_must_be_closed() -> None:
    with pytest.raises(AssertionError, match="line 1: the block is not closed"):
        list(blocks_of("```python\n"))
