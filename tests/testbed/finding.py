"""Decide where each service comes from, before anything is started."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

from tests.testbed.broker import jars_directory
from tests.testbed.browser import installable, program
from tests.testbed.cluster import binaries
from tests.testbed.jaeger import binary

Name = Literal["kafka", "postgres", "jaeger", "browser"]
Kind = Literal["address", "docker", "local", "missing"]
Verdict = Literal["use", "skip", "fail"]

NAMES: tuple[Name, ...] = ("kafka", "postgres", "jaeger", "browser")
REQUIRE = "SAGA_TEST_REQUIRE"
VARIABLES: dict[Name, str] = {name: f"SAGA_TEST_{name.upper()}" for name in NAMES}
IN_DOCKER: frozenset[Name] = frozenset({"kafka", "postgres"})
HELP: dict[Name, str] = {
    "kafka": "apt-get install default-jre-headless maven",
    "postgres": "apt-get install postgresql",
    "jaeger": "put a jaeger 2 program on the path",
    "browser": "apt-get install --no-install-recommends chromium-headless-shell fonts-dejavu-core",
}


@dataclass(frozen=True)
class Found:
    """Where a service comes from; `detail` is its address, the local program, or why there is none."""

    name: Name
    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" if self.kind == "missing" else f"{self.name}: {self.kind}, {self.detail}"


class Machine(Protocol):
    """What the machine offers; each answer is a short description, or why not."""

    def docker(self) -> tuple[bool, str]:
        """Ask whether a Docker engine answers."""
        ...

    def local(self, name: Name) -> tuple[bool, str]:
        """Ask whether the service can run as a local process."""
        ...


def find(name: Name, environ: Mapping[str, str], machine: Machine) -> Found:
    """Return where the service comes from: the environment, then Docker, then a local process.

    The words `docker` and `local` in the variable demand that way instead of naming an address.
    """
    value = environ.get(VARIABLES[name], "")
    if value not in {"", "docker", "local"}:
        return Found(name, "address", value)
    reasons = [] if value else [f"{VARIABLES[name]} is not set"]
    if value != "local" and name in IN_DOCKER:
        answers, detail = machine.docker()
        if answers:
            return Found(name, "docker", detail)
        reasons.append(detail)
    if value != "docker":
        runs, detail = machine.local(name)
        if runs:
            return Found(name, "local", detail)
        reasons.append(detail)
    return Found(name, "missing", f"none, {'; '.join(reasons)}. Try: {advice(name)}")


def advice(name: Name) -> str:
    """Return the commands which would help."""
    docker = ", or start Docker" if name in IN_DOCKER else ""
    return f"{HELP[name]}{docker}, or set {VARIABLES[name]}={example(name)}"


def example(name: Name) -> str:
    """Return an address in the form the variable takes."""
    examples: dict[Name, str] = {
        "kafka": "host:port",
        "postgres": "postgresql://user:password@host:port/database",
        "jaeger": "http://host:16686",
        "browser": "/path/to/chromium",
    }
    return examples[name]


def required(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the services without which the tests must fail; an unknown name is an error, not ignored."""
    names = frozenset(word.strip() for word in environ.get(REQUIRE, "").split(",") if word.strip())
    unknown = names - set(NAMES)
    if unknown:
        raise ValueError(f"{REQUIRE} names {', '.join(sorted(unknown))}; known are {', '.join(NAMES)}")
    return names


def verdict(found: Found, environ: Mapping[str, str]) -> Verdict:
    """Tell what a test which needs the service does."""
    if found.kind != "missing":
        return "use"
    return "fail" if found.name in required(environ) else "skip"


class ThisMachine:
    """The machine the tests run on."""

    def docker(self) -> tuple[bool, str]:
        return docker_engine()

    def local(self, name: Name) -> tuple[bool, str]:
        if platform.system() == "Windows":
            return False, "local servers need Linux or macOS"
        if name == "kafka":
            return local_kafka()
        if name == "postgres":
            directory = binaries()
            return (True, str(directory)) if directory else (False, "initdb is not installed")
        if name == "browser":
            return local_browser()
        jaeger = binary()
        return (True, jaeger) if jaeger else (False, "no jaeger program is on the path")


def local_kafka() -> tuple[bool, str]:
    """Tell whether a broker can run: Java, and its jars or Maven to fetch them."""
    jars = jars_directory()
    if shutil.which("java") is None:
        return False, "java is not installed"
    if not jars.is_dir() and shutil.which("mvn") is None:
        return False, "mvn, which fetches Kafka's jars, is not installed"
    return True, str(jars)


def local_browser() -> tuple[bool, str]:
    """Tell whether a browser is there, or can be installed when a test asks for it."""
    if found := program():
        return True, found
    return (True, "to be installed by apt-get") if installable() else (False, "no chromium is on the path")


@cache
def docker_engine() -> tuple[bool, str]:
    """Tell whether a Docker engine answers, without waiting for one that does not."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if host.startswith("unix://") and not os.path.exists(host.removeprefix("unix://")):  # noqa: PTH110
        return False, "no Docker engine answers"
    try:
        from tests.testbed.containers import engine_version
    except ImportError as error:
        return False, f"Docker needs the test dependencies ({error})"
    version = engine_version()
    return (True, f"engine {version}") if version else (False, "no Docker engine answers")
