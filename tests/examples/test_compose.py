from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from examples.payment.__main__ import parser
from examples.payment.roles import DATABASES
from examples.payment.settings import NAMES, settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose" / "compose.yaml"
DOCKERFILE = (ROOT / "compose" / "Dockerfile").read_text()
SERVICES = cast("dict[str, dict[str, Any]]", yaml.safe_load(FILE.read_text())["services"])
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONCE = {"init", "place", "ledger"}
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)*")


def read_by_code(name: str) -> bool:
    if name in NAMES:
        return True
    files = (ROOT / "saga" / "telemetry").glob("*.py")
    return name.startswith("OTEL_") and any(f'"{name}"' in file.read_text() for file in files)


def arguments(service: dict[str, Any]) -> list[str]:
    return [*service.get("entrypoint", [])[3:], *service["command"]]


def test_everything_the_example_needs_is_there() -> None:
    assert SERVICES.keys() >= {"kafka", "postgres", "jaeger", "gateway", "init", "coordinator-1", "coordinator-2"}
    assert SERVICES.keys() >= set(DATABASES) - {"coordinator"}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    assert PINNED.fullmatch(SERVICES[name]["image"])


def test_base_images_and_tools_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert all(PINNED.fullmatch(base) for base in bases)
    (uv,) = re.findall(r"uv==(\S+)", DOCKERFILE)
    assert f"UV_VERSION := {uv}\n" in (ROOT / "Makefile").read_text()


def test_the_image_does_not_run_as_root() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER saga$", last, re.MULTILINE)


def test_what_the_image_copies_exists() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


def test_the_build_context_holds_only_what_is_copied() -> None:
    kept = re.findall(r"^!(.+)$", (ROOT / "compose" / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = [s for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for s in line.split()[:-1]]
    assert sorted(kept) == sorted(copied)


def test_extras_and_groups_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r"--(?:extra|group) (\S+)", DOCKERFILE):
        assert re.search(rf"^{name} = \[", project, re.MULTILINE), name


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_loopback(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_the_code_reads(name: str) -> None:
    environment = OURS[name]["environment"]
    assert [variable for variable in environment if not read_by_code(variable)] == []
    assert all(isinstance(value, str) for value in environment.values())
    settings(environment)


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_a_role(name: str) -> None:
    parser().parse_args(arguments(OURS[name]))


@pytest.mark.parametrize("name", SERVICES)
def test_everything_that_stays_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check.get("disable", False) is (name in ONCE)
    assert name in ONCE or check["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_dependencies_exist_and_are_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        once = other in ONCE
        assert how["condition"] == ("service_completed_successfully" if once else "service_healthy")
        assert other in SERVICES


def test_health_checks_that_call_a_role_name_one() -> None:
    for service in OURS.values():
        test = service["healthcheck"].get("test", [])
        if "examples.payment" in test:
            parser().parse_args(test[test.index("examples.payment") + 1 :])
            assert service["environment"]["SAGA_HEARTBEAT_FILE"].startswith("/tmp/")


def test_replicas_differ_in_their_slots() -> None:
    slots = [service["environment"]["SAGA_SLOT"] for service in OURS.values() if service["command"] == ["coordinator"]]
    assert len(slots) == len(set(slots)) == 2


def test_addresses_name_services_of_the_file() -> None:
    environment = OURS["orders"]["environment"]
    hosts = re.findall(r"(?://|@)([a-z]+):\d+", " ".join(environment.values()))
    assert set(hosts) == {"kafka", "postgres", "orders", "gateway", "jaeger", "prometheus"}


def test_the_gateway_keeps_its_books_on_a_volume() -> None:
    gateway = OURS["gateway"]
    assert gateway["environment"]["GATEWAY_FILE"].startswith("/data/")
    assert gateway["volumes"] == ["gateway:/data"]
