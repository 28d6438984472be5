from __future__ import annotations

import logging

import pytest

from saga._core.envelope import Message
from saga.errors import SettingsError, TransportRefused, TransportUnavailable
from saga.ports import Cleanup, TopicPartition, TopicSpec
from transports.kafka.logs import Quieter
from transports.kafka.publisher import record_bytes
from transports.kafka.settings import KafkaSettings, Security, instance_id
from transports.kafka.topics import creation, problems
from transports.kafka.watchdog import Watch, observe, stalled

ONE = TopicPartition(topic="t", partition=0)


def test_a_position_that_stands_still_with_lag_is_stalled() -> None:
    watch: Watch = {}
    for now in (0.0, 10.0, 20.0):
        watch = observe(watch, {ONE: 5}, {ONE: 9}, now)
        assert stalled(watch, now, 30.0) == frozenset()
    assert stalled(observe(watch, {ONE: 5}, {ONE: 12}, 30.0), 30.0, 30.0) == {ONE}


@pytest.mark.parametrize(("position", "end"), [(9, 9), (6, 9), (12, 9)])
def test_a_position_that_moved_or_has_no_lag_is_not_stalled(position: int, end: int) -> None:
    watch = observe({}, {ONE: 5}, {ONE: 9}, 0.0)
    assert stalled(observe(watch, {ONE: position}, {ONE: end}, 99.0), 99.0, 30.0) == frozenset()


def test_a_partition_that_never_gets_a_position_is_stalled_even_if_empty() -> None:
    watch = observe({}, {ONE: None}, {ONE: 0}, 0.0)
    assert stalled(observe(watch, {ONE: None}, {ONE: 0}, 30.0), 30.0, 30.0) == {ONE}


def test_a_partition_that_went_away_is_forgotten() -> None:
    assert observe(observe({}, {ONE: 5}, {ONE: 9}, 0.0), {}, {}, 1.0) == {}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("[Error 58] SaslAuthenticationFailed: Authentication failed", TransportRefused),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", TransportRefused),
        ("[Errno 111] Connect call failed ('127.0.0.1', 1)", TransportUnavailable),
    ],
)
def test_the_real_reason_decides(reason: str, kind: type[Exception]) -> None:
    error = failure("cannot connect", [reason])
    assert type(error) is kind
    assert str(error) == f"cannot connect: {reason}"


def test_the_log_is_overheard_and_quieted() -> None:
    now = [0.0]
    quieter = Quieter(10.0, lambda: now[0])

    def record(argument: str) -> logging.LogRecord:
        return logging.LogRecord("aiokafka", logging.ERROR, "", 1, "Unable to %s", (argument,), None)

    with overheard() as reasons:
        assert quieter.filter(record("a"))
        assert not quieter.filter(record("b"))
    now[0] = 10.0
    later = record("c")
    assert quieter.filter(later)
    assert later.getMessage() == "Unable to c (1 more like it)"
    assert reasons == ["Unable to a", "Unable to b"]


def test_passwords_do_not_show() -> None:
    settings = KafkaSettings(security=Security.SASL_SSL, user="me", password="hunter2", key_password="hunter3")
    assert "hunter" not in repr(settings)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(SettingsError, match="user and password"):
        KafkaSettings(security=Security.SASL_SSL)
    with pytest.raises(SettingsError, match="heartbeat_seconds"):
        KafkaSettings(heartbeat_seconds=50.0)
    with pytest.raises(SettingsError, match="TLS files"):
        KafkaSettings(security=Security.SSL, ca_file="/does/not/exist").ssl_context()
    with pytest.raises(SettingsError, match="slot"):
        instance_id("g", "a b", ())


def test_topics_that_cannot_serve_are_named_with_found_and_wanted() -> None:
    specs = [TopicSpec(name="a", partitions=3), TopicSpec(name="b", partitions=1, cleanup=Cleanup.COMPACT)]
    assert problems(specs, {"a": 2, "b": 1}, {"a": "delete", "b": "compact,delete"}) == [
        "topic 'a': partitions is 2, wanted at least 3",
        "topic 'b': cleanup.policy is compact,delete, wanted compact",
    ]
    assert problems(specs, {"a": 4}, {"a": "delete"}) == []


def test_creation_says_cleanup_and_retention() -> None:
    spec = TopicSpec(name="a", partitions=3, retention_seconds=1.5)
    assert creation(spec) == (3, {"cleanup.policy": "delete", "retention.ms": "1500"})


def test_record_bytes_is_an_upper_bound() -> None:
    assert record_bytes(Message(topic="t", key=b"k", value=None)) >= 61 + 21 + 1


def test_a_member_with_other_topics_is_another_member() -> None:
    assert instance_id("g", "0", ("a", "b")) == instance_id("g", "0", ("b", "a"))
    assert instance_id("g", "0", ("a", "b")) != instance_id("g", "0", ("a", "b", "c"))
