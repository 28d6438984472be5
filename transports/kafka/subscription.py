"""Be a member of a consumer group on Kafka, or a reader of a whole topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import anyio

from saga._core.envelope import Delivery
from saga.errors import Revoked, TransportError, TransportRefused, TransportUnavailable
from saga.ports import GroupSpec, OnAssigned, OnRevoked, Positions, TopicPartition
from transports.kafka.consumer import Consumer
from transports.kafka.settings import KafkaSettings
from transports.kafka.waits import translated
from transports.kafka.watchdog import Seat, Watch, observe, seated, stalled

_log = logging.getLogger("transports.kafka")
_LOOK_EVERY_SECONDS = 5.0


class KafkaSubscription:
    """Keep one member alive: its consumer is rebuilt when it stands still or has failed.

    The callbacks run in a task of the client library, while a `fetch` may be waiting; nothing is
    fetched between the two of them. A static member does not leave its group when it closes: its
    partitions wait for the same slot to come back, for at most the session timeout.
    """

    def __init__(
        self,
        group: GroupSpec,
        connect: Callable[[], Consumer],
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
        settings: KafkaSettings,
    ) -> None:
        self._group = group
        self._connect = connect
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._settings = settings
        self._consumer: Consumer | None = None
        self._assigned: frozenset[TopicPartition] | None = None
        self._changed = anyio.Event()
        self._failure: TransportError | None = None
        self._seat = Seat()
        self._watch: Watch = {}
        self._outgrown: frozenset[str] = frozenset()
        self._shared_at_seconds = time.monotonic()
        self._looked_at_seconds = self._given_up_at_seconds = time.monotonic()

    async def open(self) -> None:
        """Join the group and wait for the first assignment; raises TransportUnavailable, TransportRefused."""
        consumer = self._connect()
        self._watch, self._failure, self._assigned, self._changed = {}, None, None, anyio.Event()
        self._given_up_at_seconds = time.monotonic()
        self._seat = Seat()
        try:
            # The callbacks may come before join returns.
            self._consumer = consumer
            await consumer.join(self._group.topics, self._take_over, self._give_up)
            with anyio.move_on_after(self._settings.callback_seconds):
                await self._changed.wait()
        except BaseException:
            self._consumer = None
            await consumer.stop()
            raise
        if self._failure is not None:
            await self.close()
            raise self._failure

    async def close(self) -> None:
        """Stop within the time; `on_revoked` is not called."""
        consumer, self._consumer, self._assigned = self._consumer, None, None
        if consumer is not None:
            await consumer.stop()

    async def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery]:
        """Return up to `limit` deliveries; empty after the timeout. A cancelled call has taken nothing.

        A consumer that has to be rebuilt is rebuilt in here, which may take the join timeout.
        """
        await anyio.lowlevel.checkpoint()
        deadline = anyio.current_time() + timeout_seconds
        while True:
            consumer = await self._alive()
            self._look_at_shares(consumer)
            found = self._poll(consumer, limit) if self._assigned else []
            left = deadline - anyio.current_time()
            if found:
                return found
            if left <= 0:
                break
            await self._wait(consumer, left)
        await self._look(consumer)
        return ()

    def _poll(self, consumer: Consumer, limit: int) -> list[Delivery]:
        first = self._group.first
        found = consumer.poll(limit, first) if first else []
        if len(found) == limit:
            return found
        try:
            return found + consumer.poll(limit - len(found))
        except TransportError:
            if not found:
                raise
            return found  # it is in hand and must not be lost; the error comes again

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Store the next offsets to read; raises Revoked or TransportUnavailable: then not committed."""
        if positions:
            await self._owned(positions).commit(positions)

    async def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """Move the read positions; one that does not exist makes a later fetch raise PositionLost."""
        await anyio.lowlevel.checkpoint()
        self._owned(positions).seek(positions)

    async def end_offsets(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to be written of every assigned partition."""
        return await (await self._alive()).ends(self._assigned or ())

    def positions(self) -> Mapping[TopicPartition, int]:
        """Return the next offset to be read of every assigned partition."""
        found = self._consumer.positions(self._assigned or ()) if self._consumer is not None else {}
        return {one: position for one, position in found.items() if position is not None}

    def _owned(self, positions: Mapping[TopicPartition, int]) -> Consumer:
        foreign = positions.keys() - (self._assigned or frozenset())
        if foreign or self._consumer is None:
            names = ", ".join(f"{one.topic}[{one.partition}]" for one in sorted(foreign))
            raise Revoked(f"not assigned to slot {self._group.slot!r}: {names}")
        return self._consumer

    async def _alive(self) -> Consumer:
        if self._seat.contested:
            await self.close()
            raise TransportRefused(
                f"group {self._group.name!r}, slot {self._group.slot!r}: another process has the same slot, and each "
                "takes it from the other: give every process a slot of its own"
            )
        if self._failure is not None:
            await self._rebuild(f"it failed: {self._failure}")
        elif self._consumer is not None and self._consumer.dead:
            await self._rebuild("a task of the client library has ended")
        elif self._consumer is None:
            await self.open()
        if self._consumer is None:
            raise TransportUnavailable(f"group {self._group.name!r} is closed")
        if not self._assigned:
            self._consumer.check()  # nothing is polled, which is where the library would raise it
        return self._consumer

    async def _wait(self, consumer: Consumer, timeout_seconds: float) -> None:
        if self._assigned is not None:
            await consumer.wait(timeout_seconds)
        else:
            with anyio.move_on_after(timeout_seconds):
                await self._changed.wait()

    async def _take_over(self, partitions: frozenset[TopicPartition]) -> None:
        consumer = self._consumer
        try:
            if partitions and consumer is not None:
                with anyio.fail_after(self._settings.callback_seconds):
                    consumer.seek(await self._starts(consumer, partitions))
                window_seconds = 2 * self._settings.session_seconds
                self._seat = seated(self._seat, consumer.generation, time.monotonic(), window_seconds)
            self._assigned = partitions
        except Exception as error:  # noqa: BLE001 - ours or the application's: reported by the next fetch, which joins anew
            _log.warning("group %s: taking over partitions failed", self._group.name, exc_info=error)
            self._failure = translated(f"group {self._group.name!r} cannot take over its partitions", error)
        finally:
            self._watch, self._outgrown = {}, frozenset()
            self._changed.set()

    async def _starts(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        starts = dict(await self._on_assigned(partitions))
        if self._group.positions is Positions.BROKER:
            starts = await self._committed(consumer, partitions)
        new = partitions - starts.keys()
        # Explicitly from the beginning: the library has no reset policy here, it would only raise.
        return {**{one: starts[one] for one in partitions & starts.keys()}, **(await consumer.beginnings(new))}

    async def _committed(self, consumer: Consumer, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        found = await consumer.committed(partitions)
        ends = await consumer.ends([one for one, position in found.items() if position])
        # Of a topic that is no more: what has its name now is another one, none of which was read.
        if beyond := [one for one, end in ends.items() if found[one] > end]:
            names = ", ".join(f"{one.topic}[{one.partition}]" for one in sorted(beyond))
            _log.warning(
                "group %s: %s ends before what was committed: read from its beginning", self._group.name, names
            )
        return {one: position for one, position in found.items() if one not in beyond}

    async def _give_up(self, partitions: frozenset[TopicPartition]) -> None:
        lost = self._assigned or frozenset()
        if self._changed.is_set():
            self._changed = anyio.Event()
        try:
            if lost and partitions:
                with anyio.fail_after(self._settings.callback_seconds):
                    await self._on_revoked(lost)
        except Exception as error:  # noqa: BLE001 - the application's own code: the partitions go whatever it does
            _log.warning("group %s: on_revoked failed", self._group.name, exc_info=error)
        finally:
            self._assigned = None
            self._given_up_at_seconds = time.monotonic()

    async def _look(self, consumer: Consumer) -> None:
        now_seconds = time.monotonic()
        if self._assigned is None and now_seconds - self._given_up_at_seconds >= self._settings.join_timeout_seconds:
            await self._rebuild("no partitions were assigned since they were revoked")
        if not self._assigned or now_seconds - self._looked_at_seconds < _LOOK_EVERY_SECONDS:
            return
        self._looked_at_seconds = now_seconds
        ends = await consumer.ends_soon(self._assigned, f"group {self._group.name!r}")
        self._watch = observe(self._watch, consumer.positions(self._assigned or ()), ends, now_seconds)
        still = stalled(self._watch, now_seconds, self._settings.stalled_after_seconds)
        if still:
            await self._rebuild(f"{len(still)} partitions with lag stand still")

    def _look_at_shares(self, consumer: Consumer) -> None:
        now_seconds = time.monotonic()
        if self._assigned is None or now_seconds - self._shared_at_seconds < _LOOK_EVERY_SECONDS:
            return
        self._shared_at_seconds = now_seconds
        before, self._outgrown = self._outgrown, consumer.outgrown()
        # In two looks: the leader notices by itself, unless it is a static member that has come back.
        if still := before & self._outgrown:
            names = ", ".join(sorted(still))
            _log.warning("group %s: %s: not the partitions that were shared out: joins anew", self._group.name, names)
            self._outgrown = frozenset()
            consumer.rejoin()

    async def _rebuild(self, reason: str) -> None:
        _log.warning("group %s, slot %s: the consumer is rebuilt: %s", self._group.name, self._group.slot, reason)
        await self._give_up(self._assigned or frozenset())
        await self.close()
        await self.open()
