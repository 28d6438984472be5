from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from saga.errors import SettingsError
from transports import MemoryTransport, open_transport
from transports.kafka import KafkaSettings, KafkaTransport, Mechanism, Security


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


def shown(url: str, settings: KafkaSettings | None = None) -> KafkaSettings:
    """Return the settings a URL is opened with."""
    transport = open_transport(url, settings=settings)
    assert isinstance(transport, KafkaTransport)
    found = vars(transport)["_settings"]
    assert isinstance(found, KafkaSettings)
    return found


def test_every_setting_but_the_secrets_may_stand_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_KAFKA_PASSWORD", "hunter2")
    monkeypatch.setenv("SAGA_KAFKA_KEY_PASSWORD", "hunter3")
    query = "security=sasl_ssl&mechanism=scram-sha-256&user=me&ca_file=/a%20b&replication_factor=3&session_seconds=9.5"
    base = KafkaSettings(client_id="mine")
    assert shown(f"kafka://a:1?{query}", base) == KafkaSettings(
        security=Security.SASL_SSL,
        mechanism=Mechanism.SCRAM_SHA_256,
        user="me",
        password="hunter2",
        ca_file="/a b",
        replication_factor=3,
        session_seconds=9.5,
        client_id="mine",
    )
    assert shown("kafka://a:1?certificate_file=c").key_password == "hunter3"
    assert "hunter" not in repr(open_transport(f"kafka://a:1?{query}"))


def test_a_user_or_a_certificate_means_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_KAFKA_PASSWORD", "hunter2")
    assert shown("kafka://a:1?user=me").security is Security.SASL_SSL
    assert shown("kafka://a:1?ca_file=x").security is Security.SSL
    assert shown("kafka://a:1?user=me&password_file=f").password == ""
    assert shown("kafka://a:1").security is Security.PLAINTEXT


def test_passwords_come_from_files_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("hunter2\n")
    (tmp_path / "two").write_text("hunter3\n")
    monkeypatch.setenv("SAGA_KAFKA_PASSWORD_FILE", str(tmp_path / "one"))
    monkeypatch.setenv("SAGA_KAFKA_KEY_PASSWORD_FILE", str(tmp_path / "two"))
    found = shown("kafka://a:1?user=me&certificate_file=c")
    assert (found.present_password(), found.present_key_password()) == ("hunter2", "hunter3")
    assert shown("kafka://a:1?user=me&password_file=f").password_file == "f"
    assert shown("kafka://a:1").password_file == ""
    monkeypatch.setenv("SAGA_KAFKA_PASSWORD", "hunter2")
    with pytest.raises(SettingsError, match="SAGA_KAFKA_PASSWORD and SAGA_KAFKA_PASSWORD_FILE are both set"):
        shown("kafka://a:1?user=me")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("password=hunter2", "carries no secrets: leave password= out and set password_file= or SAGA_KAFKA_PASSWORD"),
        ("key_password=hunter2", "SAGA_KAFKA_KEY_PASSWORD"),
        ("passwort=hunter2", "takes no 'passwort'; known are prefix, batch_bytes"),
        ("session_seconds=long", "session_seconds='long' .* wanted is a number"),
        ("replication_factor=1.5", "wanted is a whole number"),
        ("security=ssh", "wanted is PLAINTEXT, SSL"),
        ("user=a&user=b", "user= stands twice"),
        ("prefix=a&prefix=b", "one .prefix="),
        ("prefix=a%20b", "one .prefix="),
        ("security=sasl_ssl&user=me", "needs user and password"),
    ],
)
def test_a_query_that_cannot_be_used_says_what_could(query: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        open_transport(f"kafka://a:1?{query}")
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
