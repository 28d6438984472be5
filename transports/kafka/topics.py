"""Compare the topics that must exist with those that do; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from saga.errors import TransportRefused, TransportUnavailable
from saga.ports import Cleanup, TopicSpec
from transports.kafka.settings import KafkaSettings

CLEANUP, RETENTION, RETENTION_BYTES = "cleanup.policy", "retention.ms", "retention.bytes"
IN_SYNC, MESSAGE_BYTES = "min.insync.replicas", "max.message.bytes"
CHECKED = (CLEANUP, RETENTION, RETENTION_BYTES, IN_SYNC, MESSAGE_BYTES)

# A reader that was away for longer has lost events; where no topic says more, a day is the least.
_SHORT_RETENTION_SECONDS = 86_400.0
_COPIES = 3


class Weight(StrEnum):
    """Say what a finding means: never to be used like this, not at the moment, or at a risk."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Say in a sentence what is wrong with a topic and what mends it; `command` is that alone, "" where none does."""

    weight: Weight
    text: str
    topic: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFound:
    """Describe a topic as it is: `replicas` and `in_sync` of its worst partition; no settings if not allowed to ask."""

    partitions: int
    replicas: int
    in_sync: int
    settings: Mapping[str, str] | None


def findings(
    bootstrap: str,
    specs: Sequence[TopicSpec],
    found: Mapping[str, TopicFound],
    brokers: int,
    settings: KafkaSettings,
) -> tuple[Finding, ...]:
    """Return what is wrong with those topics that exist; more partitions than asked for are fine."""
    return tuple(
        finding
        for spec in specs
        if spec.name in found
        for finding in (
            *_shape(bootstrap, spec, found[spec.name], brokers),
            *_settings(bootstrap, spec, found[spec.name], settings),
        )
    )


def raise_findings(found: Sequence[Finding]) -> None:
    """Raise for what forbids to go on: TransportRefused before TransportUnavailable; warnings pass."""
    for weight, kind in ((Weight.REFUSED, TransportRefused), (Weight.UNAVAILABLE, TransportUnavailable)):
        texts = [finding.text for finding in found if finding.weight is weight]
        if texts:
            raise kind("; ".join(texts))


def creation(spec: TopicSpec, replication_factor: int) -> tuple[int, dict[str, str]]:
    """Return the number of partitions and the settings a topic is created with."""
    settings = {CLEANUP: spec.cleanup.value}
    if spec.retention_seconds is not None:
        settings[RETENTION] = str(int(spec.retention_seconds * 1000))
    if replication_factor >= _COPIES:
        settings[IN_SYNC] = str(replication_factor - 1)
    return spec.partitions, settings


def _shape(bootstrap: str, spec: TopicSpec, topic: TopicFound, brokers: int) -> Iterator[Finding]:
    if topic.partitions < spec.partitions:
        command = f"kafka-topics --bootstrap-server {bootstrap} --alter --topic {spec.name}"
        yield Finding(
            weight=Weight.REFUSED,
            text=f"topic {spec.name!r}: partitions is {topic.partitions}, wanted at least {spec.partitions}; "
            f"run {command} --partitions {spec.partitions}",
            topic=spec.name,
            command=f"{command} --partitions {spec.partitions}",
        )
    if topic.replicas == 1 and brokers > 1:
        yield Finding(
            weight=Weight.WARNING,
            text=f"topic {spec.name!r}: replication factor is 1 on {brokers} brokers, wanted {min(brokers, _COPIES)}: "
            "the crash of one broker stops it and may lose it; have it reassigned (kafka-reassign-partitions), "
            "and create topics with ?replication_factor=3",
            topic=spec.name,
            command=f"kafka-reassign-partitions --bootstrap-server {bootstrap} --execute "
            f"--reassignment-json-file {spec.name}.json",
        )


def _settings(bootstrap: str, spec: TopicSpec, topic: TopicFound, limits: KafkaSettings) -> Iterator[Finding]:
    if topic.settings is None:
        text = f"topic {spec.name!r}: its settings cannot be checked; grant DescribeConfigs on it (kafka-acls --add)"
        who = f"User:{limits.user or 'ANONYMOUS'}"
        command = f"kafka-acls --bootstrap-server {bootstrap} --add --allow-principal {who} --operation DescribeConfigs"
        yield Finding(weight=Weight.WARNING, text=text, topic=spec.name, command=f"{command} --topic {spec.name}")
        return

    def wrong(weight: Weight, setting: str, wanted: str, value: str, why: str = "") -> Finding:
        present = (topic.settings or {}).get(setting)
        command = f"kafka-configs --bootstrap-server {bootstrap} --alter --entity-type topics"
        return Finding(
            weight=weight,
            text=f"topic {spec.name!r}: {setting} is {present}, wanted {wanted}{why and ': '}{why}; "
            f"run {command} --entity-name {spec.name} --add-config {setting}={value}",
            topic=spec.name,
            command=f"{command} --entity-name {spec.name} --add-config {setting}={value}",
        )

    policy = topic.settings.get(CLEANUP)
    if policy is not None and set(policy.replace(" ", "").split(",")) != {spec.cleanup.value}:
        yield wrong(Weight.REFUSED, CLEANUP, spec.cleanup, spec.cleanup)
    elif spec.cleanup is Cleanup.DELETE:
        wanted_ms = int((spec.retention_seconds or _SHORT_RETENTION_SECONDS) * 1000)
        if 0 <= _number(topic, RETENTION) < wanted_ms:
            weight = Weight.WARNING if spec.retention_seconds is None else Weight.REFUSED
            why = "a reader that was away for longer has lost events"
            yield wrong(weight, RETENTION, f"at least {wanted_ms}", str(wanted_ms), why)
        if _number(topic, RETENTION_BYTES) >= 0:
            why = "events go with their number, whether they were read or not"
            yield wrong(Weight.WARNING, RETENTION_BYTES, "-1", "-1", why)
    largest = max(limits.max_message_bytes, limits.batch_bytes)
    if 0 <= _number(topic, MESSAGE_BYTES) < largest:
        why = "or a smaller max_message_bytes (and batch_bytes) in KafkaSettings"
        yield wrong(Weight.REFUSED, MESSAGE_BYTES, f"at least {largest}", str(largest), why)
    yield from _copies(topic, wrong)


def _copies(topic: TopicFound, wrong: Callable[[Weight, str, str, str, str], Finding]) -> Iterator[Finding]:
    needed = _number(topic, IN_SYNC)
    enough = str(max(topic.replicas - 1, 1))
    if needed > topic.replicas:
        why = f"there are {topic.replicas} replicas, so nothing can be published"
        yield wrong(Weight.REFUSED, IN_SYNC, f"at most {topic.replicas}", enough, why)
    elif needed > topic.in_sync:
        why = (
            f"{topic.in_sync} of {topic.replicas} replicas are in sync, so nothing can be published: start the brokers"
        )
        yield wrong(Weight.UNAVAILABLE, IN_SYNC, f"at most {topic.in_sync} for the moment", enough, why)
    elif topic.replicas >= _COPIES and needed == 1:
        why = "an event that one broker has counts as published, and dies with it"
        yield wrong(Weight.WARNING, IN_SYNC, enough, enough, why)
    elif 1 < needed == topic.replicas:
        yield wrong(Weight.WARNING, IN_SYNC, enough, enough, "the crash of one broker stops publishing")


def _number(topic: TopicFound, setting: str) -> int:
    """Return a setting's number, -1 where there is none."""
    value = (topic.settings or {}).get(setting)
    return int(value) if value is not None else -1
