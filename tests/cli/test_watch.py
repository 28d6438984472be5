from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_operating_store
from saga._core.audit import AuditRow
from saga._core.instance import Instance
from saga._core.rows import CoordinatorChanges
from saga.cli.watching import ON_ITS_WAY_SECONDS, Looking, count_changes, is_on_its_way, saga_changes
from saga.ports import CoordinationStore
from tests.cli.stuck_shop import COMPLETED, FURTHER, ONE, RUNNING, STUCK, fill, row
from tests.cli.test_dlq import saga


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def plan_of_changes(store: CoordinationStore, saga_id: str, *steps: Instance) -> Looking:
    """Look every second for a minute; each pause lets the saga go one step on."""
    going = iter(steps)

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds)
        instance = next(going, None)
        if instance is not None:
            stored = (await store.load([saga_id]))[saga_id]
            changed = row(saga_id, instance, revision=stored.revision)
            await store.write(CoordinatorChanges(instances=(changed,)))

    return Looking(every_seconds=1.0, for_seconds=60.0, until_ended=True, sleep=sleep)


@pytest.mark.anyio
async def test_a_sagas_transitions_come_as_they_happen_until_it_ends() -> None:
    async with open_coordination_store(ONE) as store:
        looking = plan_of_changes(store, "s2", FURTHER, FURTHER, COMPLETED)
        seen: list[list[str]] = []
        async with aclosing(saga_changes(store, "s2", looking)) as changes:
            async for _, news in changes:
                seen.append([each.text for each in news])
    assert seen == [
        ["orders.start done, emitted placed.v1"],
        ["stock.reserve done, emitted reserved.v1"],
        ["ship.send done", "it has completed"],
    ]
    assert anyio.current_time() < 60


@pytest.mark.anyio
async def test_the_time_bounds_a_watch_and_stuck_ends_it() -> None:
    async with open_coordination_store(ONE) as store:
        looking = replace(plan_of_changes(store, "s2"), for_seconds=5.0, every_seconds=2.0)
        began = anyio.current_time()
        async with aclosing(saga_changes(store, "s2", looking)) as changes:
            assert [instance.phase async for instance, _ in changes] == [RUNNING.phase]
        assert anyio.current_time() - began == pytest.approx(5.0)
        looking = plan_of_changes(store, "s2", replace(STUCK))
        async with aclosing(saga_changes(store, "s2", looking)) as changes:
            texts = [each.text async for _, news in changes for each in news]
    assert "ship.send failed: boom (attempt 3)" in texts
    assert "stock.reserve could not be undone" in texts
    assert texts[-1] == "it is stuck: undo_failed: stock.reserve: no such shelf"


@pytest.mark.anyio
async def test_a_stuck_saga_that_somebody_has_just_done_something_about_is_watched_on() -> None:
    async with open_coordination_store(ONE) as store, open_operating_store(ONE) as inspection:
        started, at = anyio.current_time(), await store.now()
        act = AuditRow(at=at, who="ann", why="done by hand", verb="skip", saga_id="s1", target="stock.reserve")
        await store.write(CoordinatorChanges(audits=(act,)))
        looking = plan_of_changes(store, "s1", STUCK, STUCK, COMPLETED)
        async with aclosing(saga_changes(store, "s1", looking, inspection)) as changes:
            seen = [instance.phase.value async for instance, _ in changes]
        assert seen[-1] == "completed"
        assert anyio.current_time() - started == pytest.approx(3.0)
        old = replace(act, at=at - timedelta(seconds=ON_ITS_WAY_SECONDS))
    assert [is_on_its_way(acts, at) for acts in ([act], [old], [])] == [True, False, False]


@pytest.mark.anyio
async def test_counts_come_when_they_change_until_nothing_is_open() -> None:
    async with open_coordination_store(ONE) as store, open_operating_store(ONE) as inspection:
        stuck = (await store.load(["s1"]))["s1"]
        ended = row("s1", COMPLETED, revision=stuck.revision)
        await store.write(CoordinatorChanges(instances=(ended,)))
        looking = plan_of_changes(store, "s2", FURTHER, COMPLETED)
        async with aclosing(count_changes(inspection, looking)) as changes:
            seen = [(dict(counts), dict(differences)) async for counts, differences in changes]
    running, completed = ("checkout", 1, "running"), ("checkout", 1, "completed")
    assert seen == [
        ({completed: 2, running: 1}, {completed: 2, running: 1}),
        ({completed: 3}, {completed: 1, running: -1}),
    ]


def test_the_command_tells_people_and_programs() -> None:
    said = saga("watch", "s3", "--until-ended")
    assert said.code == 0
    assert said.out.splitlines()[-1].endswith("it has completed")
    lines = saga("watch", "s3", "--json").lines
    assert lines[0] == {
        "saga_id": "s3",
        "at": "2026-01-01T12:00:00+00:00",
        "text": "orders.start done, emitted placed.v1",
        "run": {"step": "orders.start", "branch": ""},
    }
    stuck = saga("watch", "s1", "--until-ended")
    assert (stuck.code, "saga explain s1" in stuck.err) == (1, True)
    assert saga("watch", "s9").code == 1


def test_counts_are_told_and_a_watch_that_was_in_vain_exits_1() -> None:
    said = saga("watch", "--for", "0.1", "--every", "0.1")
    assert (said.code, "2 open, 1 stuck" in said.out) == (0, True)
    assert said.out.count("open") == 1, "nothing has changed"
    assert "+" not in said.out, "the first look has nothing to differ from"
    said = saga("watch", "--for", "0.1", "--every", "0.1", "--until-ended", "--json")
    assert said.code == 1
    assert said.lines[0]["open"] == 2
    said = saga("watch", "s2", "--for", "0.1", "--every", "0.1", "--until-ended")
    assert (said.code, "has not ended within 0.1 s" in said.err) == (1, True)
    assert saga("watch", "--every", "0").code == 2


def test_good_news_is_no_error() -> None:
    said = saga("ls", "--saga", "nothing")
    assert (said.code, said.err.strip()) == (1, "nothing matched")
    assert saga("dlq", "ls").err.strip() == "nothing matched"
    assert saga("history", "s3").err.strip() == "nothing matched"


def test_every_line_of_a_saga_has_a_time_or_says_that_there_is_none() -> None:
    lines = saga("watch", "s1", "--until-ended").out.splitlines()
    assert all(line[:21].strip() for line in lines)
    assert any(line.startswith("-  ") for line in lines)
