# ruff: noqa: SLF001 - the public names wait for ever or hide a state, see library.py
"""Wrap the client library's admin client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from transports.kafka.library import ADMIN, ERRORS, RESOURCE
from transports.kafka.settings import KafkaSettings, connection
from transports.kafka.waits import bounded, closed

_TOPIC_EXISTS = 36


class Admin:
    """Ask and create topics; open only for the time of one call."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._settings = settings
        self._raw: Any = ADMIN.AIOKafkaAdminClient(**connection(bootstrap, settings))

    async def start(self) -> None:
        """Connect."""
        try:
            await bounded("cannot reach Kafka", self._raw.start, self._settings.connect_timeout_seconds)
        except BaseException:
            await self.stop()
            raise

    async def topics(self) -> dict[str, int]:
        """Return the number of partitions of every topic there is."""
        # All of them, not by name: asking by name can create a topic where the broker allows that.
        found: Any = await self._query("cannot list topics", self._raw.describe_topics)
        return {one["topic"]: len(one["partitions"]) for one in found}

    async def cleanup_policies(self, topics: Sequence[str]) -> dict[str, str]:
        """Return each topic's `cleanup.policy`."""
        kind: Any = RESOURCE.ConfigResourceType.TOPIC
        asked = [RESOURCE.ConfigResource(kind, one, {"cleanup.policy": None}) for one in topics]
        answers: Any = await self._query("cannot read topic settings", lambda: self._raw.describe_configs(asked))
        rows = [(row[3], {entry[0]: entry[1] for entry in row[4]}) for answer in answers for row in answer.resources]
        return {name: entries["cleanup.policy"] for name, entries in rows if "cleanup.policy" in entries}

    async def create(self, topics: Mapping[str, tuple[int, dict[str, str]]]) -> dict[str, str]:
        """Create topics with the broker's default replication; returns the reason for each that failed."""
        # replica_assignments={} and not None: else the library refuses the broker default of -1.
        asked = [ADMIN.NewTopic(name, count, -1, {}, configs) for name, (count, configs) in topics.items()]
        answer: Any = await self._query("cannot create topics", lambda: self._raw.create_topics(asked))
        rows: list[Any] = answer.topic_errors
        return {
            row[0]: f"{ERRORS.for_code(row[1]).__name__} {row[2] or ''}"
            for row in rows
            if row[1] not in {0, _TOPIC_EXISTS}
        }

    async def _query(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return await bounded(what, call, self._settings.query_timeout_seconds)

    async def stop(self) -> None:
        """Close within the time."""
        await closed(self._raw._client.close, self._settings.close_timeout_seconds)
