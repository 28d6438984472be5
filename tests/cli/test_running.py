"""`saga run` and `saga coordinator` are processes of a fleet: settings, health, signals, exit codes."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from typer.testing import CliRunner

from saga.cli.commands import app
from tests.cli.processes import PROMPT_SECONDS, read_until, running, told
from tests.cli.shop import SERVICES
from tests.testbed.services import Kafka, Postgres

APP = """
from saga.app import App, Coordinator
from shop import services

shop = App(services, coordinator=Coordinator(), store="sqlite:///shop.db", transport="memory://")
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the shop into an empty folder."""
    (tmp_path / "shop.py").write_text(SERVICES)
    (tmp_path / "served.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def until_ready(at: str) -> set[str]:
    """Ask until all is well, and return the names of what was not until then."""
    missing = set[str]()
    by = time.monotonic() + 60
    while (answer := httpx.get(f"http://{at}/readyz")).status_code != 200:
        assert time.monotonic() < by, answer.text
        missing |= {check["name"] for check in answer.json()["checks"] if check["state"] != "ok"}
        time.sleep(0.1)
    return missing


# --- used wrongly -------------------------------------------------------------------------------------------------


def exits(*arguments: str, **environ: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"} | environ)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["run", "shop:services"], {}, "SAGA_STORE is not set: services need a database"),
        (["run", "shop:services", "--store", "sqlite:///a.db"], {}, "SAGA_TRANSPORT is not set"),
        (
            ["run", "shop:services"],
            {"SAGA_STORE": "sqlite:///a.db", "SAGA_TRANSPORT": "memory://"},
            "SAGA_TRANSPORT=memory:// ends at this process",
        ),
        (["run", "shop:nothing"], {}, "shop has no nothing; it could be"),
        (["run", "shop"], {}, "names no code; write module:attribute"),
        (["run", "served:shop", "--slot", "1"], {}, "served:shop is an App, made with its own store="),
        (["run", "shop:services", "--health", "x"], {}, "--health='x' cannot be used: write host:port"),
        (["coordinator"], {"SAGA_TRANSPORT": "kafka://h:1"}, "SAGA_PLANS is not set"),
        (
            ["coordinator", "--plans", "plans"],
            {"SAGA_TRANSPORT": "kafka://h:1"},
            "SAGA_COORDINATOR_STORE is not set",
        ),
    ],
)
def test_what_is_missing_is_said_and_exits_2(
    shop: Path, arguments: list[str], environ: Mapping[str, str], said: str
) -> None:
    code, output = exits(*arguments, **environ)
    assert said in output
    assert code == 2


def test_a_coordinator_without_plan_files_exits_1(shop: Path) -> None:
    places = {"SAGA_COORDINATOR_STORE": "sqlite:///c.db", "SAGA_TRANSPORT": "kafka://127.0.0.1:1"}
    with running("coordinator", "--plans", "nowhere", **places) as process:
        assert "no *.plan.json in nowhere" in read_until(process, "error:")
        assert process.wait(PROMPT_SECONDS) == 1


def test_a_database_that_stays_away_exits_3(shop: Path) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql://me@127.0.0.1:{nobody.getsockname()[1]}/shop"
        environ = {"SAGA_TRANSPORT": "kafka://127.0.0.1:1", "SAGA_STORE_TIMEOUT_SECONDS": "0.1"}
        with running("run", "shop:services", "--store", url, **environ) as process:
            assert "waited 0.1 s" in read_until(process, "error:")
            assert process.wait(PROMPT_SECONDS) == 3


# --- signals ------------------------------------------------------------------------------------------------------


def test_it_runs_until_it_is_told_to_stop_and_tells_how_it_is(shop: Path) -> None:
    with running("run", "served:shop", "--health", "127.0.0.1:0") as process:
        at = read_until(process, "answers /livez and /readyz").split("http://")[1].split()[0]
        read_until(process, "running desk, rooms")
        assert httpx.get(f"http://{at}/livez").json() == {"alive": True}
        assert {check["name"] for check in httpx.get(f"http://{at}/readyz").json()["checks"]} >= {"app", "store"}
        assert told(process) == 0
        assert read_until(process, "stopped")


def test_a_port_that_is_taken_is_said_and_exits_2(shop: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with running("run", "served:shop", "--health", address) as process:
            assert f"nothing can listen on {address}" in read_until(process, "error:")
            assert process.wait(PROMPT_SECONDS) == 2


def test_told_while_the_database_is_away_it_ends_at_once(shop: Path) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"postgresql://me@127.0.0.1:{nobody.getsockname()[1]}/shop"
        with running("run", "shop:services", SAGA_STORE=url, SAGA_TRANSPORT="kafka://127.0.0.1:1") as process:
            read_until(process, "the database is away")
            assert told(process) == 0


@pytest.mark.parametrize("url", ["postgresql://me@{}/shop", "kafka://{}"])
def test_told_while_a_server_says_nothing_it_ends_at_once(shop: Path, url: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        places = {"SAGA_STORE": "sqlite:///shop.db", "SAGA_TRANSPORT": "kafka://127.0.0.1:1"}
        places["SAGA_STORE" if url.startswith("postgres") else "SAGA_TRANSPORT"] = url.format(address)
        with running("run", "shop:services", **places) as process:
            silent.settimeout(PROMPT_SECONDS)
            connection, _ = silent.accept()
            with closing(connection):
                assert told(process) == 0


def test_told_while_kafka_is_away_it_ends_at_once(shop: Path) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        transport = f"kafka://127.0.0.1:{nobody.getsockname()[1]}"
        with running("run", "shop:services", SAGA_STORE="sqlite:///shop.db", SAGA_TRANSPORT=transport) as process:
            read_until(process, "the transport is away")
            assert told(process) == 0


# --- a fleet ------------------------------------------------------------------------------------------------------


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_fleet_comes_up_from_its_settings_and_drains(shop: Path, kafka: Kafka, postgres: Postgres) -> None:
    code, said = exits("plan", "shop:services", "-o", "plans")
    assert code == 0, said
    (shop / "services.url").write_text(postgres.create_database_now("services"))
    places = {
        "SAGA_TRANSPORT": f"kafka://{kafka.bootstrap}?prefix={uuid4().hex[:8]}.",
        "SAGA_HEALTH": "127.0.0.1:0",
        "SAGA_LOG_FORMAT": "json",
    }
    with running("run", "shop:services", SAGA_STORE_FILE="services.url", **places) as service:
        at = read_until(service, "answers /livez and /readyz").split("http://")[1].split()[0]
        read_until(service, "waiting up to 30 s for plans")
        waiting = httpx.get(f"http://{at}/readyz")
        assert (waiting.status_code, "waiting for its plans" in waiting.text) == (503, True)
        assert httpx.get(f"http://{at}/livez").status_code == 200
        with running(
            "coordinator", SAGA_PLANS="plans", SAGA_COORDINATOR_STORE=postgres.create_database_now("saga"), **places
        ) as coordinator:
            read_until(coordinator, "coordinating")
            read_until(service, "running desk, rooms")
            joining = until_ready(at)
            assert {name.partition(" ")[0] for name in joining} <= {"service"}
            assert (told(service), told(coordinator)) == (0, 0)
