"""Make the calls that leave the service: actions, resolving what is in doubt, compensations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import anyio

from saga._core.answers import (
    AnswerFromOutside,
    Raised,
    Unanswerable,
    Work,
    answered,
    is_stale,
    work_of,
)
from saga._core.breaker import CallOutcome
from saga._core.definition import Binding, CompensationDefinition, StepDefinition
from saga._core.doubt import (
    Memory,
    Question,
    as_before,
    forgotten,
    is_forgotten,
    is_repeatable,
    nothing_found,
    question,
)
from saga._core.events import Event
from saga._core.participant import Turn, compensated
from saga._core.plan import Topology
from saga._core.rows import RunRow, Snapshot, TakenRun
from saga._core.run import Run
from saga._core.step import NotFound
from saga._core.words import Effects, Part
from saga._runtime.asking import Heard, ask, below, memory_of
from saga._runtime.beating import Hold
from saga._runtime.compensating import Decide, RecordedRaised, around, compensation, failing, given_up, of_recorded
from saga._runtime.context import ServiceContext
from saga._runtime.failing import following
from saga._runtime.handlers import (
    Result,
    call,
    is_broken,
    raise_if_store,
)
from saga._runtime.inputs import Values
from saga._runtime.judging import Stored, judged_call, traced
from saga._runtime.publishing import Publishing, cause_id_of, publishing_of
from saga._runtime.telling import extra_of, taking, tell_run
from saga._runtime.tracing import undoing
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.turns import write_turn
from saga.errors import Conflict, Contended, StoreUnavailable
from saga.ports import Claim, Lock, Span, SpanKind, UnitOfWork

log = logging.getLogger("saga")

STORE_TRIES = 8


class Caller:
    """Perform the pending work of leased runs, one call at a time for each.

    `called` is told when the call of a run is over, and what it has told about its dependency, None for nothing:
    what remains is to store its answer.
    """

    def __init__(self, context: ServiceContext, called: Callable[[RunRow, CallOutcome | None], None]) -> None:
        """Call for `context`'s service."""
        self._context = context
        self._called = called

    def knows(self, run: RunRow) -> bool:
        """Return whether this process has the plan of a run, and code for its step that fits."""
        plans = self._context.plans
        return (
            plans.topology(run.plan) is not None
            and run.step not in plans.fitness(self._context.service, run.plan).steps
        )

    async def perform(self, hold: Hold) -> None:
        """Do what a leased run needs next and store what came of it; raises StoreError when that was not possible."""
        context, run = self._context, hold.run
        topology = context.plans.topology(run.plan)
        assert topology is not None
        step = context.step(topology.plan.saga, topology.plan.version, run.step)
        if work_of(run) is Work.COMPENSATE:
            await self._compensate(topology, step, hold)
        else:
            await self._act(topology, step, hold)

    def _outgoing(self, run: RunRow, part: str, now: datetime) -> Publishing:
        return publishing_of(self._context, run, part, now=now, causation_id=cause_id_of(run))

    def _memory(self, called: StepDefinition | CompensationDefinition) -> Memory:
        return memory_of(called, self._context.lease_seconds)

    async def _act(self, topology: Topology, step: StepDefinition, hold: Hold) -> None:
        memory, taken = self._memory(step), hold.taken
        asked = question(taken, memory, probed=step.confirm is not None)
        heard = Heard(answer="")
        if asked is not Question.NONE:
            context = self._context
            with taking(context, step.name, Part.ACTION):
                found = await ask(context.tracer, topology, step, hold, asked, context.limits)
            if found is None:
                return  # lost: whoever has taken the run over finds out
            heard = found
        self._called(hold.run, heard.outcome)

        async def decide(unit: UnitOfWork, seen: Snapshot, current: RunRow) -> Turn:
            outgoing = self._outgoing(current, "recorded", seen.now)
            if asked is Question.NONE:
                answer: AnswerFromOutside = forgotten(memory)
            else:
                answer = await self._meaning(unit, step, taken, heard, seen.now, outgoing)
            if isinstance(answer, Unanswerable):
                self._context.count("in_doubt")
                about = extra_of(current.saga_id, current.traceparent, saga=topology.plan.saga, step=current.step)
                doubt = "%s of %s is in doubt and needs a person: %s"
                log.error(doubt, current.step, current.saga_id, answer.reason, extra=about)
            row = current if asked is Question.CALL else as_before(taken, current)
            gate = seen.gates.get(current.saga_id)
            turn = answered(topology, row, gate, seen.runs.values(), answer, seen.now)
            return replace(turn, published=tuple(outgoing.rows)) if outgoing.rows else turn

        run, span = traced(taken.run, heard.span), heard.span
        stored: Stored | None = None
        try:
            stored = await self._store(topology, run, decide)
        except Exception as error:
            wrote = step.recorded is not None and isinstance(heard.result, Event | list)
            trouble = of_recorded(heard.result, error) if wrote else None
            if trouble is None:
                raise
            # The call is answered but its rows could not be written: ask again with the same key.
            log.warning("%s of %s: recorded() raised: %s", taken.run.step, taken.run.saga_id, trouble)
            heard = Heard(answer=str(trouble), error=trouble.error)
            stored = await self._store(topology, run, decide)
        finally:
            judged_call(span, stored, heard.error, taken.run.attempt + 1)

    async def _meaning(
        self,
        unit: UnitOfWork,
        step: StepDefinition,
        taken: TakenRun,
        heard: Heard,
        now: datetime,
        outgoing: Publishing,
    ) -> AnswerFromOutside:
        """Return what was heard as an answer, its rows written by `recorded`; raises RecordedRaised."""
        memory = self._memory(step)
        if isinstance(heard.answer, NotFound):
            return nothing_found(taken, memory, attempts=step.retry.attempts, now=now)
        if isinstance(heard.answer, str):
            if is_forgotten(taken, memory, now):
                return forgotten(memory)
            return self._raised(step, taken.run, heard.error, heard.answer, now)
        if step.recorded is not None and isinstance(heard.result, Event | list):
            try:
                await self._record(step, unit, taken.run, heard.result, outgoing)
            except HandlerTrouble as trouble:
                raise RecordedRaised(trouble) from trouble
        return heard.answer

    def _raised(
        self, step: StepDefinition, run: RunRow, error: BaseException | None, text: str, now: datetime
    ) -> Raised:
        # A later key has its own first call: the window goes on from the beginning.
        since = run.created_at if run.generation else run.first_called_at or now
        after = following(self._context, step, run, error, first_at=since, now=now, what=run.step, text=text)
        return Raised(error=text, attempts=after.attempts, retry_at=after.retry_at)

    async def _record(
        self, step: StepDefinition, unit: UnitOfWork, run: RunRow, result: Result, outgoing: Publishing
    ) -> None:
        assert step.recorded is not None
        given = Run(
            saga_id=run.saga_id, step=run.step, branch=run.branch, tenant=run.tenant, door=unit, outgoing=outgoing
        )
        values: Values = {Binding.RESULT: result}
        try:
            await call(step.recorded, (Binding.RESULT, Binding.RUN), values, given, step.timeout_seconds)
        except HandlerTrouble as trouble:
            raise_if_store(trouble)
            raise

    # --- compensations ---------------------------------------------------------------------------------------

    async def _compensate(self, topology: Topology, step: StepDefinition, hold: Hold) -> None:
        undo, run = step.compensation, hold.run
        assert undo is not None
        name = f"compensate {run.step}"
        if undo.effects is Effects.EXTERNAL and not is_repeatable(hold.taken, self._memory(undo)):
            self._called(run, None)
            await self._store(topology, run, given_up(forgotten(self._memory(undo)).reason))
            return
        with self._context.tracer.span(name, SpanKind.INTERNAL, run.traceparent, undoing(run), below(run)) as span:
            tried, run = run.attempt + 1, traced(run, span)
            try:
                if undo.effects is Effects.EXTERNAL:
                    with hold.call, taking(self._context, run.step, Part.COMPENSATION):
                        await compensation(step, run, None)
                        self._called(run, CallOutcome.ANSWERED)
                    if hold.lost:
                        return

                async def succeed(unit: UnitOfWork, seen: Snapshot, current: RunRow) -> Turn:
                    if undo.effects is not Effects.LOCAL:
                        return compensated(current, seen.now)
                    outgoing = self._outgoing(current, "compensation", seen.now)
                    try:
                        with taking(self._context, run.step, Part.COMPENSATION):
                            await compensation(step, current, unit, outgoing)
                    except HandlerTrouble as trouble:
                        raise_if_store(trouble)
                        raise
                    return replace(compensated(current, seen.now), published=tuple(outgoing.rows))

                await self._store(topology, run, succeed)
            except HandlerTrouble as trouble:
                self._called(run, CallOutcome.FAILED)
                await self._store_failure(topology, step, run, trouble, span, tried)
            except Exception as error:
                if not is_broken(error):
                    raise
                await self._store_failure(topology, step, run, around(step, run, error), span, tried)

    async def _store_failure(
        self, topology: Topology, step: StepDefinition, run: RunRow, trouble: HandlerTrouble, span: Span, tried: int
    ) -> None:
        """Store that a compensation has failed, and say in its span what follows."""
        span.hold()
        stored: Stored | None = None
        try:
            stored = await self._store(topology, run, failing(self._context, step, trouble))
        finally:
            judged_call(span, stored, trouble.error, tried)

    # --- storing -----------------------------------------------------------------------------------------------

    async def _store(self, topology: Topology, run: RunRow, decide: Decide) -> Stored | None:
        """Decide and write under the exclusive lock; tried again while the database is contended or away.

        Returns what was decided and when, None when somebody else had the run by then.
        """
        context = self._context
        failures = 0
        # Only the pivot's answer may have to list what has run; a wide fan-out has thousands of runs.
        is_pivot = topology.pivot is not None and topology.pivot.name == run.step
        wanted = (run.saga_id, "", "") if is_pivot else (run.saga_id, run.step, run.branch)
        while True:
            claim = Claim(service=context.service, sagas=(run.saga_id,), lock=Lock.EXCLUSIVE)
            try:
                async with context.store.unit(claim) as unit:
                    seen = await unit.read(claim.sagas, [wanted])
                    current = seen.runs.get((run.saga_id, run.step, run.branch))
                    if current is None or is_stale(run, current):
                        context.count("stale")
                        return None
                    turn = await decide(unit, seen, current)
                    rows = await write_turn(
                        context,
                        unit,
                        topology,
                        run.saga_id,
                        turn,
                        now=seen.now,
                        expires_at=run.expires_at,
                        tenant=run.tenant,
                        traceparent=run.traceparent,
                        lane=run.lane,
                    )
            except (Contended, Conflict, StoreUnavailable) as error:
                failures += 1
                if failures > STORE_TRIES:
                    raise
                log.info("%s of %s: storing again: %s", run.step, run.saga_id, error)
                await anyio.sleep(min(5.0, 0.05 * 2.0**failures) * context.rng.random())
            else:
                context.hand_over(rows)
                tell_run(context, turn.run)
                if turn.kick or turn.release:
                    context.pending_alarm.ring()
                    context.waiting_alarm.ring()
                return turn, seen.now
