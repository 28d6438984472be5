from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace

import aiokafka
import pytest

from saga._core.envelope import Message
from saga.errors import SettingsError, TransportRefused, TransportUnavailable
from saga.ports import Cleanup, TopicPartition, TopicSpec
from transports.kafka import logs
from transports.kafka.library import CONNECTIONS
from transports.kafka.logs import LOGGERS, Quieter
from transports.kafka.probe import Probe
from transports.kafka.publisher import record_bytes
from transports.kafka.reasons import explained
from transports.kafka.settings import KafkaSettings, Security, instance_id
from transports.kafka.sharing import noted, outgrown
from transports.kafka.topics import TopicFound, Weight, creation, findings
from transports.kafka.watchdog import Seat, Watch, observe, seated, stalled

pytestmark = pytest.mark.anyio

ONE = TopicPartition(topic="t", partition=0)


def certificate(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


def test_a_position_that_stands_still_with_lag_is_stalled() -> None:
    watch: Watch = {}
    for now in (0.0, 10.0, 20.0):
        watch = observe(watch, {ONE: 5}, {ONE: 9}, now)
        assert stalled(watch, now, 30.0) == frozenset()
    assert stalled(observe(watch, {ONE: 5}, {ONE: 12}, 30.0), 30.0, 30.0) == {ONE}


def test_a_place_that_is_taken_again_and_again_is_contested() -> None:
    seat = Seat()
    for generation in (1, 2, 3, 3, 4, 4):  # rebalances, and two accidents
        seat = seated(seat, generation, 0.0, 90.0)
    assert not seat.contested
    assert seated(seat, 4, 1.0, 90.0).contested
    assert not seated(seat, 4, 90.0, 90.0).contested


@pytest.mark.parametrize(("position", "end"), [(9, 9), (6, 9), (12, 9)])
def test_a_position_that_moved_or_has_no_lag_is_not_stalled(position: int, end: int) -> None:
    watch = observe({}, {ONE: 5}, {ONE: 9}, 0.0)
    assert stalled(observe(watch, {ONE: position}, {ONE: end}, 99.0), 99.0, 30.0) == frozenset()


def test_a_partition_that_never_gets_a_position_is_stalled_even_if_empty() -> None:
    watch = observe({}, {ONE: None}, {ONE: 0}, 0.0)
    assert stalled(observe(watch, {ONE: None}, {ONE: 0}, 30.0), 30.0, 30.0) == {ONE}


def test_a_partition_that_went_away_is_forgotten() -> None:
    assert observe(observe({}, {ONE: 5}, {ONE: 9}, 0.0), {}, {}, 1.0) == {}


def record(argument: object, level: int = logging.ERROR, template: str = "Unable to %s") -> logging.LogRecord:
    return logging.LogRecord("aiokafka", level, "", 1, template, (argument,), None)


def test_the_log_is_quieted() -> None:
    now = [0.0]
    quieter = Quieter(10.0, lambda: now[0])
    assert quieter.filter(record("a"))
    assert not quieter.filter(record("b"))
    now[0] = 10.0
    later = record("c")
    assert quieter.filter(later)
    assert later.getMessage() == "Unable to c (1 more like it)"


def test_what_only_a_broker_that_has_just_started_says_is_held_back_at_first() -> None:
    now = [0.0]
    quieter = Quieter(10.0, lambda: now[0])
    starting = "Group Coordinator Request failed: %s"
    assert not quieter.filter(record("GroupCoordinatorNotAvailable", template=starting))
    now[0] = 9.0
    assert not quieter.filter(record("GroupCoordinatorNotAvailable", template=starting))
    now[0] = 10.0
    assert quieter.filter(record("GroupCoordinatorNotAvailable", template=starting))


def test_the_library_is_heard_from_warnings_on_unless_its_level_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transports.kafka.logs.LOGGERS", ())
    library = logging.getLogger("aiokafka")
    before = library.level
    try:
        for given, kept in ((logging.NOTSET, logging.WARNING), (logging.DEBUG, logging.DEBUG)):
            library.setLevel(given)
            monkeypatch.setattr("transports.kafka.logs._installed", [])
            logs.install()
            assert library.level == kept
    finally:
        library.setLevel(before)


def test_the_memory_of_the_log_is_bounded() -> None:
    quieter = Quieter(10.0, lambda: 0.0)
    for number in range(1000):
        quieter.filter(record("a", template=f"{number} %s"))
    assert len(vars(quieter)["_last"]) <= 200


def test_what_is_sent_to_log_in_is_never_logged() -> None:
    class SaslAuthenticateRequest:
        pass

    assert not Quieter().filter(record(SaslAuthenticateRequest(), logging.DEBUG))
    assert Quieter().filter(record("metadata", logging.DEBUG))


def test_every_logger_of_the_library_is_quieted() -> None:
    root = Path(aiokafka.__file__).parent
    found: set[str] = set()
    for file in root.rglob("*.py"):
        if match := re.search(r"getLogger\((.*)\)", file.read_text()):
            name = ".".join(("aiokafka", *file.relative_to(root).with_suffix("").parts))
            found.add(name if match[1] == "__name__" else match[1].strip("\"'"))
    unused = {name for name in found if ".assignors." in name and not name.endswith("roundrobin")}
    assert found - unused <= set(LOGGERS)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (ConnectionRefusedError(111, "refused"), TransportUnavailable, "nothing listens at b:1"),
        (TimeoutError(), TransportUnavailable, "b:1 does not answer"),
        (ConnectionResetError(104, "reset"), TransportUnavailable, "b:1 closed the connection"),
        (OSError(113, "No route to host"), TransportUnavailable, "No route to host"),
        (asyncio.IncompleteReadError(b"", 0x15030300), TransportRefused, "b:1 speaks TLS, the client does not"),
        (asyncio.IncompleteReadError(b"", 0x48545450), TransportRefused, "b:1 is a web server"),
        (asyncio.IncompleteReadError(b"", 4), TransportUnavailable, "b:1 closed the connection"),
        (certificate(10, "certificate has expired"), TransportRefused, "b:1 is out of its time"),
        (certificate(64, "IP address mismatch"), TransportRefused, "b:1 is not for this host name"),
        (certificate(19, "self-signed"), TransportRefused, "b:1 is not trusted by this machine's authorities"),
    ],
)
def test_a_failed_connection_is_explained(error: Exception, kind: type[Exception], told: str) -> None:
    found = explained("b:1", error, KafkaSettings())
    assert type(found) is kind
    assert told in str(found)


