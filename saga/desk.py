"""Do something about sagas: `async with SagaDesk("postgresql://…") as desk:` in any program."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

import anyio

from outbox.urls import open_coordination_store, open_operating_store
from saga._core.events import Event, Refusal
from saga._core.inspecting import InstanceFilter, InstancePlace, place_of
from saga._core.planning import plan_from_json
from saga._core.rows import CoordinatorChanges, InstanceRow, OutboxRow
from saga._core.trail import audit_of, target_of, word_of
from saga._core.verbs import CancelSaga, HoldSaga, ReleaseSaga, ResolveStep, RetryStep, SkipStep, Verb
from saga._core.words import RunKey, Verdict
from saga._runtime.folding import Folded, Folder
from saga._runtime.given import Shapes
from saga._runtime.metering import NullMeter
from saga._runtime.planbook import PlanBook
from saga._runtime.telling import tell_sagas
from saga.errors import Conflict, Contended, SettingsError, StoreUnavailable, VerbRefused
from saga.operating import check_signed
from saga.ports import CoordinationStore, Inspection
from saga.telemetry import open_tracer

__all__ = [
    "Acted",
    "CancelSaga",
    "Given",
    "HoldSaga",
    "Mode",
    "ReleaseSaga",
    "ResolveStep",
    "Result",
    "RetryStep",
    "RunKey",
    "SagaDesk",
    "SkipStep",
    "Verb",
    "Verdict",
]

PAGE = 100
TRIES = 8
PAUSE_SECONDS = 0.02

HandOver = Callable[[Sequence[OutboxRow]], None]


class Mode(StrEnum):
    """Say whether a verb is done, or only what it would do."""

    DO = "do"
    DRY_RUN = "dry_run"


class Result(StrEnum):
    """Say what came of a verb for one saga; UNCHANGED when it was so already."""

    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """Tell what a verb has done to one saga, or would do; `sentence` is for people."""

    saga_id: str
    result: Result
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Be a result as it stands on the wire, such as `payment.captured.v1` with a JSON object."""

    type: str
    payload: bytes


