from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from tests.cli.shop import MAILER, SERVICES
from tests.cli.test_commands import fresh_modules
from tests.cli.test_doctor_kafka import a_part, make_topics, prefix, without_store
from tests.testbed.services import Kafka

__all__ = ["fresh_modules"]

TARGET = "shop:services"
TOPICS = [
    "saga.runs",
    "saga.outcomes",
    "desk.events",
    "desk.commands",
    "rooms.events",
    "rooms.commands",
    "saga.outcomes.urgent",
    "desk.events.urgent",
    "desk.commands.urgent",
    "rooms.events.urgent",
    "rooms.commands.urgent",
    "saga.plans",
    "saga.manifests",
    "saga.breakers",
]


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shop.py").write_text(SERVICES)


def test_a_plan_names_every_topic_who_writes_and_who_reads() -> None:
    said = without_store("topics", "plan", TARGET, "--json", "--partitions", "3")
    assert [line["topic"] for line in said.lines] == TOPICS
    found = {line["topic"]: line for line in said.lines}
    assert (found["saga.runs"]["partitions"], found["saga.plans"]["partitions"]) == (3, 1)
    assert (found["saga.runs"]["cleanup"], found["saga.plans"]["cleanup"]) == ("delete", "compact")
    assert (found["desk.events"]["writers"], found["desk.events"]["readers"]) == (["desk"], ["rooms"])
    assert (found["rooms.events.urgent"]["writers"], found["rooms.events.urgent"]["readers"]) == (["rooms"], [])
    assert (found["desk.commands"]["writers"], found["desk.commands"]["readers"]) == (["coordinator"], ["desk"])
    said = without_store("topics", "plan", TARGET)
    assert said.out.splitlines()[1].split()[:3] == ["saga.runs", "8", "delete"]


def test_services_of_other_repositories_come_from_their_manifests() -> None:
    Path("mailer.py").write_text(MAILER)
    assert without_store("manifest", "mailer:mailer", "-o", "mailer.json").code == 0
    Path("mailer.py").unlink()
    said = without_store("topics", "plan", TARGET, "mailer.json", "--json")
    found = {line["topic"]: line for line in said.lines}
    assert found["rooms.events"]["readers"] == ["mailer"]
    assert "mailer.commands" in found


def test_topics_are_checked_created_and_checked(kafka: Kafka) -> None:
    url = a_part(kafka)
    arguments = (TARGET, "--transport", url, "--partitions", "2")
    make_topics(url, NewTopic(f"{prefix(url)}rooms.events", 1, 1))
    said = without_store("topics", "check", *arguments, "--json")
    states = {line["topic"]: line for line in said.lines}
    assert (said.code, list(states)) == (1, TOPICS)
    assert (states["saga.runs"]["state"], states["rooms.events"]["state"]) == ("missing", "there")
    (problem,) = states["rooms.events"]["problems"]
    assert problem["command"].endswith(f"--alter --topic {prefix(url)}rooms.events --partitions 2")
    said = without_store("topics", "check", *arguments)
    assert "error: topic" in said.err
    assert "saga topics create" in said.err

    dry = without_store("topics", "create", *arguments, "--dry-run")
    assert dry.out.count("would be created") == len(TOPICS) - 1
    made = without_store("topics", "create", *arguments, "--json")
    assert [line["topic"] for line in made.lines] == [name for name in TOPICS if name != "rooms.events"]
    assert without_store("topics", "create", *arguments).out == "all topics are there\n"
    again = without_store("topics", "check", *arguments, "--json")
    assert [line["topic"] for line in again.lines if not line["ok"]] == ["rooms.events"]
    assert without_store("topics", "check", TARGET, "--transport", url, "--partitions", "1").code == 0


def test_what_is_used_wrongly_and_what_is_away() -> None:
    assert without_store("topics", "plan", "nowhere:services").code == 2
    assert without_store("topics", "check", TARGET, "--transport", "memory://").code == 2
    away = without_store("topics", "check", TARGET, "--transport", "kafka://127.0.0.1:1?connect_timeout_seconds=1")
    assert (away.code, "nothing listens" in away.err) == (3, True)
