"""Find the code in a document and run it as a reader would, from top to bottom.

Every python block runs, in one module for each document; one that begins with `# some/file.py` becomes that
file instead, and so does an sql block that begins with `-- some/file.sql`. Every bash block that begins with `saga ` or
`python ` runs, line by line; a line ending in `# exits 1` must.
A text block right behind it is what it prints. `python no-run: why` and `bash no-run: why` are left alone.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_FENCE = re.compile(r"```(.*)")
_FILE = re.compile(r"(?:# ([\w/]+\.py)|-- ([\w/]+\.sql))\n")
_PROGRAMS = {"saga": ("-m", "saga.cli"), "python": ()}
_EXITS = re.compile(r"# exits (\d)")
COMMAND_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Block:
    """Be one fenced block; `line` is that of its fence, `follows` says that only blank lines part it from the last."""

    info: str
    line: int
    text: str
    follows: bool

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def left_alone(self) -> bool:
        return self.info.partition(" ")[2] != ""

    @property
    def file(self) -> Path | None:
        """Return which file a reader would save the block as, if any."""
        name = _FILE.match(self.text) if self.language in ("python", "sql") else None
        return Path(name[1] or name[2]) if name else None

    @property
    def is_command(self) -> bool:
        return self.language == "bash" and self.text.startswith(("saga ", "python "))


def blocks_of(text: str) -> Iterator[Block]:
    info, start, body, follows = "", 0, list[str](), False
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if start and line == "```":
            yield Block(info=info, line=start, text="".join(body), follows=follows)
            start, follows = 0, True
        elif start:
            body.append(line + "\n")
        elif fence:
            info, start, body = fence[1].strip(), number, []
        elif line.strip():
            follows = False
    assert start == 0, f"line {start}: the block is not closed"


def misspelled(block: Block) -> bool:
    """Return whether a block asks for something other than `no-run: why`."""
    wish = block.info.partition(" ")[2]
    return block.language in ("python", "bash") and wish != "" and not re.fullmatch(r"no-run: .+", wish)


def run_document(path: Path) -> None:
    """Run what a document holds in the current folder; raises whatever its code raises."""
    module = ModuleType(f"document_{path.stem}")
    sys.modules[module.__name__] = module
    said: str | None = None
    for block in blocks_of(path.read_text()):
        where = f"{path}:{block.line}"
        assert not misspelled(block), f"{where}: write `{block.language} no-run: why`, or nothing"
        if said is not None and block.language == "text" and block.follows:
            assert block.text == said, f"{where}: the command before it prints something else:\n{said}"
        said = None
        if block.left_alone:
            continue
        if block.is_command:
            said = "".join(_command(line, where) for line in block.text.splitlines())
        elif block.file is not None:
            block.file.parent.mkdir(parents=True, exist_ok=True)
            block.file.write_text(block.text)
        elif block.language == "python":
            _python(block, path, module)


def _python(block: Block, path: Path, module: ModuleType) -> None:
    code = compile("\n" * block.line + block.text, str(path), "exec", dont_inherit=True)
    exec(code, module.__dict__)


def _command(line: str, where: str) -> str:
    program, *arguments = shlex.split(line, comments=True)
    assert program in _PROGRAMS, f"{where}: {line!r} is no saga command; give it a block of its own"
    done = subprocess.run(
        [sys.executable, *_PROGRAMS[program], *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"},
    )
    exits = _EXITS.search(line)
    expected = int(exits[1]) if exits else 0
    assert done.returncode == expected, f"{where}: {line!r} exits {done.returncode}:\n{done.stdout}"
    return done.stdout
