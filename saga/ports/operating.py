"""Declare what people ask of a database that sagas run on, six methods a port at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from saga._core.audit import AuditRow
from saga._core.inspecting import InstanceCount, InstanceFilter, InstancePlace, SagaRows, UntoldEnd
from saga._core.letters import LetterFilter, LetterGroup
from saga._core.rows import DeliveryRow, InstanceRow


class DeadLetters(Protocol):
    """Look after the dead letters of one database, of its services and of a coordinator alike.

    Every change writes one `saga_audit` row for each letter, in the same transaction. Raises Contended
    and Conflict: then nothing was written, and the call is safe to repeat.
    """

    async def list_dead(self, wanted: LetterFilter, *, after_id: int = 0, limit: int = 100) -> Sequence[DeliveryRow]:
        """Read a page of letters in the order of their ID, which is about the order in which they died.

        Each comes with its raw message of up to 1 MiB: keep `limit` small.
        """
        ...

    async def last_dead(self) -> int:
        """Return the highest ID of a dead letter, 0 without any: where a pass over all of them ends."""
        ...

    async def show_dead(self, letter_id: int) -> DeliveryRow | None:
        """Read one letter with its raw message, None when there is no such letter any more."""
        ...

    async def replay(self, ids: Sequence[int], *, who: str, why: str) -> int:
        """Let letters be delivered again and return how many there were; what is no dead letter is passed over.

        A service's letter keeps its row: reason RETRY, attempt 0, due now; its step or its whole delivery
        then meets gate, run and expiry like any other. One whose message waits already becomes one with that
        row. A coordinator's record leaves its row and is published again through the outbox.
        """
        ...

    async def discard(self, ids: Sequence[int], *, who: str, why: str) -> int:
        """Delete letters and return how many there were; the trail keeps where they lay, not what was in them."""
        ...

    async def group_dead(self) -> Sequence[LetterGroup]:
        """Count letters by service, step and the first 80 characters of the error; most first, at most 1,000."""
        ...


class Inspection(Protocol):
    """Read what a coordinator knows; outside of any transaction of the runtime.

    Raises SettingsError when the database belongs to no coordinator.
    """

    async def find(
        self, wanted: InstanceFilter, *, after: InstancePlace | None = None, limit: int = 100
    ) -> Sequence[InstanceRow]:
        """Read a page of sagas, newest first, behind `after`; those that nobody knows the start of come first."""
        ...

    async def counts(self) -> Sequence[InstanceCount]:
        """Count all sagas by name, version and phase."""
        ...

    async def audits(self, saga_id: str | None, *, limit: int = 100) -> Sequence[AuditRow]:
        """Read what people did, to one saga or at all, newest first; every database keeps its own."""
        ...


class Footprints(Protocol):
    """Read what a participants' database keeps of sagas; raises SettingsError when it is none."""

    async def find_runs(self, saga_id: str) -> SagaRows:
        """Read all runs, gates and waiting or dead deliveries of a saga, of every service in the database."""
        ...

    async def untold_ends(self, saga_ids: Sequence[str] = (), *, limit: int = 1_000) -> Sequence[UntoldEnd]:
        """Read whose `on_end` has failed and is tried again, of these sagas or of all; most attempts first."""
        ...


class OperatingStore(DeadLetters, Inspection, Footprints, Protocol):
    """Be a database as people look at it: an async context manager that owns its connections."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
