"""Compare what was committed with what is in the topic and what came of it: pure, one sentence for each wrong thing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

ONCE = {
    "completed": {"reserved": 1, "paid": 1},
    "compensated": {"reserved": 1, "released": 1},
}
"""What an order leaves behind; one that was closed before anything was reserved leaves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Be an event whose transaction has committed; `number` counts the commits of its key, which may be None."""

    message_id: str
    uid: str
    key: str | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Be one message of the topic; messages of a partition come in order of their offset."""

    partition: int
    offset: int
    message_id: str
    uid: str
    key: str
    number: int
    sequence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Be a saga: how it ended for its starter (None: not yet), and what its steps have done."""

    order_id: str
    ending: str | None
    effects: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Hold all that has to agree; `handled` are the events each subscriber has handled, in its order.

    Subscribers `in_order` are never tried again, those of `unkeyed` take events without a key too.
    """

    written: Sequence[Written]
    sent: Sequence[Sent]
    handled: Mapping[str, Sequence[Written]]
    in_order: frozenset[str]
    unkeyed: frozenset[str]
    placed: Sequence[str]
    orders: Sequence[Order]
    left: Sequence[str]


def audit(found: Found) -> list[str]:
    """Return everything that is wrong; empty when nothing was lost, made up, out of order, or done twice."""
    return [
        *_lost(found),
        *_out_of_order(found),
        *_handled(found),
        *_sagas(found),
        *found.left,
    ]


def duplicates(found: Found) -> int:
    """Return how many messages of the topic are not the first with their ID."""
    return len(found.sent) - len({sent.message_id for sent in found.sent})


def _lost(found: Found) -> Iterator[str]:
    written = {each.message_id: each for each in found.written}
    sent = {each.message_id: each for each in found.sent}
    for message_id in written.keys() - sent.keys():
        yield f"lost: {_named(written[message_id])} was committed and is not in the topic"
    for message_id, each in sent.items():
        if message_id not in written:
            yield f"made up: {message_id} ({each.key} {each.number}) is in the topic and was never committed"
    for each in found.sent:
        was = written.get(each.message_id)
        if was is not None and (was.uid, was.key or each.message_id, was.number) != (each.uid, each.key, each.number):
            yield f"changed: {_named(was)} is in the topic as {each.uid}, {each.key} {each.number}"


def _out_of_order(found: Found) -> Iterator[str]:
    keyed = {each.message_id for each in found.written if each.key is not None}
    firsts: defaultdict[str, list[Sent]] = defaultdict(list)
    seen: dict[str, Sent] = {}
    for each in sorted(found.sent, key=lambda each: (each.partition, each.offset)):
        if each.message_id not in keyed:
            continue
        first = seen.setdefault(each.message_id, each)
        if first is each:
            firsts[each.key].append(each)
        elif first.sequence != each.sequence:
            yield f"{each.key} {each.number} has sequence {first.sequence}, and {each.sequence} when it is repeated"
    for key, row in firsts.items():
        if len({each.partition for each in row}) > 1:
            yield f"{key} is in more than one partition"
        for before, after in pairwise(row):
            where = f"offset {after.offset} of partition {after.partition}"
            if before.number >= after.number:
                yield f"out of order: {key} {after.number} comes behind {before.number} at {where}"
            if before.sequence >= after.sequence:
                yield f"{key}: sequence {after.sequence} comes behind {before.sequence} at {where}"


def _handled(found: Found) -> Iterator[str]:
    written = {each.message_id: each for each in found.written}
    for subscriber, handled in found.handled.items():
        times = Counter(each.uid for each in handled)
        for each in found.written:
            if times[each.uid] != (each.key is not None or subscriber in found.unkeyed):
                yield f"{subscriber} has handled {_named(each)} {times[each.uid]} times"
        for uid in times.keys() - {each.uid for each in written.values()}:
            yield f"{subscriber} has handled {uid}, which was never committed"
        if subscriber in found.in_order:
            yield from _overtaken(subscriber, handled)


def _overtaken(subscriber: str, handled: Iterable[Written]) -> Iterator[str]:
    last: dict[str, int] = {}
    for each in handled:
        if each.key is None:
            continue
        if each.number <= last.get(each.key, 0):
            yield f"{subscriber} has handled {each.key} {each.number} behind {last[each.key]}"
        last[each.key] = each.number


def _sagas(found: Found) -> Iterator[str]:
    started = Counter(order.order_id for order in found.orders)
    for order_id in set(found.placed) ^ started.keys():
        yield f"order {order_id} was {'committed and not started' if order_id not in started else 'never committed'}"
    for order_id, times in started.items():
        if times > 1:
            yield f"order {order_id} was started {times} times"
    for order in found.orders:
        should = ONCE.get(order.ending or "")
        if should is None:
            yield f"order {order.order_id} has ended {order.ending or 'not at all'}"
        elif order.effects != should and not (order.ending == "compensated" and not order.effects):
            yield f"order {order.order_id} is {order.ending} and has {dict(order.effects)}"


def _named(each: Written) -> str:
    return f"{each.key or 'no key'} {each.number} ({each.message_id})"
