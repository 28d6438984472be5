"""Compare the topics that must exist with those that do; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saga.ports import TopicSpec


def problems(specs: Sequence[TopicSpec], partitions: Mapping[str, int], policies: Mapping[str, str]) -> list[str]:
    """Return a sentence for every existing topic that cannot serve; more partitions than asked for are fine."""
    found: list[str] = []
    for spec in specs:
        if spec.name not in partitions:
            continue
        if partitions[spec.name] < spec.partitions:
            found.append(
                f"topic {spec.name!r}: partitions is {partitions[spec.name]}, wanted at least {spec.partitions}"
            )
        policy = policies.get(spec.name)
        if policy is not None and set(policy.replace(" ", "").split(",")) != {spec.cleanup.value}:
            found.append(f"topic {spec.name!r}: cleanup.policy is {policy}, wanted {spec.cleanup}")
    return found


def creation(spec: TopicSpec) -> tuple[int, dict[str, str]]:
    """Return the number of partitions and the settings a topic is created with."""
    settings = {"cleanup.policy": spec.cleanup.value}
    if spec.retention_seconds is not None:
        settings["retention.ms"] = str(int(spec.retention_seconds * 1000))
    return spec.partitions, settings