def test_passwords_do_not_show() -> None:
    settings = KafkaSettings(security=Security.SASL_SSL, user="me", password="hunter2", key_password="hunter3")
    assert "hunter" not in repr(settings)


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="user and password"):
        KafkaSettings(security=Security.SASL_SSL)
    with pytest.raises(SettingsError, match="password and password_file"):
        KafkaSettings(security=Security.SASL_SSL, user="me", password="x", password_file="y")
    with pytest.raises(SettingsError, match="user 'me' was given but security is PLAINTEXT"):
        KafkaSettings(user="me")
    with pytest.raises(SettingsError, match="TLS files were given but security is SASL_PLAINTEXT"):
        KafkaSettings(security=Security.SASL_PLAINTEXT, user="me", password="x", ca_file="y")
    (tmp_path / "empty").write_text("\n")
    for name, told in (("empty", "is empty"), ("absent", "cannot be read")):
        settings = KafkaSettings(security=Security.SASL_SSL, user="me", password_file=str(tmp_path / name))
        with pytest.raises(SettingsError, match=told):
            settings.present_password()
    with pytest.raises(SettingsError, match="heartbeat_seconds"):
        KafkaSettings(heartbeat_seconds=50.0)
    with pytest.raises(SettingsError, match="TLS files"):
        KafkaSettings(security=Security.SSL, ca_file="/does/not/exist").ssl_context()
    with pytest.raises(SettingsError, match="slot"):
        instance_id("g", "a b", ())


SPEC = TopicSpec(name="a", partitions=3)
SOUND = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "min.insync.replicas": "2",
    "max.message.bytes": "1048588",
}


def judged(spec: TopicSpec = SPEC, **changed: str | int | None) -> list[tuple[Weight, str]]:
    """Return what is found about a sound topic on three brokers, but for what is changed."""
    shape = {"partitions": 3, "replicas": 3, "in_sync": 3} | {k: v for k, v in changed.items() if isinstance(v, int)}
    settings = SOUND | {k.replace("_", "."): v for k, v in changed.items() if isinstance(v, str)}
    found = TopicFound(**shape, settings=None if "settings" in changed else settings)
    return [(one.weight, one.text) for one in findings("b:1", [spec], {"a": found}, 3, KafkaSettings())]


def test_a_sound_topic_is_fine_and_so_is_one_with_more_partitions() -> None:
    assert judged() == []
    assert judged(partitions=9) == []
    assert judged(retention_ms="-1") == []
    assert judged(TopicSpec(name="a", partitions=3, retention_seconds=604_800.0)) == []
    assert judged(TopicSpec(name="a", partitions=3, cleanup=Cleanup.COMPACT), cleanup_policy="compact") == []


