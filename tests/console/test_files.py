"""Check what lies beside the code: files of others as published, and everything in the wheel."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import saga.console
from saga.console.rendering import STATIC_TYPES, static_file

HERE = Path(saga.console.__file__).parent


def test_the_files_of_others_are_as_they_were_published() -> None:
    readme = (HERE / "static/vendor/README.md").read_text()
    sums = dict(re.findall(r"\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|", readme))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in HERE.glob("static/vendor/*.js")}
    assert sums == found
    for path in HERE.glob("static/vendor/LICENSE-*.txt"):
        assert "Permission to use, copy, modify" in path.read_text()


def test_every_file_that_a_page_asks_for_is_served_and_no_other_is_there() -> None:
    pages = "".join(path.read_text() for path in HERE.glob("templates/*.html"))
    asked = set(re.findall(r"static\('([^']+)'\)", pages))
    assert asked == set(STATIC_TYPES)
    for name in asked:
        assert static_file(name)
    ours = {str(path.relative_to(HERE / "static")) for path in HERE.glob("static/**/*.*")}
    assert ours - {name for name in ours if name.startswith(("vendor/LICENSE", "vendor/README"))} <= asked


def test_templates_hold_no_inline_script_or_style() -> None:
    for path in HERE.glob("templates/*.html"):
        text = path.read_text()
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?![^>]* src=)|\|\s*safe|hx-on|autoescape", text), (
            path.name
        )


def test_ours_is_small() -> None:
    assert sum(len(static_file(name)) for name in STATIC_TYPES) < 120_000
