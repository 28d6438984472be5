from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from outbox.sqlite.checkup import file_facts
from outbox.urls import open_store
from saga._core.brokers import GroupState, PartitionLag, Presence, TopicProblem, TopicState, Weight
from saga._core.diagnosing import Limits, diagnose
from saga._core.doctor.facts import (
    BrokerFacts,
    DatabaseFacts,
    Facts,
    FileFacts,
    FleetFacts,
    HeldBack,
    PlanFact,
    ServerFacts,
    TableFact,
)
from saga._core.doctor.findings import Code, Found, Severity
from saga._core.doctor.mounts import mount_of
from saga._core.inspecting import InstanceCount
from saga._core.rows import Changes
from saga._core.words import Reason
from saga.cli.doctoring import limits_of
from saga.cli.explaining import store_word
from saga.cli.targets import runs_at
from saga.errors import SettingsError
from tests.cli.stuck_shop import fill
from tests.cli.test_dlq import saga
from tests.cli.test_doctor_kafka import without_store
from tests.contracts.operating_contract import dead
from tests.contracts.store_rows import outgoing, put

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
nas:/data /mnt/my\\040data nfs4 rw,vers=4.2 0 0
/dev/sdb1 /mnt ext4 ro,noatime 0 0
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SAGA_STORE", "SAGA_COORDINATOR_STORE", "SAGA_SERVICE_STORES", "SAGA_TRANSPORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def one_database(**changes: object) -> Facts:
    facts = DatabaseFacts(name="db", store="db", components=frozenset({"shared"}))
    return Facts(databases=(replace(facts, **changes),))  # type: ignore[arg-type]


def only(facts: Facts, code: str, limits: Limits | None = None) -> Found:
    (found,) = diagnose(facts, limits)
    assert found.code == code
    return found


def test_nothing_is_wrong_with_nothing() -> None:
    assert diagnose(Facts()) == ()
    assert diagnose(one_database()) == ()


# --- SQLite ----------------------------------------------------------------------------------------------------


def test_a_stuck_saga_and_a_dead_letter_are_found_in_files() -> None:
    fill()
    said = saga("doctor", "--json", store="sqlite:///one.db")
    codes = {line["code"]: line for line in said.lines}
    assert (said.code, sorted(codes)) == (1, ["coordinator-silent", "sagas-stuck"])
    assert codes["sagas-stuck"]["mend"].endswith("saga explain s1 --store sqlite:///one.db")
    said = saga("doctor", "--json", "--store", "sqlite:///one.db", store="sqlite:///services.db")
    assert {line["code"] for line in said.lines} == {"coordinator-silent", "sagas-stuck", "dead-letters"}
    assert "--store sqlite:///services.db" in next(one for one in said.lines if one["code"] == "dead-letters")["mend"]


def test_a_healthy_file_exits_0_and_the_output_is_for_people() -> None:
    assert saga("db", "upgrade", "--for", "both", store="sqlite:///new.db").code == 0
    said = saga("doctor", store="sqlite:///new.db")
    assert (said.code, said.out.startswith("nothing found; looked at sqlite:///")) == (0, True)
    assert said.out.endswith(
        "not looked at: Kafka, and which services run (--transport kafka://HOST:PORT); the code (name it as TARGET)\n"
    )
    fill()
    said = saga("doctor", store="sqlite:///one.db")
    assert "the services' databases (--store URL, once for each)" in said.out.splitlines()[-1]
    assert "1 saga stuck: nothing moves without a person  [sagas-stuck]\n    saga ls --phase stuck" in said.out


def test_a_file_that_is_not_there_is_not_made(folder: Path) -> None:
    said = saga("doctor", "--json", store="sqlite:///no/such/folder.db")
    assert [line["code"] for line in said.lines] == ["database-away"]
    assert said.code == 3
    said = saga("doctor", "--json", store="sqlite:///typo.db")
    assert [line["code"] for line in said.lines] == ["database-away"]
    assert not (folder / "typo.db").exists()


def test_a_file_without_tables() -> None:
    Path("empty.db").touch()
    said = saga("doctor", "--json", store="sqlite:///empty.db")
    assert [line["code"] for line in said.lines] == ["schema-missing"]
    assert said.lines[0]["mend"] == "saga db upgrade --store sqlite:///empty.db --for both"


def ends(store_url: str) -> None:
    """Put two ends whose on_end fails into a database of services, and a command that is tried again."""

    async def fill_ends() -> None:
        async with open_store(store_url) as store:
            await store.migrate()
            rows = [
                replace(dead(n, "SMTPError", step="", saga=f"s{n}", service="orders"), reason=Reason.RETRY, attempt=n)
                for n in (1, 2, 3)
            ]
            told = [replace(row, raw=replace(row.raw, topic="saga.outcomes")) for row in rows[:2]]
            await put(store, Changes(insert_deliveries=(*told, rows[2])), "s1", "s2", "s3")

    anyio.run(fill_ends)


