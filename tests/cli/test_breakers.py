from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from outbox.urls import open_coordination_store, open_operating_store
from saga._core.breaker import Phase
from saga._core.fleet import CallReport, FleetVerdict, report_message, verdict_message
from saga._core.outages import dependencies
from saga._core.topics import BREAKERS
from saga._runtime.fleet import FleetJudge
from tests.cli.test_doctor_kafka import a_part, make_topics, prefix, publish, without_store
from tests.core.protocol_examples import NOW
from tests.testbed.services import Kafka

LATER = NOW + timedelta(seconds=10)
STORE = "sqlite:///one.db"


def a_report(at: datetime, slot: str = "0", failures: int = 4) -> CallReport:
    return CallReport(dependency="gateway", service="payment", slot=slot, calls=5, failures=failures, at=at)


def a_verdict(phase: Phase, until: datetime, share: int = 0) -> FleetVerdict:
    return FleetVerdict(dependency="gateway", phase=phase, share=share, valid_until=until)


def test_a_dependency_is_as_its_last_verdict_says_since_the_first_of_its_kind() -> None:
    at = [NOW + timedelta(seconds=n) for n in range(5)]
    said: list[CallReport | FleetVerdict] = [
        a_report(at[0]),
        a_verdict(Phase.OPEN, LATER),
        a_report(at[1], slot="1"),
        a_verdict(Phase.OPEN, LATER),
        a_report(at[2]),
    ]
    (state,) = dependencies(said, NOW)
    assert (state.phase, state.share, state.since, state.until) == (Phase.OPEN, 0, at[0], LATER)
    assert [(report.slot, report.at) for report in state.reports] == [("0", at[2]), ("1", at[1])]
    (state,) = dependencies([*said, a_verdict(Phase.RECOVERING, LATER, 25)], NOW)
    assert (state.phase, state.share, state.since) == (Phase.RECOVERING, 25, at[2])


def test_a_verdict_that_is_over_says_nothing() -> None:
    (state,) = dependencies([a_report(NOW), a_verdict(Phase.OPEN, LATER)], LATER)
    assert (state.phase, state.share, state.since, state.until) == (Phase.CLOSED, 100, None, None)
    assert dependencies([], NOW) == ()


@pytest.mark.anyio
async def test_coordinators_take_a_closed_verdict_over_and_do_not_contradict_it() -> None:
    judge = FleetJudge()
    judge.take_over(a_verdict(Phase.OPEN, LATER))
    judge.take_over(a_verdict(Phase.CLOSED, LATER, 100))
    assert list(judge.verdicts(NOW)) == []


@pytest.fixture
def url(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a broker on which the gateway is out, and a coordinator's database."""
    monkeypatch.chdir(tmp_path)
    url = a_part(kafka)

    async def migrate() -> None:
        async with open_coordination_store(STORE) as coordination:
            await coordination.migrate()

    anyio.run(migrate)
    from aiokafka.admin import NewTopic

    make_topics(url, NewTopic(prefix(url) + BREAKERS, 1, 1, topic_configs={"cleanup.policy": "compact"}))
    return url


def test_an_open_breaker_is_listed_and_closed_by_hand(url: str) -> None:
    said = without_store("breakers", "ls", "--transport", url)
    assert (said.code, said.out) == (0, "nothing is reported: no calls fail\n")
    now = datetime.now(UTC)
    publish(url, report_message(a_report(now)), verdict_message(a_verdict(Phase.OPEN, now + timedelta(seconds=29))))
    said = without_store("breakers", "ls", "--transport", url)
    assert (said.code, "gateway" in said.err) == (1, True)
    assert "payment[0]" in said.out
    said = without_store("breakers", "ls", "--transport", url, "--json")
    (state,) = said.lines
    assert (state["dependency"], state["state"], state["share"]) == ("gateway", "open", 0)
    assert [report["failures"] for report in state["reports"]] == [4]
    assert without_store("breakers", "ls", "--transport", url, "--json", "--service", "x").lines[0]["reports"] == []

    by = ("--transport", url, "--store", STORE, "--who", "ann", "--why", "it is back")
    unknown = without_store("breakers", "close", "bank", *by)
    assert (unknown.code, "those spoken of are: gateway" in unknown.err) == (2, True)
    assert without_store("breakers", "close", "gateway", *by).code == 0
    assert without_store("breakers", "ls", "--transport", url).code == 0

    async def trail() -> list[tuple[str, str, str]]:
        async with open_operating_store(STORE) as store:
            return [(act.who, act.verb, act.target) for act in await store.audits(None)]

    assert anyio.run(trail) == [("ann", "close breaker", "gateway")]


def test_what_is_used_wrongly_and_what_is_away() -> None:
    assert without_store("breakers", "ls", "--transport", "memory://").code == 2
    assert without_store("breakers", "ls", "--transport", "kafka://127.0.0.1:1?connect_timeout_seconds=1").code == 3
