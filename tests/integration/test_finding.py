from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.testbed.finding import NAMES, REQUIRE, Name, find, required, verdict


@dataclass
class FakeMachine:
    engine: bool = False
    programs: bool = False
    asked: tuple[str, ...] = ()

    def docker(self) -> tuple[bool, str]:
        self.asked += ("docker",)
        return self.engine, "engine 28" if self.engine else "no Docker engine answers"

    def local(self, name: Name) -> tuple[bool, str]:
        self.asked += ("local",)
        return self.programs, "/usr/bin" if self.programs else f"{name} is not installed"


@pytest.mark.parametrize(
    ("environ", "engine", "programs", "kind"),
    [
        ({"SAGA_TEST_KAFKA": "broker:9092"}, True, True, "address"),
        ({}, True, True, "docker"),
        ({}, False, True, "local"),
        ({}, False, False, "missing"),
        ({"SAGA_TEST_KAFKA": "local"}, True, True, "local"),
        ({"SAGA_TEST_KAFKA": "docker"}, False, True, "missing"),
    ],
)
def test_the_environment_comes_before_docker_before_a_local_process(
    environ: Mapping[str, str], engine: bool, programs: bool, kind: str
) -> None:
    assert find("kafka", environ, FakeMachine(engine, programs)).kind == kind


def test_an_address_asks_nothing_of_the_machine() -> None:
    machine = FakeMachine(engine=True, programs=True)
    assert find("postgres", {"SAGA_TEST_POSTGRES": "postgresql://h/d"}, machine).detail == "postgresql://h/d"
    assert machine.asked == ()


@pytest.mark.parametrize("name", NAMES)
def test_without_a_service_the_text_says_why_and_what_helps(name: Name) -> None:
    text = str(find(name, {}, FakeMachine()))
    assert f"{name} is not installed" in text
    assert f"SAGA_TEST_{name.upper()}=" in text
    assert {"kafka": "apt-get install", "postgres": "apt-get install", "jaeger": "on the path", "browser": "apt-get"}[
        name
    ] in text


def test_a_missing_service_is_skipped_unless_required() -> None:
    missing = find("kafka", {}, FakeMachine())
    assert verdict(missing, {}) == "skip"
    assert verdict(missing, {REQUIRE: "postgres"}) == "skip"
    assert verdict(missing, {REQUIRE: "kafka, postgres"}) == "fail"


def test_a_found_service_is_used_whatever_is_required() -> None:
    local = find("kafka", {}, FakeMachine(programs=True))
    assert verdict(local, {}) == verdict(local, {REQUIRE: "kafka"}) == "use"


def test_a_misspelt_requirement_is_an_error() -> None:
    with pytest.raises(ValueError, match="kakfa"):
        required({REQUIRE: "kakfa"})