def test_an_on_end_that_fails_is_found_in_the_starters_file() -> None:
    ends("sqlite:///services.db")
    said = saga("doctor", "--json", store="sqlite:///services.db")
    found = next(line for line in said.lines if line["code"] == "on-end-fails")
    assert (said.code, found["severity"]) == (1, "wrong")
    assert found["text"].startswith("on_end of orders fails for 2 sagas, up to 2 times: SMTPError; ")
    assert found["mend"] == "saga explain s2 --store URL --service-store sqlite:///services.db"


def test_an_outbox_in_a_file_that_nobody_publishes() -> None:
    async def put_one() -> None:
        async with open_store("sqlite:///one.db") as store:
            await store.migrate()
            await put(store, Changes(outbox=(outgoing(),)))

    anyio.run(put_one)
    said = saga("doctor", "--json", "--limit", "outbox_seconds=0", store="sqlite:///one.db")
    assert [line["code"] for line in said.lines] == ["outbox-old"]
    assert saga("doctor", store="sqlite:///one.db").code == 0


@pytest.mark.parametrize(
    ("path", "kind", "is_read_only"),
    [
        ("/var/lib/x.db", "ext4", False),
        ("/mnt/my data/x.db", "nfs4", False),
        ("/mnt/x.db", "ext4", True),
        ("/mntx/x.db", "ext4", False),
    ],
)
def test_a_path_lies_on_the_longest_mount_that_fits(path: str, kind: str, is_read_only: bool) -> None:
    mount = mount_of(path, MOUNTS)
    assert (mount.kind, mount.is_read_only) == (kind, is_read_only)


def test_what_a_file_lies_on_is_read_from_the_kernel(folder: Path) -> None:
    mounts = folder / "mounts"
    mounts.write_text(f"{MOUNTS}nas:/x {folder} cifs ro 0 0\n")
    file = file_facts(str(folder / "one.db"), mounts)
    assert (file.filesystem, file.read_only) == ("cifs", True)
    assert file.free_bytes is not None
    found = diagnose(one_database(file=file))
    assert [one.code for one in found] == ["sqlite-network", "sqlite-read-only"]
    assert found[1].mend == f"mount -o remount,rw {folder}"


def test_what_else_is_wrong_with_a_file() -> None:
    found = only(one_database(file=FileFacts(path="/x/a.db", writable=False)), "sqlite-read-only")
    assert found.mend == "chown $USER /x/a.db /x"
    found = only(one_database(file=FileFacts(path="/x/a.db", journal_mode="delete")), "sqlite-journal")
    assert (found.severity, found.mend) == (Severity.RISK, "sqlite3 /x/a.db 'pragma journal_mode=wal'")
    assert "disk has 1 MB left" in only(one_database(file=FileFacts(path="/x", free_bytes=1_500_000)), "disk-full").text


# --- rules that a planted fault does not reach -----------------------------------------------------------------


def test_what_a_server_cannot_be_made_to_do_in_a_test() -> None:
    assert only(one_database(server=ServerFacts(in_recovery=True)), "database-standby").severity is Severity.WRONG
    slot = HeldBack(kind="replication slot", name="cdc", transactions=2_000_000)
    assert (
        "pg_drop_replication_slot('cdc')"
        in only(one_database(server=ServerFacts(held_back=(slot,))), "rows-held-back").mend
    )
    few = ServerFacts(held_back=(replace(slot, transactions=10),))
    assert diagnose(one_database(server=few)) == ()
    table = TableFact(name="saga_run", live=10, dead=60_000, vacuumed_seconds=None)
    only(one_database(server=ServerFacts(tables=(table,))), "bloat")
    assert diagnose(one_database(server=ServerFacts(tables=(replace(table, live=70_000),)))) == ()
    role = ServerFacts(role="app", allowed=5, used=5, pool_size=5, limit_of="role")
    only(one_database(server=role), "connections-taken").mend.endswith('"alter role app connection limit -1"')
    assert only(one_database(server=ServerFacts(skew_seconds=-60.0)), "clock-skew").text.count("ahead of") == 1
    assert diagnose(one_database(server=ServerFacts(skew_seconds=3.0, skew_error_seconds=2.0))) == ()


def a_group(name: str, committed: int | None, end: int, *members: str, state: str = "Stable") -> GroupState:
    lag = PartitionLag(topic="t", partition=0, committed=committed, end=end)
    return GroupState(name=name, state=state, members=members, partitions=(lag,))


def a_broker(before: GroupState, after: GroupState) -> Facts:
    coordinator = GroupState(name="saga-coordinator", members=("m",), state="Stable")
    facts = BrokerFacts(name="kafka", bootstrap="x", before=(before,), groups=(after, coordinator))
    return Facts(broker=facts)


