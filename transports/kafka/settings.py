"""Hold the settings of the Kafka transport; passwords never show."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any

from saga.errors import SettingsError


class Security(StrEnum):
    """Name Kafka's listener security protocols."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    """Name the SASL mechanisms in use."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Say how to connect and how long to wait; the defaults outlast the crash of one broker of three (12 s).

    `password_file` is read anew for each connection, so a rotated password is taken up without a restart.
    `replication_factor` is for topics that are created; 0 leaves it to the broker.
    """

    security: Security = Security.PLAINTEXT
    mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    user: str = ""
    password: str = field(default="", repr=False)
    password_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    key_password: str = field(default="", repr=False)
    key_password_file: str = ""
    client_id: str = "saga"
    replication_factor: int = 0
    connect_timeout_seconds: float = 10.0
    publish_timeout_seconds: float = 30.0
    commit_timeout_seconds: float = 10.0
    query_timeout_seconds: float = 10.0
    join_timeout_seconds: float = 70.0
    close_timeout_seconds: float = 5.0
    session_seconds: float = 45.0
    heartbeat_seconds: float = 3.0
    rebalance_seconds: float = 60.0
    callback_seconds: float = 30.0
    max_message_bytes: int = 1_048_576
    batch_bytes: int = 262_144
    partition_fetch_bytes: int = 1_048_576
    fetch_bytes: int = 8_388_608
    stalled_after_seconds: float = 30.0

    def __post_init__(self) -> None:
        self._check_security()
        if not self.heartbeat_seconds < self.session_seconds or not self.callback_seconds < self.rebalance_seconds:
            raise SettingsError(
                "heartbeat_seconds must be below session_seconds, callback_seconds below rebalance_seconds"
            )
        if self.partition_fetch_bytes < self.max_message_bytes:
            raise SettingsError("partition_fetch_bytes must be at least max_message_bytes")

    def _check_security(self) -> None:
        for name in ("password", "key_password"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise SettingsError(f"{name} and {name}_file were both given for Kafka; give one of them")
        if self.with_password and not (self.user and (self.password or self.password_file)):
            raise SettingsError(f"{self.security} needs user and password (or password_file) in KafkaSettings")
        if self.user and not self.with_password:
            raise SettingsError(f"user {self.user!r} was given but security is {self.security}; set SASL_SSL")
        if not self.with_tls and (self.ca_file or self.certificate_file):
            raise SettingsError(f"TLS files were given but security is {self.security}; set SSL or SASL_SSL")

    @property
    def with_tls(self) -> bool:
        """Return whether the connection is encrypted."""
        return self.security in {Security.SSL, Security.SASL_SSL}

    @property
    def with_password(self) -> bool:
        """Return whether a user and a password are sent."""
        return self.security in {Security.SASL_PLAINTEXT, Security.SASL_SSL}

    def present_password(self) -> str:
        """Return the password as it is now; raises SettingsError when its file cannot be read or is empty."""
        return _present("password_file", self.password_file) if self.password_file else self.password

    def present_key_password(self) -> str:
        """Return the password of the key's file as it is now, as `present_password` does."""
        given = self.key_password_file
        return _present("key_password_file", given) if given else self.key_password

    def ssl_context(self) -> ssl.SSLContext | None:
        """Build the TLS context, None without TLS; host names and certificates are always checked."""
        if not self.with_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.certificate_file:
                password = self.present_key_password() or None
                context.load_cert_chain(self.certificate_file, self.key_file or None, password)
        except OSError as error:
            raise SettingsError(f"the TLS files in KafkaSettings cannot be used: {error}") from error
        return context


def _present(name: str, path: str) -> str:
    try:
        found = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name} {path!r} cannot be read: {error}") from error
    if not found:
        raise SettingsError(f"{name} {path!r} is empty")
    return found


def instance_id(group: str, slot: str, topics: Sequence[str]) -> str:
    """Return the static member's `group.instance.id`; raises SettingsError for what Kafka would refuse.

    It depends on the topics: a broker hands a returning static member its old assignment without asking
    what it subscribes to now (KIP-345), so a member with other topics has to be another member.
    """
    made = f"{group}-{slot}-{blake2b(','.join(sorted(topics)).encode(), digest_size=4).hexdigest()}"
    if not slot or not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", made):
        raise SettingsError(f"group and slot must be letters, digits, dot, dash or underscore, got {made!r}")
    return made


def connection(bootstrap: str, settings: KafkaSettings) -> dict[str, Any]:
    """Return the client library's connection arguments."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": bootstrap,
        "client_id": settings.client_id,
        "security_protocol": settings.security.value,
        "ssl_context": settings.ssl_context(),
        "request_timeout_ms": int(settings.query_timeout_seconds * 1000),
    }
    if settings.with_password:
        arguments["sasl_mechanism"] = settings.mechanism.value
        arguments["sasl_plain_username"] = settings.user
        arguments["sasl_plain_password"] = settings.present_password()
    return arguments
