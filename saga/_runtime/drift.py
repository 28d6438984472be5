"""Announce what runs, and raise an alarm where it does not fit the plans or each other.

Nothing is decided by it: sagas run as their plans say, whatever is announced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from saga._core.announcing import (
    MANIFEST,
    REPLICA,
    Live,
    Replica,
    divided,
    live_from_json,
    live_to_json,
    manifest_hash,
    manifest_key,
    replica_key,
    unplanned,
)
from saga._core.envelope import Delivery, Message
from saga._core.manifest import Manifest, manifest_from_json, manifest_to_json
from saga._core.plan import Plan
from saga._core.topics import MANIFESTS
from saga.errors import PlanError, TransportUnavailable
from saga.ports import Publisher, Transport

log = logging.getLogger("saga")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTuning:
    """Hold the numbers of the watch over the fleet.

    A replica says every `announce_seconds` what it runs; one that has been silent for `silent_seconds` is gone.
    Replicas of one service may differ for `grace_seconds`, which is longer than a deploy takes; a plan may be
    heard of `settle_seconds` after the first who runs under it.
    """

    announce_seconds: float = 60.0
    silent_seconds: float = 180.0
    grace_seconds: float = 600.0
    settle_seconds: float = 15.0
    look_seconds: float = 5.0
    take_back_seconds: float = 2.0


class Announcer:
    """Say what the services of one process declare, again and again, and take it back when the process stops."""

    def __init__(
        self, publisher: Publisher, manifests: Sequence[Manifest], slot: str, tuning: DriftTuning | None = None
    ) -> None:
        """Speak for the services in `manifests`; `slot` tells their replicas apart."""
        self._publisher = publisher
        self._slot = slot
        self._tuning = tuning or DriftTuning()
        self._manifests = tuple(manifests)
        self._spoken = False

    async def run(self) -> None:
        """Announce until cancelled; raises TransportUnavailable."""
        while True:
            self._spoken = True
            await self._publish([message for manifest in self._manifests for message in self._said(manifest)])
            await anyio.sleep(self._tuning.announce_seconds)

    async def take_back(self) -> None:
        """Say that the replicas are gone; whoever does not hear it notices their silence."""
        if not self._spoken:
            return
        keys = [replica_key(self._replica(manifest)) for manifest in self._manifests]
        with anyio.move_on_after(self._tuning.take_back_seconds, shield=True):
            try:
                await self._publish([Message(topic=MANIFESTS, key=key.encode(), value=None) for key in keys])
            except TransportUnavailable as error:
                log.info("the end of this replica could not be announced: %s", error)

    def _said(self, manifest: Manifest) -> tuple[Message, Message]:
        live = Live(replica=self._replica(manifest), hash=manifest_hash(manifest))
        return (
            Message(topic=MANIFESTS, key=manifest_key(live.hash).encode(), value=manifest_to_json(manifest)),
            Message(topic=MANIFESTS, key=replica_key(live.replica).encode(), value=live_to_json(live)),
        )

    def _replica(self, manifest: Manifest) -> Replica:
        return Replica(service=manifest.service, slot=self._slot)

    async def _publish(self, messages: Sequence[Message]) -> None:
        for error in await self._publisher.publish(messages):
            if error is not None:
                msg = f"what runs here could not be announced on {MANIFESTS}: {error}"
                raise TransportUnavailable(msg) from error


@dataclass(slots=True, kw_only=True)
class Announced:
    """Remember what replicas have announced, and when they were last heard of."""

    manifests: dict[str, Manifest] = field(default_factory=dict[str, Manifest])
    live: dict[Replica, Live] = field(default_factory=dict[Replica, Live])
    heard_at: dict[Replica, float] = field(default_factory=dict[Replica, float])

    def take(self, delivery: Delivery, now: float) -> None:
        """Take an announcement in; raises PlanError for what cannot be read."""
        key = (delivery.key or b"").decode("utf-8", "replace")
        if key.startswith(MANIFEST) and delivery.value is not None:
            manifest = manifest_from_json(delivery.value)
            self.manifests[key.removeprefix(MANIFEST)] = manifest
        elif key.startswith(REPLICA) and delivery.value is None:
            service, _, slot = key.removeprefix(REPLICA).partition("/")
            self._forget(Replica(service=service, slot=slot))
        elif key.startswith(REPLICA) and delivery.value is not None:
            live = live_from_json(delivery.value)
            self.live[live.replica] = live
            self.heard_at[live.replica] = now

    def forget_silent(self, before: float) -> None:
        """Forget replicas not heard of since, and manifests that nobody runs."""
        for replica in [replica for replica, at in self.heard_at.items() if at < before]:
            self._forget(replica)
        running = {live.hash for live in self.live.values()}
        self.manifests = {hash_: manifest for hash_, manifest in self.manifests.items() if hash_ in running}

    def _forget(self, replica: Replica) -> None:
        self.live.pop(replica, None)
        self.heard_at.pop(replica, None)


class DriftWatch:
    """Compare what is announced with the plans published, and log each new difference once.

    `counts` says how many alarms there have been; `alarms` are those that still stand. `announced` is what is heard.
    """

    def __init__(
        self, transport: Transport, plans: Callable[[], Sequence[Plan]], tuning: DriftTuning | None = None
    ) -> None:
        """Read `saga.manifests`; `plans` returns the plans known now."""
        self._transport = transport
        self._plans = plans
        self._tuning = tuning or DriftTuning()
        self.announced = Announced()
        self._since: dict[str, float] = {}
        self.alarms: tuple[str, ...] = ()
        self.counts: dict[str, int] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        self.announced = Announced()
        async with self._transport.table(MANIFESTS) as table:
            while True:
                for delivery in await table.changes(self._tuning.look_seconds):
                    self._take(delivery)
                if await table.caught_up():
                    self._look()

    def _take(self, delivery: Delivery) -> None:
        try:
            self.announced.take(delivery, anyio.current_time())
        except PlanError as error:
            log.warning("an announcement on %s cannot be read and is ignored: %s", MANIFESTS, error)

    def _look(self) -> None:
        now = anyio.current_time()
        self.announced.forget_silent(now - self._tuning.silent_seconds)
        differ = divided(self.announced.live.values())
        seen = [(sentence, sentence, self._tuning.settle_seconds) for sentence in self._unplanned()]
        # By service: who differs from whom changes while replicas are replaced, and the time still counts.
        seen += [(service, sentence, self._tuning.grace_seconds) for service, sentence in differ.items()]
        self._since = {key: self._since.get(key, now) for key, _, _ in seen}
        found = tuple(sentence for key, sentence, grace in seen if now - self._since[key] >= grace)
        for sentence in found:
            if sentence not in self.alarms:
                self.counts["drift"] = self.counts.get("drift", 0) + 1
                log.error("drift: %s", sentence)
        for sentence in self.alarms:
            if sentence not in found:
                log.info("drift is over: %s", sentence)
        self.alarms = found

    def _unplanned(self) -> list[str]:
        plans = self._plans()
        running: dict[str, list[Replica]] = {}
        for replica, live in sorted(self.announced.live.items()):
            running.setdefault(live.hash, []).append(replica)
        return [
            f"{', '.join(map(str, replicas))} {sentence}"
            for hash_, replicas in running.items()
            if (manifest := self.announced.manifests.get(hash_)) is not None
            for sentence in unplanned(manifest, plans)
        ]