def test_a_group_that_moves_or_has_nothing_to_read_is_well() -> None:
    assert diagnose(a_broker(a_group("orders", 1, 9, "m"), a_group("orders", 2, 9, "m"))) == ()
    assert diagnose(a_broker(a_group("orders", 9, 9, "m"), a_group("orders", 9, 10, "m"))) == ()
    only(a_broker(a_group("orders", 1, 9, "m"), a_group("orders", 1, 9, "m")), "group-stuck")
    empty = a_group("orders", 9, 9, state="Empty")
    assert diagnose(a_broker(empty, empty)) == ()
    assert a_group("orders", None, 4).lag == 4


def test_partitions_that_no_member_has() -> None:
    whole, short = a_group("orders", 9, 9, "m"), replace(a_group("orders", 9, 9, "m"), unowned=("t[1]", "t[2]"))
    assert diagnose(a_broker(whole, short)) == ()  # it may be about to share them out
    assert diagnose(a_broker(short, whole)) == ()
    found = only(a_broker(short, short), "partition-unowned")
    assert "group orders: no member reads 2 partitions (t[1], t[2])" in found.text


def test_before_the_first_commit_only_what_is_still_there_waits() -> None:
    assert PartitionLag(topic="t", partition=0, committed=None, end=9, beginning=7).lag == 2
    assert PartitionLag(topic="t", partition=0, committed=0, end=9, beginning=7).lag == 9


def test_a_coordinator_that_is_not_there_is_worse_while_sagas_are_open() -> None:
    facts = BrokerFacts(name="k", groups=(GroupState(name="saga-coordinator", state="Empty"),))
    assert only(Facts(broker=facts), "coordinator-absent").severity is Severity.RISK
    database = DatabaseFacts(
        name="db",
        store="db",
        components=frozenset({"coordinator"}),
        counts=(InstanceCount(saga="checkout", version=1, phase="running", sagas=2),),
    )
    found = only(Facts(broker=facts, databases=(database,)), "coordinator-absent")
    assert (found.severity, found.mend) == (Severity.WRONG, "saga coordinator --transport kafka://HOST:PORT")


def test_dynamic_members_have_no_slot_to_share() -> None:
    one, two = (f"aiokafka-0.14-{'a' * 36}", f"aiokafka-0.14-{'b' * 36}")
    assert diagnose(a_broker(a_group("orders", 1, 2, one), a_group("orders", 2, 3, two))) == ()
    one, two = (f"orders-0-abcd-{'a' * 36}", f"orders-0-abcd-{'b' * 36}")
    only(a_broker(a_group("orders", 1, 2, one), a_group("orders", 2, 3, two)), "slot-twice")


def test_every_weight_of_a_topics_problem_has_a_severity() -> None:
    def said(weight: Weight) -> Found:
        problem = TopicProblem(weight=weight, text="it is wrong; run kafka-configs", command="kafka-configs")
        topic = TopicState(name="t", presence=Presence.THERE, problems=(problem,))
        return diagnose(Facts(broker=BrokerFacts(name="k", topics=(topic,))))[0]

    assert [said(weight).severity for weight in Weight] == [Severity.WRONG, Severity.WRONG, Severity.RISK]
    assert (said(Weight.REFUSED).text, said(Weight.REFUSED).mend) == ("it is wrong", "kafka-configs")


def test_code_that_no_plan_knows() -> None:
    found = diagnose(Facts(fleet=FleetFacts(drift=("orders[0] matches no plan",), divided=("they differ",))))
    assert [one.code for one in found] == ["code-unplanned", "replicas-differ"]
    same = PlanFact(title="checkout v1", coded="a", published="a")
    assert diagnose(Facts(plans=(same,))) == ()
    assert "another shape" in only(Facts(plans=(replace(same, published="b", revision=2),)), "plan-differs").text


def test_commands_name_what_is_known_and_words_for_the_rest() -> None:
    fleet = FleetFacts(divided=("they differ",), silent=("rooms",))
    coordinator = DatabaseFacts(name="c", store="sqlite:///c.db", components=frozenset({"coordinator"}))
    known = Facts(fleet=fleet, databases=(coordinator,), targets="shop:services", transport="kafka://a:1")
    mends = {found.code: found.mend for found in diagnose(known)}
    assert mends == {
        Code.REPLICAS_DIFFER: "saga check shop:services --live --store sqlite:///c.db",
        Code.SERVICE_ABSENT: "saga run 'MODULE:<the attribute of rooms>'",
    }
    own = replace(known, runs={"rooms": "shop:rooms"})
    assert Code.SERVICE_ABSENT in {found.code for found in diagnose(own) if found.mend == "saga run shop:rooms"}
    gone = replace(own, fleet=replace(fleet, silent=("desk", "rooms")), runs={"rooms": "shop:rooms"})
    (found,) = (found for found in diagnose(gone) if found.code is Code.SERVICE_ABSENT)
    assert found.mend == "saga run 'MODULE:<the attribute of desk>'; saga run shop:rooms"
    unknown = {found.code: found.mend for found in diagnose(Facts(fleet=fleet))}
    assert unknown[Code.REPLICAS_DIFFER] == "saga check TARGET --live --store URL"


