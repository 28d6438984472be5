# ruff: noqa: SLF001 - the public names wait for ever or hide a state, see library.py
"""Wrap the client library's admin client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio

from saga.ports import TopicSpec
from transports.kafka.library import ADMIN, ERRORS, RESOURCE
from transports.kafka.line import Line
from transports.kafka.settings import KafkaSettings, connection
from transports.kafka.topics import CHECKED, Finding, TopicFound, findings
from transports.kafka.waits import closed

_TOPIC_EXISTS = 36
_VISIBLE_SECONDS = 5.0
_RIGHTS = {
    "TopicAuthorizationFailedError": "Create on that topic (or Describe, if it is there)",
    "ClusterAuthorizationFailedError": "Create on the cluster",
    "GroupAuthorizationFailedError": "Describe on that group",
}


class Admin:
    """Ask and create topics; open only for the time of one call."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._settings = settings
        self._line = Line(bootstrap, settings, _RIGHTS)
        self._raw: Any = ADMIN.AIOKafkaAdminClient(**connection(bootstrap, settings))

    async def start(self) -> None:
        """Connect."""
        try:
            await self._line.bounded("cannot reach Kafka", self._raw.start, self._settings.connect_timeout_seconds)
        except BaseException:
            await self.stop()
            raise

    async def topics(self) -> tuple[Mapping[str, TopicFound], int]:
        """Return every topic there is, without its settings, and the number of brokers."""
        # All of them, not by name: asking by name can create a topic where the broker allows that.
        found: Any = await self._query("cannot list topics", self._raw.describe_topics)
        cluster: Any = await self._query("cannot list brokers", self._raw.describe_cluster)
        return {one["topic"]: _found(one["partitions"]) for one in found}, len(cluster["brokers"])

    async def settings(self, topics: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the settings that matter of each topic; one whose settings may not be read is left out."""
        if not topics:
            return {}
        kind: Any = RESOURCE.ConfigResourceType.TOPIC
        asked = [RESOURCE.ConfigResource(kind, one, dict.fromkeys(CHECKED)) for one in topics]
        answers: Any = await self._query("cannot read topic settings", lambda: self._raw.describe_configs(asked))
        rows: list[Any] = [row for answer in answers for row in answer.resources]
        return {row[3]: {entry[0]: entry[1] for entry in row[4]} for row in rows if row[0] == 0}

    async def create(self, topics: Mapping[str, tuple[int, dict[str, str]]]) -> dict[str, str]:
        """Create topics; returns the reason for each that failed."""
        # The broker's default is -1, which the library takes only with replica_assignments={}, and a number with None.
        factor = self._settings.replication_factor
        how: tuple[Any, ...] = (factor, None) if factor else (-1, {})
        asked = [ADMIN.NewTopic(name, count, *how, configs) for name, (count, configs) in topics.items()]
        answer: Any = await self._query("cannot create topics", lambda: self._raw.create_topics(asked))
        rows: list[Any] = answer.topic_errors
        return {
            row[0]: str(self._line.translated("cannot be created", ERRORS.for_code(row[1])(row[2] or "")))
            for row in rows
            if row[1] not in {0, _TOPIC_EXISTS}
        }

    async def ask(self, what: str, call: Callable[[Any], Awaitable[Any]]) -> Any:
        """Ask something of the library's client that nothing here does, within the time."""
        return await self._query(what, lambda: call(self._raw))

    async def _query(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self._line.bounded(what, call, self._settings.query_timeout_seconds)

    async def stop(self) -> None:
        """Close within the time."""
        await closed(self._raw._client.close, self._settings.close_timeout_seconds)


async def checked(
    admin: Admin,
    bootstrap: str,
    specs: Sequence[TopicSpec],
    found: Mapping[str, TopicFound],
    brokers: int,
    settings: KafkaSettings,
) -> tuple[Finding, ...]:
    """Ask for the settings of those topics that exist, and return what is wrong with them."""
    present = {spec.name: found[spec.name] for spec in specs if spec.name in found}
    asked = await admin.settings(list(present))
    whole = {name: replace(topic, settings=asked.get(name)) for name, topic in present.items()}
    return findings(bootstrap, specs, whole, brokers, settings)


async def visible(admin: Admin, names: Collection[str]) -> tuple[Mapping[str, TopicFound], int]:
    """Wait until the broker asked knows the topics just created, or for a bounded time."""
    deadline = anyio.current_time() + _VISIBLE_SECONDS
    while True:
        found, brokers = await admin.topics()
        if found.keys() >= set(names) or anyio.current_time() >= deadline:
            return found, brokers
        await anyio.sleep(0.05)


def _found(partitions: Sequence[Mapping[str, Any]]) -> TopicFound:
    return TopicFound(
        partitions=len(partitions),
        replicas=min((len(one["replicas"]) for one in partitions), default=0),
        in_sync=min((len(one["isr"]) if one["leader"] >= 0 else 0 for one in partitions), default=0),
        settings=None,
    )
