"""Turn a transport URL into a transport; aiokafka is imported only when a `kafka://` URL asks for it."""

from __future__ import annotations

import importlib.util
import os
import re
from typing import TYPE_CHECKING

from saga.errors import SettingsError
from saga.ports import Transport
from saga.ports.brokers import Broker
from transports.memory import MemoryTransport
from transports.prefixed import PrefixedTransport

if TYPE_CHECKING:
    from transports.kafka import KafkaSettings

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_PREFIX = re.compile(r"prefix=([A-Za-z0-9._-]{1,60})")
_ACCEPTED = "use memory:// or kafka://host:port[,host:port]"
_MAX_PORT = 65535


def open_transport(url: str, *, settings: KafkaSettings | None = None) -> Transport:
    """Build the transport a URL names, without connecting.

    `?prefix=staging.` goes before every topic and group, so that fleets can share a broker. Every other field of
    KafkaSettings but the secrets may stand in the query and goes over `settings`; a password comes from
    `password_file=` or SAGA_KAFKA_PASSWORD. Raises SettingsError for another scheme, a malformed address or
    query, settings without Kafka, or a missing `[kafka]` extra.
    """
    check_transport(url)
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        if settings is not None:
            raise SettingsError("Kafka settings were given with memory://; leave them out or use kafka://host:port")
        return MemoryTransport()
    address, _, query = rest.partition("?")
    prefix, others = _prefix(query)
    transport = _kafka(address, others, settings)
    return PrefixedTransport(transport, prefix) if prefix else transport


def open_broker(url: str, *, settings: KafkaSettings | None = None) -> Broker:
    """Build what a person looks at a broker with, without connecting; see `open_transport`.

    Raises SettingsError for memory://, which nobody else can look into.
    """
    check_transport(url)
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        raise SettingsError("memory:// lives in the process that opened it: name a kafka://host:port")
    address, _, query = rest.partition("?")
    prefix, others = _prefix(query)
    _check_kafka()
    from transports.kafka import settings_of  # noqa: PLC0415 - the core install has no aiokafka
    from transports.kafka.looking import KafkaBroker  # noqa: PLC0415 - as above

    return KafkaBroker(address, prefix=prefix, settings=settings_of(others, settings, os.environ))


def check_transport(url: str) -> None:
    """Raise SettingsError for another scheme, a malformed address or prefix; looks at nothing but the text."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "memory":
        if rest:
            raise SettingsError(f"memory:// takes no address, got {_shown(rest)!r} behind it; {_ACCEPTED}")
        return
    if separator and scheme == "kafka":
        address, _, query = rest.partition("?")
        _check_addresses(address)
        _prefix(query)
        return
    found = f"scheme {scheme!r}" if separator else "no scheme"
    raise SettingsError(f"a transport URL with {found} cannot be used; {_ACCEPTED}")


def _prefix(query: str) -> tuple[str, str]:
    """Return the prefix in a query, "" without one, and the rest of the query."""
    words = query.split("&") if query else []
    given = [word for word in words if word.startswith("prefix=")]
    if not given:
        return "", query
    match = _PREFIX.fullmatch(given[0])
    if match is None or len(given) > 1:
        raise SettingsError(
            f"a kafka:// URL takes one ?prefix=, got {_shown('&'.join(given))!r}: "
            "write such as kafka://host:port?prefix=staging. (letters, digits, '.', '_' and '-')"
        )
    return match[1], "&".join(word for word in words if word not in given)


def _check_addresses(rest: str) -> None:
    if "@" in rest:
        raise SettingsError(
            "a kafka:// URL carries no user or password before its host: write ?user=…&password_file=…, "
            "or set SAGA_KAFKA_PASSWORD"
        )
    for address in rest.split(","):
        match = _HOST.fullmatch(address)
        if match is None or not 0 < int(match[2]) <= _MAX_PORT:
            raise SettingsError(f"kafka:// needs host:port, got {_shown(address)!r}; {_ACCEPTED}")


def _kafka(bootstrap: str, query: str, settings: KafkaSettings | None) -> Transport:
    _check_kafka()
    from transports.kafka import KafkaTransport, settings_of  # noqa: PLC0415 - the core install has no aiokafka

    return KafkaTransport(bootstrap, settings=settings_of(query, settings, os.environ))


def _check_kafka() -> None:
    if importlib.util.find_spec("aiokafka") is None:
        raise SettingsError("kafka:// needs the extra [kafka]: pip install 'saga-choreography[kafka]'")


def _shown(text: str) -> str:
    return text.rpartition("@")[2][:60]