def test_the_worst_comes_first_and_nothing_twice() -> None:
    away = DatabaseFacts(name="a", store="a", file=FileFacts(path="/x", journal_mode="delete"))
    found = diagnose(Facts(databases=(away, away)))
    assert [one.severity for one in found] == [Severity.WRONG, Severity.RISK]


# --- several databases -----------------------------------------------------------------------------------------


def test_each_database_of_the_settings_is_looked_at_and_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    ends("sqlite:///services.db")
    monkeypatch.setenv("SAGA_STORE", "sqlite:///one.db")
    monkeypatch.setenv("SAGA_SERVICE_STORES", "sqlite:///services.db sqlite:///typo.db sqlite:///services.db")
    said = without_store("doctor", "--json")
    where = {line["code"]: line["where"] for line in said.lines}
    assert said.code == 3
    assert where["sagas-stuck"] == f"sqlite:///{folder / 'one.db'}"
    assert where["on-end-fails"] == f"sqlite:///{folder / 'services.db'}"
    assert where["database-away"] == f"sqlite:///{folder / 'typo.db'}"
    assert len([line for line in said.lines if line["code"] == "on-end-fails"]) == 1
    named = saga("doctor", "--json", store="sqlite:///one.db")
    assert {line["where"] for line in named.lines} == {f"sqlite:///{folder / 'one.db'}"}, "what is named goes before"


def test_databases_that_differ_by_schema_or_user_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    there = "postgresql+asyncpg://ann:secret@127.0.0.1:1/shop"
    stores = [f"{there}?schema=orders", f"{there}?schema=stock", "postgresql://bob@127.0.0.1:1/shop"]
    monkeypatch.setenv("SAGA_SERVICE_STORES", " ".join([*stores, "postgresql://ann@127.0.0.1:1/other?schema=x"]))
    said = without_store("doctor", "--json")
    assert [line["where"] for line in said.lines] == [
        "postgresql://ann@127.0.0.1:1/shop?schema=orders",
        "postgresql://ann@127.0.0.1:1/shop?schema=stock",
        "postgresql://bob@127.0.0.1:1/shop",
        "postgresql://127.0.0.1:1/other",
    ]
    assert "secret" not in said.out


def test_a_command_names_a_service_database_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_SERVICE_STORES", "postgresql://ann:secret@db/orders postgresql://ann:secret@db/stock")
    assert store_word("postgresql://ann:secret@db/stock") == "'postgresql://ann:***@db/stock'"


def test_a_service_database_that_cannot_be_one_is_said_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_SERVICE_STORES", "sqlite:///a.db,sqlite:///b.db mysql://x")
    said = saga("doctor", store="sqlite:///one.db")
    assert (said.code, "SAGA_SERVICE_STORES: a database URL with scheme 'mysql'" in said.err) == (2, True)


# --- used wrongly ----------------------------------------------------------------------------------------------


def test_what_is_used_wrongly_exits_2(monkeypatch: pytest.MonkeyPatch) -> None:
    said = without_store("doctor")
    assert (said.code, "--store" in said.err) == (2, True)
    assert without_store("doctor", "--store", "mysql://x").code == 2
    assert without_store("doctor", "nowhere:services", "--store", "sqlite:///x.db").code == 2
    monkeypatch.setenv("SAGA_STORE", "sqlite:///new.db")
    assert saga("db", "upgrade", "--for", "both", store="sqlite:///new.db").code == 0
    assert without_store("doctor").code == 0


def test_limits_are_set_by_name() -> None:
    assert limits_of(["outbox_seconds=5", "dead_rows=1e3"]) == Limits(outbox_seconds=5.0, dead_rows=1000.0)
    with pytest.raises(SettingsError, match="write NAME=NUMBER"):
        limits_of(["outbox=5"])
    assert timedelta(seconds=Limits().outbox_seconds) == timedelta(minutes=1)


def test_each_service_has_a_target_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(folder), *sys.path])
    code = "from saga import Service\nrooms = Service('rooms')\nservices = [rooms, Service('desk')]\n"
    (folder / "one_by_one.py").write_text(code)
    assert runs_at(["one_by_one:services", "plans.json"]) == {
        "rooms": "one_by_one:rooms",
        "desk": "'one_by_one:<the attribute of desk>'",
    }
