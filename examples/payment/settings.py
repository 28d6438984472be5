"""Read the environment; every name the example knows is here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

NAMES = {
    "SAGA_KAFKA_URL": "kafka://127.0.0.1:9092",
    "SAGA_POSTGRES_URL": "postgresql://postgres@127.0.0.1:5432/postgres",
    "SAGA_DATABASE_URL": "",
    "SAGA_SLOT": "0",
    "SAGA_HEARTBEAT_FILE": "",
    "ORDERS_URL": "http://127.0.0.1:8901",
    "ORDERS_HOST": "127.0.0.1",
    "ORDERS_PORT": "8901",
    "GATEWAY_URL": "http://127.0.0.1:8900",
    "GATEWAY_HOST": "127.0.0.1",
    "GATEWAY_PORT": "8900",
    "GATEWAY_FILE": "gateway.db",
}
"""Every variable and its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Hold what one process needs to know.

    `postgres_url` is any database of the server on which every service has one of its own name;
    `database_url` names the one database of this process outright.
    """

    kafka_url: str
    postgres_url: str
    database_url: str
    slot: str
    heartbeat_file: str
    orders_url: str
    orders_host: str
    orders_port: int
    gateway_url: str
    gateway_host: str
    gateway_port: int
    gateway_file: str

    def database(self, name: str) -> str:
        """Return the URL of a service's own database."""
        if self.database_url:
            return self.database_url
        return urlunsplit(urlsplit(self.postgres_url)._replace(path=f"/{name}"))


def settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings of this process."""

    def read(name: str) -> str:
        return environment.get(name) or NAMES[name]

    return Settings(
        kafka_url=read("SAGA_KAFKA_URL"),
        postgres_url=read("SAGA_POSTGRES_URL"),
        database_url=read("SAGA_DATABASE_URL"),
        slot=read("SAGA_SLOT"),
        heartbeat_file=read("SAGA_HEARTBEAT_FILE"),
        orders_url=read("ORDERS_URL"),
        orders_host=read("ORDERS_HOST"),
        orders_port=int(read("ORDERS_PORT")),
        gateway_url=read("GATEWAY_URL"),
        gateway_host=read("GATEWAY_HOST"),
        gateway_port=int(read("GATEWAY_PORT")),
        gateway_file=read("GATEWAY_FILE"),
    )
