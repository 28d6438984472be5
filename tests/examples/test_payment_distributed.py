from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from uuid import uuid4

import pytest

from examples.payment.roles import DATABASES
from tests.testbed.services import Kafka, Postgres

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def environment(kafka: Kafka, postgres: Postgres) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(2)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        gateway, orders = (str(listener.getsockname()[1]) for listener in sockets)
    yield {
        **os.environ,
        "SAGA_KAFKA_URL": f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}.",
        "SAGA_POSTGRES_URL": postgres.url,
        "GATEWAY_PORT": gateway,
        "GATEWAY_URL": f"http://127.0.0.1:{gateway}",
        "ORDERS_PORT": orders,
        "ORDERS_URL": f"http://127.0.0.1:{orders}",
    }
    for name in DATABASES:
        postgres.drop_database_now(postgres.url.rpartition("/")[0] + f"/{name}")


@pytest.mark.timeout(240)
def test_the_shop_runs_as_separate_processes(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.payment", "run", "--count", "30"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        told, _ = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it stops its processes
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "Everything adds up." in told
