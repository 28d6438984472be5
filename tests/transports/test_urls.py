from __future__ import annotations

import importlib.util

import pytest

from saga.errors import SettingsError
from transports import MemoryTransport, open_transport
from transports.kafka import KafkaSettings, KafkaTransport


def test_memory() -> None:
    assert isinstance(open_transport("memory://"), MemoryTransport)


@pytest.mark.parametrize("url", ["kafka://localhost:9092", "kafka://a:1,b-2.example:65535", "kafka://[::1]:9092"])
def test_kafka(url: str) -> None:
    transport = open_transport(url, settings=KafkaSettings(client_id="me"))
    assert isinstance(transport, KafkaTransport)
    assert url.removeprefix("kafka://") in repr(transport)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "no scheme"),
        ("localhost:9092", "no scheme"),
        ("redis://localhost:1", "scheme 'redis'"),
        ("memory://here", "memory:// takes no address"),
        ("kafka://", "needs host:port"),
        ("kafka://localhost", "needs host:port"),
        ("kafka://localhost:0", "needs host:port"),
        ("kafka://localhost:99999", "needs host:port"),
        ("kafka://a:1,", "needs host:port"),
        ("kafka://me:hunter2@a:1", "no user or password"),
    ],
)
def test_refuses_with_what_would_be_accepted(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        open_transport(url)
    assert "hunter2" not in str(caught.value)


def test_settings_do_not_fit_memory() -> None:
    with pytest.raises(SettingsError, match="leave them out"):
        open_transport("memory://", settings=KafkaSettings())


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        assert name == "aiokafka"

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(SettingsError, match=r"extra \[kafka\]"):
        open_transport("kafka://a:1")
