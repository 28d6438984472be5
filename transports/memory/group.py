"""Share partitions among the members of a group, and tell them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio

from saga.errors import TransportError, TransportUnavailable
from saga.ports import GroupSpec, OnAssigned, OnRevoked, Positions, TopicPartition
from transports.memory.signal import Signal
from transports.memory.topic import Topic

_log = logging.getLogger("transports.memory")


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """Be one live member: what it was given, where it reads, and why it cannot go on."""

    spec: GroupSpec
    on_assigned: OnAssigned
    on_revoked: OnRevoked
    positions: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    signal: Signal = field(default_factory=Signal)
    failure: TransportError | None = None
    rebalances: int = 0


class Group:
    """Keep one group's members and committed positions."""

    def __init__(self, name: str, topics: Mapping[str, Topic], budget_seconds: float) -> None:
        self.name = name
        self.topics: set[str] = set()
        self.committed: dict[TopicPartition, int] = {}
        self.members: dict[str, Member] = {}
        self._topics = topics
        self._budget_seconds = budget_seconds
        self._lock = anyio.Lock()

    async def join(self, member: Member) -> None:
        """Take a member in; one with the same slot is replaced, which disturbs nobody else."""
        async with self._lock:
            replaced = self.members.get(member.spec.slot)
            self.members[member.spec.slot] = member
            if replaced is not None:
                replaced.positions.clear()
                replaced.failure = TransportUnavailable(
                    f"another member joined group {self.name!r} with slot {member.spec.slot!r}; slots must be unique"
                )
                replaced.signal.notify()
            self._read_on()
            await self._rebalance()

    async def leave(self, member: Member) -> None:
        """Let a member go and give its partitions to the others, from the committed positions."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                member.positions.clear()
                if self.members.get(member.spec.slot) is member:
                    del self.members[member.spec.slot]
                    self._read_on()
                    await self._rebalance()

    def _read_on(self) -> None:
        """Forget the topics that no member reads any more; without a member the last one's stay."""
        if self.members:
            self.topics = {name for member in self.members.values() for name in member.spec.topics}

    def _shares(self) -> dict[str, frozenset[TopicPartition]]:
        shares: dict[str, set[TopicPartition]] = {slot: set() for slot in self.members}
        for name in sorted(self.topics & self._topics.keys()):
            slots = sorted(slot for slot, member in self.members.items() if name in member.spec.topics)
            for index, partition in enumerate(self._topics[name].partitions if slots else ()):
                shares[slots[index % len(slots)]].add(partition)
        return {slot: frozenset(share) for slot, share in shares.items()}

    async def _rebalance(self) -> None:
        changed = [
            (self.members[slot], share)
            for slot, share in self._shares().items()
            if share != self.members[slot].positions.keys()
        ]
        for member, _ in changed:
            member.rebalances += 1
        # Shielded: a joiner that is cancelled must not leave the others without partitions; the budgets bound it.
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for member, _ in changed:
                    tasks.start_soon(self._revoke, member)
            async with anyio.create_task_group() as tasks:
                for member, share in changed:
                    tasks.start_soon(self._assign, member, share)

    async def _revoke(self, member: Member) -> None:
        lost = frozenset(member.positions)
        try:
            if lost:
                with anyio.fail_after(self._budget_seconds):
                    await member.on_revoked(lost)
        except Exception:  # noqa: BLE001 - the member's own code: partitions move on whatever it does
            _log.exception("on_revoked of group %s, slot %s failed", self.name, member.spec.slot)
        finally:
            member.positions.clear()

    async def _assign(self, member: Member, share: frozenset[TopicPartition]) -> None:
        try:
            if share:
                with anyio.fail_after(self._budget_seconds):
                    wanted = await member.on_assigned(share)
                member.positions.update({one: self._start(member.spec.positions, one, wanted) for one in share})
        except Exception as error:  # noqa: BLE001 - the member's own code: reported by its next fetch
            failure = TransportUnavailable(
                f"on_assigned of group {self.name!r}, slot {member.spec.slot!r} failed: {error!r}"
            )
            failure.__cause__ = error
            member.failure = error if isinstance(error, TransportError) else failure
        finally:
            member.rebalances -= 1
            member.signal.notify()

    def _start(self, keeper: Positions, partition: TopicPartition, wanted: Mapping[TopicPartition, int]) -> int:
        log = self._topics[partition.topic].logs[partition.partition]
        if keeper is Positions.BROKER:
            return self.committed.get(partition, log.start)
        position = wanted.get(partition, log.start)
        # Before the base or past the end is a position of another incarnation, whose records are gone with it.
        return position if log.base <= position <= log.end else log.start
