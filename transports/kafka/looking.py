# ruff: noqa: SLF001 - the public names wait for ever or hide a state, see library.py
"""Look at a Kafka cluster as a person does: its topics and its groups, with nothing changed but what is asked for."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import anyio

from saga._core.brokers import GroupState, PartitionLag, Presence, TopicProblem, TopicState, Weight
from saga.errors import TransportRefused, TransportUnavailable
from saga.ports import TopicPartition, TopicSpec
from transports.kafka.admin import Admin, checked, visible
from transports.kafka.library import ERRORS, KAFKA, RESOURCE
from transports.kafka.line import Line
from transports.kafka.members import given, places, subscribed
from transports.kafka.settings import KafkaSettings, connection
from transports.kafka.topics import CLEANUP, RETENTION, Finding, TopicFound, creation
from transports.kafka.waits import closed

_GROUP_DENIED, _TOPIC_DENIED = 30, 29
_PAUSE_SECONDS = 0.2
_RIGHTS = {
    "TopicAuthorizationFailedError": "Describe on the topics",
    "GroupAuthorizationFailedError": "Describe on the groups",
    "ClusterAuthorizationFailedError": "Describe on the cluster",
}


class KafkaBroker:
    """Be `saga.ports.brokers.Broker` for a Kafka cluster; asyncio only."""

    def __init__(self, bootstrap: str, *, prefix: str = "", settings: KafkaSettings | None = None) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._settings = settings or KafkaSettings()
        self._admin = Admin(bootstrap, self._settings)
        self._line = Line(bootstrap, self._settings, _RIGHTS)
        self._reader: Any = None

    def __repr__(self) -> str:
        return f"KafkaBroker({self._bootstrap!r})"

    async def __aenter__(self) -> Self:
        """Connect; raises TransportRefused, TransportUnavailable with the reason."""
        await self._admin.start()
        reader: Any = KAFKA.AIOKafkaConsumer(**connection(self._bootstrap, self._settings), enable_auto_commit=False)
        try:
            await self._line.bounded("cannot reach Kafka", reader.start, self._settings.connect_timeout_seconds)
        except BaseException:
            await closed(reader._client.close, self._settings.close_timeout_seconds)
            await self._admin.stop()
            raise
        self._reader = reader
        return self

    async def __aexit__(self, *exc: object) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await closed(reader.stop, self._settings.close_timeout_seconds)
        await self._admin.stop()

    # --- topics ------------------------------------------------------------------------------------------------

    async def topics(self, specs: Sequence[TopicSpec]) -> Sequence[TopicState]:
        """Return each topic as it is, with what is wrong about it."""
        named = [replace(spec, name=self._prefix + spec.name) for spec in specs]
        found, brokers = await self._admin.topics()
        wrong = await checked(self._admin, self._bootstrap, named, found, brokers, self._settings)
        settings = await self._admin.settings([spec.name for spec in named if spec.name in found])
        hidden = await self._hidden([spec.name for spec in named if spec.name not in found])
        return [
            _state(spec.name, found[name], settings.get(name), [one for one in wrong if one.topic == name])
            if (name := self._prefix + spec.name) in found
            else TopicState(name=spec.name, presence=Presence.HIDDEN if name in hidden else Presence.MISSING)
            for spec in specs
        ]

    async def create(self, specs: Sequence[TopicSpec]) -> Sequence[str]:
        """Create those topics that are missing, and return their names."""
        found, _ = await self._admin.topics()
        missing = [spec for spec in specs if self._prefix + spec.name not in found]
        if missing:
            factor = self._settings.replication_factor
            failed = await self._admin.create({self._prefix + spec.name: creation(spec, factor) for spec in missing})
            if failed:
                raise TransportRefused("; ".join(f"topic {name!r}: {why}" for name, why in failed.items()))
            await visible(self._admin, [self._prefix + spec.name for spec in missing])
        return [spec.name for spec in missing]

    async def _hidden(self, names: Sequence[str]) -> set[str]:
        """Return those topics that this user may not see: a broker leaves them out of its list, without a word."""
        if not names:
            return set()
        kind: Any = RESOURCE.ConfigResourceType.TOPIC
        asked = [RESOURCE.ConfigResource(kind, one, {CLEANUP: None}) for one in names]
        answers: Any = await self._admin.ask("cannot read topic settings", lambda raw: raw.describe_configs(asked))
        return {row[3] for answer in answers for row in answer.resources if row[0] == _TOPIC_DENIED}

    # --- groups ------------------------------------------------------------------------------------------------

    async def groups(self, names: Sequence[str]) -> Sequence[GroupState]:
        """Return each group as it is."""
        return [await self._group(name) for name in names]

    async def _group(self, name: str) -> GroupState:
        full = self._prefix + name
        try:
            answers = await self._described(full)
        except TransportRefused as error:
            return GroupState(name=name, denied=str(error))
        # error, name, state, kind of protocol, protocol, members: later versions add behind.
        row: Any = next((one for answer in answers for one in answer.groups), None)
        if row is None or row[0]:
            code = row[0] if row is not None else -1
            told = self._line.translated("cannot look at it", ERRORS.for_code(code)(full))
            return GroupState(name=name, denied=str(told) if code == _GROUP_DENIED else "", state="unknown")
        members = tuple(str(member[0]).removeprefix(self._prefix) for member in row[5])
        read = await self._read_by(row[5]) if row[2] == "Stable" else frozenset[TopicPartition]()
        nobodys = sorted(read - given(row[5])) if read else []
        return GroupState(
            name=name,
            state=str(row[2]),
            members=members,
            partitions=await self._lags(full, read),
            unowned=tuple(f"{one.topic.removeprefix(self._prefix)}[{one.partition}]" for one in nobodys),
        )

    async def _read_by(self, members: Sequence[Any]) -> frozenset[TopicPartition]:
        found, _ = await self._admin.topics()
        return places(subscribed(members), {topic: one.partitions for topic, one in found.items()})

    async def _described(self, full: str) -> Any:
        """Describe a group; the first one who asks a new cluster for one has the topic of all groups made."""
        until = anyio.current_time() + self._settings.query_timeout_seconds
        while True:
            try:
                return await self._admin.ask("cannot look at groups", lambda raw: raw.describe_consumer_groups([full]))
            except TransportUnavailable as error:
                if "GroupCoordinatorNotAvailable" not in str(error) or anyio.current_time() >= until:
                    raise
            await anyio.sleep(_PAUSE_SECONDS)

    async def _lags(self, full: str, read: frozenset[TopicPartition]) -> tuple[PartitionLag, ...]:
        committed: Mapping[Any, Any] = await self._admin.ask(
            "cannot read committed positions", lambda raw: raw.list_consumer_group_offsets(full)
        )
        fresh = [one for place in read if (one := KAFKA.TopicPartition(place.topic, place.partition)) not in committed]
        ends: Mapping[Any, int] = await self._ends([*committed, *fresh])
        beginnings: Mapping[Any, int] = await self._beginnings([place for place in fresh if ends.get(place)])
        return tuple(
            PartitionLag(
                topic=str(place.topic).removeprefix(self._prefix),
                partition=place.partition,
                committed=committed[place].offset if place in committed and committed[place].offset >= 0 else None,
                end=end,
                beginning=beginnings.get(place, 0),
            )
            for place, end in sorted(ends.items())
            if end or place in committed
        )

    async def _ends(self, places: Sequence[Any]) -> Mapping[Any, int]:
        if not places:
            return {}
        await self._know({place.topic for place in places})
        found: Mapping[Any, int] = await self._ask("cannot read offsets", lambda: self._reader.end_offsets(places))
        return found

    async def _beginnings(self, places: Sequence[Any]) -> Mapping[Any, int]:
        if not places:
            return {}
        found: Mapping[Any, int] = await self._ask(
            "cannot read offsets", lambda: self._reader.beginning_offsets(places)
        )
        return found

    async def ahead(self, topics: Sequence[str], seconds: float) -> Sequence[str]:
        """Return those topics in which a message is dated more than so many seconds after this machine's time."""
        found, _ = await self._admin.topics()
        later = int((time.time() + seconds) * 1000)
        names = [self._prefix + topic for topic in topics if self._prefix + topic in found]
        asked = {KAFKA.TopicPartition(name, n): later for name in names for n in range(found[name].partitions)}
        if not asked:
            return []
        await self._know(set(names))
        answer: Mapping[Any, Any] = await self._ask(
            "cannot look for times", lambda: self._reader.offsets_for_times(asked)
        )
        late = {str(place.topic) for place, at in answer.items() if at is not None}
        return [topic for topic in topics if self._prefix + topic in late]

    async def _know(self, names: set[str]) -> None:
        # A reader without a subscription learns of one topic a round trip: asked for many it runs out of time.
        await self._ask("cannot list topics", lambda: self._reader._client.set_topics(names))

    # --- asking ------------------------------------------------------------------------------------------------

    async def _ask(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return await self._line.bounded(what, call, self._settings.query_timeout_seconds)


def _state(name: str, found: TopicFound, settings: Mapping[str, str] | None, wrong: Sequence[Finding]) -> TopicState:
    retention = (settings or {}).get(RETENTION)
    return TopicState(
        name=name,
        presence=Presence.THERE,
        partitions=found.partitions,
        replicas=found.replicas,
        cleanup=(settings or {}).get(CLEANUP, ""),
        retention_ms=int(retention) if retention is not None else None,
        problems=tuple(
            TopicProblem(weight=Weight(one.weight.value), text=one.text, command=one.command) for one in wrong
        ),
    )