class SagaDesk:
    """Retry, skip, resolve, cancel, hold and release the sagas of one coordinator; an async context manager.

    Each verb is one transaction with the saga's instance, its commands, and a row of the audit trail. What it sends
    goes out within five seconds by the coordinator's relay. Verbs return what they did; those that cannot be done
    raise VerbRefused, and then nothing was written. All raise SettingsError for an empty `who` or `why`,
    StoreUnavailable, and Conflict or Contended when others were at the saga eight times; all are safe to repeat.
    """

    def __init__(
        self,
        store: str | CoordinationStore,
        *,
        inspection: Inspection | None = None,
        hand_over: HandOver | None = None,
        events: Iterable[type[Event | Refusal]] = (),
    ) -> None:
        """Check the coordinator's URL without connecting, or take an open store, which stays its owner's.

        Then `each` needs `inspection` too. `hand_over` gets what was committed, to publish it at once. A result that
        is given and does not fit its class in `events` is refused; of others their service checks it.
        """
        self._url = store if isinstance(store, str) else ""
        if isinstance(store, str):
            open_coordination_store(store)
        self._store = None if isinstance(store, str) else store
        self._inspection = inspection
        self._hand_over: HandOver = hand_over or _leave_to_the_sweep
        self._stack: AsyncExitStack | None = None
        self._book = PlanBook()
        self._folder = Folder(self._book, open_tracer())
        self._shapes = Shapes(events)

    async def __aenter__(self) -> Self:
        """Connect; raises SettingsError when the database is no coordinator's, StoreUnavailable."""
        async with AsyncExitStack() as stack:
            if self._url:
                opened = await stack.enter_async_context(open_operating_store(self._url))
                await opened.find(InstanceFilter(), limit=1)
                self._inspection = opened
                self._store = await stack.enter_async_context(open_coordination_store(self._url))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    # --- one saga ------------------------------------------------------------------------------------------------

    async def retry(
        self, saga_id: str, step: str = "", branch: str = "", *, who: str, why: str, mode: Mode = Mode.DO
    ) -> Acted:
        """Try again at once what has failed or waits for an attempt; without a step, all that the saga waits for.

        An outside compensation that was given up is called again, maybe under a key that nobody remembers.
        """
        return await self.act(saga_id, RetryStep(key=RunKey(step=step, branch=branch)), who=who, why=why, mode=mode)

    async def skip(
        self,
        saga_id: str,
        step: str,
        branch: str = "",
        *,
        result: Event | Given | None = None,
        who: str,
        why: str,
        mode: Mode = Mode.DO,
    ) -> Acted:
        """Count a run as undone, or as done with `result`, without calling anything.

        A service's name in place of a step counts a service that came too late to close as closed.
        """
        given = _given(result)
        key = RunKey(step=step, branch=branch)
        verb = SkipStep(key=key, reason=why, result_type=given.type, result=given.payload)
        return await self.act(saga_id, verb, who=who, why=why, mode=mode)

    async def resolve(
        self,
        saga_id: str,
        step: str,
        branch: str = "",
        *,
        verdict: Verdict,
        result: Event | Refusal | Given | None = None,
        who: str,
        why: str,
        mode: Mode = Mode.DO,
    ) -> Acted:
        """Say what came of an outside call: it has happened with `result`, or it has not and never will."""
        given = _given(result)
        key = RunKey(step=step, branch=branch)
        verb = ResolveStep(key=key, reason=why, verdict=verdict, result_type=given.type, result=given.payload)
        return await self.act(saga_id, verb, who=who, why=why, mode=mode)

    async def cancel(self, saga_id: str, *, who: str, why: str, mode: Mode = Mode.DO) -> Acted:
        """Undo the saga, unless its pivot has run."""
        return await self.act(saga_id, CancelSaga(reason=why), who=who, why=why, mode=mode)

    async def hold(self, saga_id: str, *, who: str, why: str, mode: Mode = Mode.DO) -> Acted:
        """Let nothing more of the saga begin until it is released."""
        return await self.act(saga_id, HoldSaga(), who=who, why=why, mode=mode)

    async def release(self, saga_id: str, *, who: str, why: str, mode: Mode = Mode.DO) -> Acted:
        """Go on with a held saga."""
        return await self.act(saga_id, ReleaseSaga(), who=who, why=why, mode=mode)

    async def act(self, saga_id: str, verb: Verb, *, who: str, why: str, mode: Mode = Mode.DO) -> Acted:
        """Do what a verb says to one saga; the methods above are short for it."""
        check_signed(who, why)
        for tries in range(1, TRIES + 1):
            stored = await self._load(saga_id)
            now = await self._open.now()
            folded, verbs = self._folder.act(stored, verb, now)
            unknown = self._shapes.check(verb)
            if mode is Mode.DO and folded.row is not stored:
                audits = tuple(audit_of(each, stored, folded.row, who=who, why=why, at=now) for each in verbs)
                changes = CoordinatorChanges(instances=(folded.row,), outbox=folded.outbox, audits=audits)
                try:
                    seqs = await self._open.write(changes)
                except (Conflict, Contended):
                    if tries == TRIES:
                        raise
                    await anyio.sleep(PAUSE_SECONDS * 2.0**tries)
                    continue
                self._hand_over([replace(row, seq=seq) for row, seq in zip(folded.outbox, seqs, strict=True)])
                tell_sagas(NullMeter(), [folded])
            return _acted(stored, folded, verbs, unknown if mode is Mode.DRY_RUN else "")
        raise AssertionError("unreachable")

    # --- many sagas ----------------------------------------------------------------------------------------------

    async def each(
        self,
        wanted: InstanceFilter,
        verb: Verb,
        *,
        who: str,
        why: str,
        limit: int | None = None,
        mode: Mode = Mode.DO,
    ) -> AsyncGenerator[Acted]:
        """Do what a verb says to each saga of a filter, newest first, at most `limit`, and yield what came of it.

        What cannot be done is yielded as REFUSED with the sentence. Every saga is a transaction of its own, so
        stopping anywhere, and beginning again, is safe. A retry with the key `RunKey(step="")` is of all that a
        saga waits for; a verb with a step but no branch is of those branches that the saga waits for.
        """
        check_signed(who, why)
        if self._inspection is None:
            raise SettingsError("each() has to look for sagas: open the desk by URL, or give it inspection= too")
        after: InstancePlace | None = None
        left = limit
        while left is None or left > 0:
            rows = await self._inspection.find(wanted, after=after, limit=PAGE if left is None else min(PAGE, left))
            for row in rows:
                try:
                    yield await self.act(row.saga_id, verb, who=who, why=why, mode=mode)
                except VerbRefused as refused:
                    yield Acted(saga_id=row.saga_id, result=Result.REFUSED, sentence=str(refused))
            if not rows:
                return
            after = place_of(rows[-1])
            left = None if left is None else left - len(rows)

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> CoordinationStore:
        if self._store is None or self._stack is None:
            raise StoreUnavailable("the desk is not open: use it inside `async with desk:`")
        return self._store

    async def _load(self, saga_id: str) -> InstanceRow:
        stored = (await self._open.load([saga_id])).get(saga_id)
        if stored is None:
            raise VerbRefused(f"this coordinator knows no saga {saga_id}: look at the ID, and at the database's URL")
        if self._book.topology(stored.plan) is None:
            for plan in await self._open.put_plans(()):
                self._book.learn(plan_from_json(plan.body))
        return stored


def _leave_to_the_sweep(rows: Sequence[OutboxRow]) -> None:
    del rows


def _given(result: Event | Refusal | Given | None) -> Given:
    if result is None:
        return Given(type="", payload=b"")
    if isinstance(result, Given):
        return result
    return Given(type=result.wire_type, payload=result.model_dump_json(by_alias=True).encode())


def _acted(stored: InstanceRow, folded: Folded, verbs: Sequence[Verb], unknown: str) -> Acted:
    if folded.row is stored:
        return Acted(saga_id=stored.saga_id, result=Result.UNCHANGED, sentence="nothing to do: it is so already")
    told = [f"{word_of(verb)} {target}" if (target := target_of(verb)) else word_of(verb) for verb in verbs]
    moved = f"{stored.phase} -> {folded.row.phase}" if stored.phase != folded.row.phase else stored.phase
    sent = [f"{row.type.removeprefix('saga.')} to {row.aggregatetype.partition('.')[0]}" for row in folded.outbox]
    parts = [", ".join(told), moved, f"sends {', '.join(sent)}" if sent else "", unknown]
    sentence = "; ".join(filter(None, parts))
    return Acted(saga_id=stored.saga_id, result=Result.DONE, sentence=sentence)
