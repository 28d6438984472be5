"""Find out why what was published is not acknowledged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

import anyio

from saga.errors import TransportError, TransportRefused, TransportUnavailable
from saga.ports import TopicSpec
from transports.kafka.admin import Admin, checked
from transports.kafka.probe import PROBE_SECONDS, Probe
from transports.kafka.settings import KafkaSettings
from transports.kafka.topics import Weight

_KEEP_SECONDS = 5.0


class Lateness:
    """Ask the cluster for the reason, once for all who wait, and at most every 5 s."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap = bootstrap
        self._settings = replace(settings, connect_timeout_seconds=2.0, query_timeout_seconds=2.0)
        self._probe = Probe(bootstrap, settings)
        self._asking = anyio.Lock()
        self._known: TransportError | None = None
        self._asked_at: float | None = None

    async def why(self, topics: Collection[str]) -> TransportError | None:
        """Return which broker is away and which topic has too few replicas, None for neither; in about 5 s."""
        async with self._asking:
            now = anyio.current_time()
            if self._asked_at is None or now - self._asked_at > _KEEP_SECONDS:
                self._known = await self._ask(topics)
                self._asked_at = anyio.current_time()
            return self._known

    async def _ask(self, topics: Collection[str]) -> TransportError | None:
        found: list[TransportError] = []

        async def ask(question: Callable[[], Awaitable[TransportError | None]]) -> None:
            answer = await question()
            if answer is not None:
                found.append(answer)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, self._probe.why)
            tasks.start_soon(ask, lambda: self._replicas(topics))
        kind = TransportRefused if any(isinstance(one, TransportRefused) for one in found) else TransportUnavailable
        return kind("; ".join(map(str, found))) if found else None

    async def _replicas(self, topics: Collection[str]) -> TransportError | None:
        specs = [TopicSpec(name=name, partitions=0) for name in topics]
        admin = Admin(self._bootstrap, self._settings)
        with anyio.move_on_after(PROBE_SECONDS):
            try:
                await admin.start()
                found = await checked(admin, self._bootstrap, specs, *await admin.topics(), self._settings)
            except TransportError:
                return None  # the probe says why
            finally:
                await admin.stop()
            wrong = [finding.text for finding in found if finding.weight is Weight.UNAVAILABLE]
            return TransportUnavailable("; ".join(wrong)) if wrong else None
        return None
