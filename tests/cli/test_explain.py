from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from outbox.urls import open_coordination_store
from saga._core.rows import CoordinatorChanges
from saga.cli.explaining import with_store
from tests.cli.stuck_shop import COMPLETED, ONE, RUNNING, SERVICES, fill, row
from tests.cli.test_dlq import saga
from tests.docs.test_commands import unknown


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill()


def test_a_stuck_saga_is_explained_to_a_person() -> None:
    said = saga("explain", "s1", "--service-store", SERVICES)
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "checkout v1 s1: stuck\n"
        "It is stuck and needs a person: stock.reserve: no such shelf.\n"
        "\n"
        "how it began\n"
        "  - orders.start started it (2026-01-01 12:00:00Z)\n"
        "\n"
        "why it turned\n"
        "  - ship.send failed after 3 attempts: boom (it came from orders.start -> stock.reserve) "
        "(2026-01-01 12:00:00Z)\n"
        "\n"
        "what people did\n"
        "  - bob had stock.reserve tried again: hopeful (2026-01-01 12:00:00Z)\n"
        "\n"
        "what it waits for\n"
        "  - the undo of stock.reserve has failed for good after 4 attempts: KeyError: shelf 7b\n"
        "  - a message for ship.send is a dead letter (number 1): payload: no sku\n"
        "\n"
        "what helps\n"
        "  saga retry s1 stock.reserve --who NAME --why REASON --store sqlite:///one.db\n"
        "    has its compensation tried again, once what is wrong is mended\n"
        "  saga skip s1 stock.reserve --who NAME --why REASON --store sqlite:///one.db\n"
        "    counts it as undone, once a person has undone it by hand\n"
        "  saga dlq replay 1 --who NAME --why REASON --store sqlite:///services.db\n"
        "    lets ship have it again, once what is wrong is mended\n"
    )


def test_the_command_it_names_mends_it() -> None:
    (told,) = saga("explain", "s1", "--json").lines
    command = next(mend["command"] for mend in told["mends"] if mend["command"].startswith("saga retry"))
    assert [wrong for mend in told["mends"] for wrong in unknown(mend["command"])] == []
    words = command.replace("NAME", "ann").replace("REASON", "mended").split()[1:]
    assert words[words.index("--store") :] == ["--store", ONE]
    assert saga(*words[: words.index("--store")]).code == 0
    (told,) = saga("explain", "s1", "--json").lines
    assert told["phase"] == "closing"
    assert "ann had stock.reserve tried again: mended" in [line["text"] for line in told["lines"]]


def test_programs_get_one_object() -> None:
    (told,) = saga("explain", "s2", "--json").lines
    assert (told["saga_id"], told["saga"], told["phase"]) == ("s2", "checkout v1", "running")
    assert told["verdict"].startswith("it is going forward; stock.reserve is to run at stock")
    waits = [line for line in told["lines"] if line["about"] == "waits"]
    assert waits[0]["run"] == {"step": "stock.reserve", "branch": ""}
    (told,) = saga("explain", "s3", "--json").lines
    assert (told["mends"], told["phase"]) == ([], "completed")


def test_a_saga_that_nobody_knows_exits_1_and_a_service_without_a_coordinator_2() -> None:
    said = saga("explain", "s9")
    assert (said.code, "knows no saga s9" in said.err) == (1, True)
    assert saga("explain", "s1", store=SERVICES).code == 2
    assert saga("explain", "s1", "--service-store", "sqlite:///typo.db").code == 2
    assert saga("explain", "s1", store="postgresql://u:secret@127.0.0.1:1/none").code == 3


def test_the_beginning_of_an_id_is_enough_where_it_is_one_sagas() -> None:
    one, other = "abb3aaaa-18ef-595f-a406-5eeba5f2293d", "abb4aaaa-18ef-595f-a406-5eeba5f2293d"

    async def add() -> None:
        async with open_coordination_store(ONE) as store:
            await store.write(CoordinatorChanges(instances=(row(one, COMPLETED), row(other, RUNNING))))

    anyio.run(add)
    (told,) = saga("explain", "abb3", "--json").lines
    assert told["saga_id"] == one
    assert saga("watch", "abb3", "--until-ended").code == 0
    assert saga("graph", "abb3", "--store", ONE, "--view", "timeline").out.startswith("<svg")
    assert saga("explain", "abb").code == 1
    assert (saga("explain", "abb5").code, "knows no saga abb5" in saga("explain", "abb5").err) == (1, True)


def test_a_beginning_that_several_sagas_share_is_told_with_them() -> None:
    ids = ("abb3aaaa", "abb3bbbb")

    async def add() -> None:
        async with open_coordination_store(ONE) as store:
            await store.write(CoordinatorChanges(instances=tuple(row(each, COMPLETED) for each in ids)))

    anyio.run(add)
    said = saga("explain", "abb3")
    assert (said.code, all(each in said.err for each in ids)) == (2, True)
    assert saga("explain", "abb3aaaa").code == 0


def test_a_password_stays_out_of_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://u:secret@host/db"
    assert with_store("saga retry s1", url) == 'saga retry s1 --store "$SAGA_STORE"'
    monkeypatch.setenv("SAGA_STORE", url)
    assert with_store("saga retry s1", url) == "saga retry s1"
    assert with_store("", url) == ""


def test_doctor_is_named_with_what_it_is_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_store("saga doctor", ONE) == f"saga doctor --store {ONE} --transport kafka://HOST:PORT"
    monkeypatch.setenv("SAGA_TRANSPORT", "kafka://broker:9092")
    assert with_store("saga doctor", ONE) == f"saga doctor --store {ONE}"
