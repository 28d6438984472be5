"""Be one member of a group, in a process of its own; takes bootstrap, group, slot and topic.

Joins at a line on standard input, so that how long Python takes to start does not count. Prints how long joining
took once its first delivery is there, and goes on reading until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping

from saga.ports import GroupSpec, TopicPartition
from transports.kafka import KafkaSettings, KafkaTransport


async def assigned(_: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
    return {}


async def revoked(_: frozenset[TopicPartition]) -> None:
    return


async def main(bootstrap: str, group: str, slot: str, topic: str) -> None:
    settings = KafkaSettings(session_seconds=6.0)  # the heartbeat as it is by default
    spec = GroupSpec(name=group, slot=slot, topics=(topic,))
    began = time.monotonic()
    async with (
        KafkaTransport(bootstrap, settings=settings) as transport,
        transport.subscribe(spec, on_assigned=assigned, on_revoked=revoked) as one,
    ):
        told = False
        while True:
            found = await one.fetch(100, 1.0)
            await one.commit({TopicPartition(topic=d.topic, partition=d.partition): d.offset + 1 for d in found})
            if found and not told:
                told = True
                sys.stdout.write(f"{time.monotonic() - began:.3f}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    sys.stdin.readline()
    asyncio.run(main(*sys.argv[1:]))
