"""Run the official AsyncAPI parser, fetched once from npm into the cache outside of the checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

from tests.testbed.broker import cache

HERE = Path(__file__).parent / "asyncapi"
INSTALL_SECONDS = 240
RUN_SECONDS = 100


@dataclass(frozen=True)
class Verdict:
    """Say whether a document is valid, and everything that was said: severity, code, path, message."""

    valid: bool
    said: list[tuple[int, str, str, str]]


class NoParser(Exception):
    """Say why the parser cannot run here."""


@once
def parser() -> Path:
    """Return the folder the parser is installed in; raises NoParser with the reason and what would help."""
    if not (shutil.which("node") and shutil.which("npm")):
        raise NoParser("node and npm are not on the path. Try: apt-get install nodejs npm")
    lock = (HERE / "package-lock.json").read_bytes()
    target = cache() / f"asyncapi-{hashlib.sha256(lock).hexdigest()[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is whole: two sessions at once do not disturb each other.
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        folder = Path(work) / "parser"
        folder.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", "") or error)
            raise NoParser(f"npm could not fetch @asyncapi/parser: {said[-300:]}") from error
        if not target.is_dir():
            folder.rename(target)
    return target


def validate(*documents: str) -> list[Verdict]:
    """Return what the parser says of each document; raises NoParser."""
    done = subprocess.run(
        ["node", str(HERE / "validate.js")],
        cwd=parser(),
        input=json.dumps(documents),
        check=True,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        env=os.environ | {"NODE_OPTIONS": ""},
    )
    return [
        Verdict(valid=found["valid"], said=[(s, c, p, m) for s, c, p, m in found["said"]])
        for found in json.loads(done.stdout)
    ]
