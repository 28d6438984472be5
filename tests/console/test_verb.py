"""Run `saga console` as a program: it serves this machine, and no other without a hook."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

HOOK = """
from saga.console import Role, User

async def who(request):
    return User(name="ann", role=Role.READ) if request.headers.get("x-ann") else None
"""


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "saga.cli", "console", "--store", f"sqlite:///{folder / 'shop.db'}", *options]


def test_it_serves_until_it_is_told_to_end(busy_shop: Path, tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text(HOOK)
    options = ("--listen", "127.0.0.1:0", "--auth", "hook:who", "--host", "c.example", "--payloads", "admin")
    with subprocess.Popen(command(busy_shop, *options), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        try:
            lines = iter(program.stderr.readline, "")
            url = next(line for line in lines if line.startswith("console: ")).split()[1]
            assert httpx.get(url, timeout=20).status_code == 401
            page = httpx.get(url, headers={"x-ann": "1", "host": "c.example"}, timeout=20)
            assert (page.status_code, "ann" in page.text) == (200, True)
            program.send_signal(signal.SIGTERM)
            assert program.wait(timeout=20) == 0
        finally:
            program.kill()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--listen", "0.0.0.0:8998"), "--auth"),
        (("--listen", "nowhere"), "--listen"),
        (("--port", "9000"), "--listen 127.0.0.1:9000"),
        (("--auth", "no.such:who"), "--auth"),
        (("--auth", "json:__name__"), "no function"),
        (("--payloads", "everybody"), "--payloads"),
        (("--traces", "http://jaeger"), "trace_id"),
        (("--store", "sqlite:///none.db"), "none.db"),
    ],
)
def test_what_is_used_wrongly_exits_2(tmp_path: Path, options: tuple[str, ...], word: str) -> None:
    said = subprocess.run(
        command(tmp_path, *options), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 2, said.stderr
    assert word in said.stderr