@pytest.mark.parametrize(
    ("weight", "changed", "told"),
    [
        (Weight.REFUSED, {"partitions": 2}, "partitions is 2, wanted at least 3; run kafka-topics"),
        (Weight.REFUSED, {"cleanup_policy": "compact,delete"}, "cleanup.policy is compact,delete, wanted delete"),
        (Weight.REFUSED, {"max_message_bytes": "1000012"}, "max.message.bytes is 1000012, wanted at least 1048576"),
        (Weight.REFUSED, {"replicas": 1, "in_sync": 1}, "min.insync.replicas is 2, wanted at most 1: there are 1 repl"),
        (Weight.UNAVAILABLE, {"in_sync": 1}, "min.insync.replicas is 2, wanted at most 1 for the moment: 1 of 3 repl"),
        (Weight.WARNING, {"min_insync_replicas": "1"}, "min.insync.replicas is 1, wanted 2: an event that one broker"),
        (Weight.WARNING, {"min_insync_replicas": "3"}, "min.insync.replicas is 3, wanted 2: the crash of one broker"),
        (Weight.WARNING, {"retention_ms": "3600000"}, "retention.ms is 3600000, wanted at least 86400000: a reader"),
        (Weight.WARNING, {"retention_bytes": "1000"}, "retention.bytes is 1000, wanted -1: events go"),
        (Weight.WARNING, {"settings": None}, "its settings cannot be checked; grant DescribeConfigs"),
    ],
)
def test_what_is_wrong_with_a_topic_is_told_with_what_mends_it(
    weight: Weight, changed: dict[str, str | int | None], told: str
) -> None:
    found = judged(SPEC, **changed)
    assert any(each is weight and told in text for each, text in found), found
    setting = next((key.replace("_", ".") for key, value in changed.items() if isinstance(value, str)), None)
    if setting is not None:
        assert "run kafka-configs --bootstrap-server b:1 --alter --entity-type topics --entity-name a" in found[0][1]
        assert f"--add-config {setting}=" in found[0][1]


async def test_an_address_that_only_the_broker_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Link:
        async def send(self, _: object) -> object:
            return SimpleNamespace(brokers=[(1, "inside", 9092, None)])

        async def close(self) -> None:
            return None

    async def connect(host: str, *_: object, **__: object) -> Link:
        if host == "inside":
            raise socket.gaierror(-2, "Name or service not known")
        return Link()

    monkeypatch.setattr(CONNECTIONS, "create_conn", connect)
    found = await Probe("outside:9092", KafkaSettings()).why()
    assert isinstance(found, TransportUnavailable)
    assert "a broker, found through outside:9092, calls itself inside:9092: the host name of inside:9092" in str(found)
    assert "change advertised.listeners" in str(found)


def test_a_single_copy_on_many_brokers_is_a_risk() -> None:
    (only,) = judged(replicas=1, in_sync=1, min_insync_replicas="1")
    assert only[0] is Weight.WARNING
    assert "replication factor is 1 on 3 brokers" in only[1]


def test_a_retention_that_was_asked_for_is_a_must() -> None:
    spec = TopicSpec(name="a", partitions=3, retention_seconds=864_000.0)
    assert [weight for weight, _ in judged(spec)] == [Weight.REFUSED]


def test_creation_says_cleanup_retention_and_copies() -> None:
    spec = TopicSpec(name="a", partitions=3, retention_seconds=1.5)
    assert creation(spec, 0) == (3, {"cleanup.policy": "delete", "retention.ms": "1500"})
    assert creation(spec, 3)[1]["min.insync.replicas"] == "2"


def test_record_bytes_is_an_upper_bound() -> None:
    assert record_bytes(Message(topic="t", key=b"k", value=None)) >= 61 + 21 + 1


def test_a_member_with_other_topics_is_another_member() -> None:
    assert instance_id("g", "0", ("a", "b")) == instance_id("g", "0", ("b", "a"))
    assert instance_id("g", "0", ("a", "b")) != instance_id("g", "0", ("a", "b", "c"))


def test_a_topic_has_outgrown_what_was_shared_out() -> None:
    shared = {"a": 4, "b": 2, "gone": 3}
    assert outgrown(shared, {"a": 4, "b": 2, "gone": 0}) == frozenset()
    assert outgrown(shared, {"a": 5, "b": 1, "new": 1}) == {"a", "b", "new"}
    assert outgrown(None, {"a": 4}) == frozenset()  # the leader is another client


@pytest.mark.parametrize("note", [None, b"", b"3", b"\x00\xff", b"[1]"])
def test_a_note_of_another_client_says_nothing(note: bytes | None) -> None:
    assert noted(note) is None
    assert noted(b'{"a": 4}') == {"a": 4}
