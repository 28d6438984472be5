"""Do the last part of the tutorial as a reader would: its files, three processes, a real Kafka and PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.docs.blocks import blocks_of
from tests.testbed.services import Kafka, Postgres

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text()
NAMES = ("orders", "stock", "coordinator")
KAFKA, POSTGRES = "kafka://127.0.0.1:9092", "postgresql://postgres@127.0.0.1:5432/"


@pytest.fixture
def databases(postgres: Postgres) -> Iterator[dict[str, str]]:
    urls = {name: postgres.create_database_now(uuid4().hex[:12]) for name in NAMES}
    yield urls
    for url in urls.values():
        postgres.drop_database_now(url)


def command(line: str) -> list[str]:
    """Return how to run a command of the page here."""
    program, *arguments = line.split()
    return [sys.executable, *(("-m", "saga.cli") if program == "saga" else ()), *arguments]


def commands_after(heading: str) -> list[str]:
    """Return the commands of the page that start a process each, from a heading on."""
    blocks = [block for block in blocks_of(PAGE.partition(heading)[2]) if block.language == "console"]
    lines = [line for block in blocks for line in block.text.splitlines()]
    return [line for line in lines if line.startswith(("python ", "saga "))]


@pytest.mark.timeout(180)
def test_the_saga_of_the_tutorial_runs_over_kafka(kafka: Kafka, databases: dict[str, str], tmp_path: Path) -> None:
    here = {KAFKA: f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}."}
    here |= {POSTGRES + name: url for name, url in databases.items()}

    def moved(text: str) -> str:
        for told, found in here.items():
            text = text.replace(told, found)
        return text

    for block in blocks_of(PAGE):
        if block.file is not None:
            file = tmp_path / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(moved(block.text))
    *servers, orders = [command(moved(line)) for line in commands_after("## 6.")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        plan = command("saga plan shop:services -o plans")
        subprocess.run(plan, cwd=tmp_path, env=environment, check=True, timeout=60, capture_output=True)
        for server in servers:
            process = stack.enter_context(subprocess.Popen(server, cwd=tmp_path, env=environment))
            stack.callback(process.wait, 60)
            stack.callback(process.send_signal, signal.SIGTERM)
        done = subprocess.run(
            orders, cwd=tmp_path, env=environment, check=False, timeout=120, capture_output=True, text=True
        )
    assert done.stdout in PAGE, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "order-3 compensated payment.declined.v1"
