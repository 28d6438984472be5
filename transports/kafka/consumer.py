# ruff: noqa: SLF001 - the public names wait for ever or hide a state, see library.py
"""Wrap the client library's consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Any, cast

import anyio

from saga._core.envelope import Delivery, Headers
from saga._core.frozen import builder
from saga.errors import Revoked, TransportError, TransportUnavailable
from saga.ports import TopicPartition
from transports.kafka.fetching import FetchPlan
from transports.kafka.library import ERRORS, KAFKA
from transports.kafka.line import Line
from transports.kafka.sessions import SessionClient
from transports.kafka.settings import KafkaSettings, connection
from transports.kafka.sharing import Sharing, outgrown
from transports.kafka.waits import closed, cut_off

# How long a handler may take is not the transport's to say: a member stays while its loop sends heartbeats.
_NEVER_MILLISECONDS = 2**31 - 1
_made = builder(Delivery)

_LOOK_SECONDS = 2.0
# How old the list of a topic's partitions may be: the library's five minutes are too long to leave one unread.
_LISTED_SECONDS = 5.0

Listener = Callable[[frozenset[TopicPartition]], Awaitable[None]]


class Consumer:
    """Be one consumer: a static member of a group, or a reader of whole topics without one."""

    def __init__(self, bootstrap: str, settings: KafkaSettings, *, group: str = "", instance: str = "") -> None:
        self._settings = settings
        self._line = Line(bootstrap, settings, _rights(group))
        self._topics: Sequence[str] = ()
        self._sharing = Sharing()
        self._raw: Any = KAFKA.AIOKafkaConsumer(
            **connection(bootstrap, settings),
            group_id=group or None,
            group_instance_id=instance or None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=int(settings.session_seconds * 1000),
            heartbeat_interval_ms=int(settings.heartbeat_seconds * 1000),
            rebalance_timeout_ms=int(settings.rebalance_seconds * 1000),
            max_poll_interval_ms=_NEVER_MILLISECONDS,
            metadata_max_age_ms=int(_LISTED_SECONDS * 1000),
            partition_assignment_strategy=(self._sharing,),
            max_partition_fetch_bytes=settings.partition_fetch_bytes,
            fetch_max_bytes=settings.fetch_bytes,
        )

    async def join(self, topics: Sequence[str], on_assigned: Listener, on_revoked: Listener) -> None:
        """Connect and join the group; the callbacks run in a task of the library."""
        self._topics = topics
        self._raw.subscribe(list(topics), listener=_listener(on_assigned, on_revoked))
        await self._start(f"cannot join the group for {', '.join(topics)}", self._settings.join_timeout_seconds)
        _quiet_commits(self._raw._coordinator)

    async def read_all(self, topic: str) -> frozenset[TopicPartition]:
        """Connect and read all partitions of a topic from the beginning; returns them."""
        what = f"cannot read {topic!r}"
        await self._start(what, self._settings.connect_timeout_seconds)
        try:
            known = self._raw._client._wait_on_metadata
            found: Any = await self._line.bounded(what, lambda: known(topic), self._settings.query_timeout_seconds * 2)
            partitions = frozenset(TopicPartition(topic=topic, partition=index) for index in found)
            self._raw.assign([_theirs(one) for one in partitions])
            self.seek(await self.beginnings(partitions))
        except BaseException:
            await self.stop()
            raise
        return partitions

    async def _start(self, what: str, timeout_seconds: float) -> None:
        try:
            await self._line.bounded(what, self._raw.start, timeout_seconds)
        except BaseException:
            await self.stop()
            raise
        self._raw._fetcher._client = SessionClient(self._raw._client)
        FetchPlan(self._raw._fetcher)

    def check(self) -> None:
        """Raise what the library has found wrong with the membership and tells only to who fetches."""
        try:
            self._raw._coordinator.check_errors()
        except ERRORS.KafkaError as error:
            raise self._line.translated("cannot be a member of the group", error) from error

    async def reason(self, what: str) -> TransportError:
        """Return the error for what got no answer, with the reason if there is one to be found, in at most 5 s."""
        return await self._line.reason(what, TransportUnavailable(what))

    def poll(self, limit: int, topics: AbstractSet[str] = frozenset()) -> list[Delivery]:
        """Return what is there, without waiting: of some topics, or of all."""
        # getmany with no timeout never suspends while no rebalance is on, so nothing can cancel it:
        # a cancelled getmany would switch max_poll_interval off for ever. Stepped by hand to keep it so.
        if self._raw._subscription.reassignment_in_progress:
            return []
        there: Mapping[Any, Any] = self._raw._fetcher._records
        places = [place for place in there if not topics or place.topic in topics]
        if not places:
            self.check()
            return []
        for fetched in there.values():
            # Records become ours as they are unpacked: the library's own record in between costs more than all else.
            if (unpacked := getattr(fetched, "_partition_records", None)) is not None:
                unpacked._consumer_record = _delivery
        try:
            self._raw.getmany(*places, timeout_ms=0, max_records=limit).send(None)
        except StopIteration as done:
            found: dict[Any, list[Delivery]] = done.value
            return list(chain.from_iterable(found.values()))
        except ERRORS.KafkaError as error:
            # An error inside of getmany leaves its count of running calls raised, like a cancelled one.
            self._raw._subscription._fetch_count = 0
            raise self._line.translated("cannot fetch", error) from error
        raise TransportUnavailable("the Kafka consumer is rebalancing")

    @property
    def generation(self) -> int:
        """Return the generation of the group that this member has joined last."""
        return int(self._raw._coordinator.generation)

    @property
    def dead(self) -> bool:
        """Return whether a task of the library has ended that must not; getmany looks at one of them only."""
        coordinator: Any = getattr(self._raw._coordinator, "_coordination_task", None)
        return bool(self._raw._fetcher.error_future.done() or (coordinator is not None and coordinator.done()))

    def outgrown(self) -> frozenset[str]:
        """Return the topics with other partitions than the group has shared out, as far as the cluster was heard of."""
        present = {topic: len(self._raw.partitions_for_topic(topic) or ()) for topic in self._topics}
        return outgrown(self._sharing.shared, present)

    def rejoin(self) -> None:
        """Have the group share out its partitions anew; the callbacks tell when."""
        self._sharing.ask()
        self._raw._coordinator.request_rejoin()

    async def wait(self, timeout_seconds: float) -> None:
        """Wait until there may be something to poll; may be cancelled at any time."""
        # The fetcher's own waiter: the public way to wait is getmany, which must not be cancelled.
        waiter: Any = self._raw._fetcher._create_fetch_waiter()
        timer = asyncio.get_running_loop().call_later(timeout_seconds, _let_go, waiter)
        try:
            await waiter
        except ERRORS.KafkaError:
            pass  # the next poll raises the same
        finally:
            timer.cancel()

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Move read positions; what was fetched before is dropped."""
        try:
            for partition, position in positions.items():
                self._raw.seek(_theirs(partition), position)
        except ERRORS.IllegalStateError as error:
            raise Revoked(f"cannot seek: {error}") from error

    def positions(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Return the next offset to be polled of each partition, None while it has none."""
        subscription: Any = self._raw._subscription.subscription
        assignment: Any = subscription.assignment if subscription is not None else None
        states = {one: assignment.state_value(_theirs(one)) for one in partitions} if assignment is not None else {}
        # position() would wait for one.
        return {
            one: state.position if state is not None and state.has_valid_position else None
            for one, state in states.items()
        }

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store positions at the broker."""
        offsets = {_theirs(partition): position for partition, position in positions.items()}
        await self._line.bounded(
            "cannot commit", lambda: self._raw.commit(offsets), self._settings.commit_timeout_seconds
        )

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the committed positions, in one request; partitions without one are left out."""
        wanted = {_theirs(one): one for one in partitions}
        found: Any = await self._line.bounded(
            "cannot read committed positions",
            lambda: self._raw._coordinator.fetch_committed_offsets(list(wanted)),
            self._settings.query_timeout_seconds,
        )
        return {wanted[raw]: value.offset for raw, value in found.items() if value.offset >= 0}

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the earliest offset of each partition."""
        return await self._offsets(self._raw.beginning_offsets, partitions)

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the next offset to be written of each partition."""
        return await self._offsets(self._raw.end_offsets, partitions)

    async def ends_soon(self, partitions: Iterable[TopicPartition], what: str) -> dict[TopicPartition, int]:
        """Return the same, or raise within 2 s and the time to find out why: a reader is not held up by a look."""
        with anyio.move_on_after(_LOOK_SECONDS):
            return await self.ends(partitions)
        raise await self.reason(f"{what}: no end offsets in {_LOOK_SECONDS:g} s")

    async def _offsets(self, query: Any, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = {_theirs(one): one for one in partitions}
        if not wanted:
            return {}
        found: Any = await self._line.bounded(
            "cannot read offsets", lambda: query(list(wanted)), self._settings.query_timeout_seconds
        )
        return {wanted[raw]: offset for raw, offset in found.items()}

    async def stop(self) -> None:
        """Close within the time; a static member does not leave its group by this."""
        cut_off(self._raw._client)
        await closed(self._raw.stop, self._settings.close_timeout_seconds)
        # Once more: a connection that was being made meanwhile is one that the first close has not known.
        await closed(self._raw._client.close, 1.0)


def _rights(group: str) -> dict[str, str]:
    return {
        "TopicAuthorizationFailedError": "Read and Describe on that topic",
        "GroupAuthorizationFailedError": f"Read on group {group!r}",
    }


def _quiet_commits(coordinator: Any) -> None:
    """Have a commit's error seen when its caller was cancelled: the library shields it and then forgets it."""
    commit = coordinator._do_commit_offsets

    def seen(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()

    def watched(*arguments: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(commit(*arguments))
        task.add_done_callback(seen)
        return task

    coordinator._do_commit_offsets = watched


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _theirs(partition: TopicPartition) -> Any:
    return KAFKA.TopicPartition(partition.topic, partition.partition)


def _delivery(place: Any, record: Any) -> Delivery:
    headers: list[tuple[str, bytes | None]] = record.headers
    for _, value in headers:
        if value is None:
            headers = [(name, value or b"") for name, value in headers]
            break
    return _made(
        topic=place.topic,
        partition=place.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=cast("Headers", tuple(headers)),
    )


def _listener(on_assigned: Listener, on_revoked: Listener) -> Any:
    def ours(partitions: Iterable[Any]) -> frozenset[TopicPartition]:
        return frozenset(TopicPartition(topic=one.topic, partition=one.partition) for one in partitions)

    class Rebalance(KAFKA.ConsumerRebalanceListener):  # type: ignore[misc] # the base is Any
        async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
            await on_assigned(ours(assigned))

        async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
            await on_revoked(ours(revoked))

    return Rebalance()
