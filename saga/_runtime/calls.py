"""Make the calls that leave the service: actions, resolving what is in doubt, compensations."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import anyio

from saga._core.answers import AnswerFromOutside, Raised, Work, answered, is_stale, work_of
from saga._core.definition import Binding, StepDefinition
from saga._core.events import Event, Refusal
from saga._core.ids import idempotency_key
from saga._core.participant import Turn, compensated, compensation_raised
from saga._core.plan import Topology
from saga._core.rows import RunRow, Snapshot
from saga._core.run import Run
from saga._core.words import Effects, Purpose
from saga._runtime.context import ServiceContext
from saga._runtime.handlers import (
    HandlerTrouble,
    answer_of,
    call,
    call_compensation,
    checked,
    is_broken,
    raise_if_store,
)
from saga._runtime.turns import write_turn
from saga.errors import Conflict, Contended, StoreError, StoreUnavailable
from saga.ports import Claim, Lock, SpanKind, UnitOfWork

log = logging.getLogger("saga")

STORE_TRIES = 8

_Decide = Callable[[UnitOfWork, Snapshot, RunRow], Awaitable[Turn]]


class _RecordedRaised(Exception):
    """Leave the transaction because `recorded` raised."""

    def __init__(self, trouble: HandlerTrouble) -> None:
        self.trouble = trouble
        super().__init__(str(trouble))


def _trouble(error: Exception) -> HandlerTrouble:
    return error if isinstance(error, HandlerTrouble) else HandlerTrouble(error)


async def _compensation(step: StepDefinition, run: RunRow, unit: UnitOfWork | None) -> None:
    """Call a run's compensation; whatever goes wrong around it is a failed attempt."""
    try:
        await call_compensation(step, run, unit)
    except Exception as error:
        raise _trouble(error) from error


def dependency_of(context: ServiceContext, run: RunRow) -> str:
    """Return the name of what a run's pending work calls; "" when it calls nothing, or nothing known here."""
    topology = context.plans.topology(run.plan)
    if topology is None or context.plans.problems(context.service, run.plan):
        return ""
    step = context.step(topology.plan.saga, topology.plan.version, run.step)
    undoing = work_of(run) is Work.COMPENSATE
    called = step.dependency if not undoing else step.compensation and step.compensation.dependency
    return called.name if called else ""


class Caller:
    """Perform the pending work of leased runs, one call at a time for each.

    `called` is told when the call of a run is over: what remains is to store its answer.
    """

    def __init__(self, context: ServiceContext, called: Callable[[RunRow], None]) -> None:
        """Call for `context`'s service."""
        self._context = context
        self._called = called

    async def perform(self, run: RunRow) -> None:
        """Do what a leased run needs next and store what came of it; raises StoreError when that was not possible."""
        context = self._context
        topology = context.plans.topology(run.plan)
        if topology is None or context.plans.problems(context.service, run.plan):
            context.count("pending_parked")
            return  # leased: a replica that knows the plan takes it when the lease has passed
        plan = topology.plan
        step = context.step(plan.saga, plan.version, run.step)
        if work_of(run) is Work.COMPENSATE:
            await self._compensate(topology, step, run)
        else:
            await self._act(topology, step, run)

    async def _act(self, topology: Topology, step: StepDefinition, run: RunRow) -> None:
        purpose = Purpose.ACT if work_of(run) is Work.ACT else Purpose.RESOLVE
        attributes = {"saga.id": run.saga_id, "saga.step": run.step, "saga.purpose": purpose.value}
        with self._context.tracer.span(f"call {run.step}", SpanKind.INTERNAL, run.traceparent, attributes) as span:
            given = Run(
                saga_id=run.saga_id,
                step=run.step,
                branch=run.branch,
                attempt=run.attempt + 1,
                purpose=purpose,
                tenant=run.tenant,
                idempotency_key=idempotency_key(run.saga_id, run.step, run.branch),
            )
            result: Event | Refusal | None = None
            answer: AnswerFromOutside | str
            try:
                values = {Binding.INPUT: step.input.model_validate_json(run.input or b"{}")}
                raw = await call(step.handler, step.bindings, values, given, step.timeout_seconds)
                result = checked(raw, step)
                answer = answer_of(result)
            except Exception as error:  # noqa: BLE001 - the user's code, or what it has returned: the attempt counts
                trouble = _trouble(error)
                span.fail(trouble.error)
                answer, result = str(trouble), None
            self._called(run)
            await self._store_answer(topology, step, run, answer, result)

    async def _store_answer(
        self,
        topology: Topology,
        step: StepDefinition,
        run: RunRow,
        answer: AnswerFromOutside | str,
        result: Event | Refusal | None,
    ) -> None:
        async def decide(unit: UnitOfWork, seen: Snapshot, current: RunRow) -> Turn:
            nonlocal answer
            if step.recorded is not None and isinstance(result, Event) and not isinstance(answer, str):
                try:
                    await self._record(step, unit, run, result)
                except HandlerTrouble as trouble:
                    raise _RecordedRaised(trouble) from trouble
            known = self._raised(step, run, answer, seen.now) if isinstance(answer, str) else answer
            gate = seen.gates.get(run.saga_id)
            return answered(topology, current, gate, seen.runs.values(), known, seen.now)

        try:
            await self._store(topology, run, decide)
        except _RecordedRaised as raised:
            # The call is answered but its rows could not be written: ask again with the same key.
            log.warning("%s of %s: recorded() raised: %s", run.step, run.saga_id, raised.trouble)
            answer, result = str(raised.trouble), None
            await self._store(topology, run, decide)

    def _raised(self, step: StepDefinition, run: RunRow, error: str, now: datetime) -> Raised:
        pause = step.retry.delay_seconds(run.attempt + 1, self._context.rng.random())
        self._context.pending_alarm.ring(pause)
        self._context.count("retried")
        log.warning("%s of %s: call %d: %s", run.step, run.saga_id, run.attempt + 1, error)
        return Raised(error=error, attempts=step.retry.attempts, retry_at=now + timedelta(seconds=pause))

    async def _record(self, step: StepDefinition, unit: UnitOfWork, run: RunRow, result: Event) -> None:
        assert step.recorded is not None
        given = Run(saga_id=run.saga_id, step=run.step, branch=run.branch, tenant=run.tenant, door=unit)
        values = {Binding.RESULT: result}
        try:
            await call(step.recorded, (Binding.RESULT, Binding.RUN), values, given, step.timeout_seconds)
        except HandlerTrouble as trouble:
            raise_if_store(trouble)
            raise

    # --- compensations ---------------------------------------------------------------------------------------

    async def _compensate(self, topology: Topology, step: StepDefinition, run: RunRow) -> None:
        undo = step.compensation
        assert undo is not None
        attributes = {"saga.id": run.saga_id, "saga.step": run.step}
        name = f"compensate {run.step}"
        with self._context.tracer.span(name, SpanKind.INTERNAL, run.traceparent, attributes) as span:
            try:
                if undo.effects is Effects.EXTERNAL:
                    await _compensation(step, run, None)
                    self._called(run)

                async def succeed(unit: UnitOfWork, seen: Snapshot, current: RunRow) -> Turn:
                    if undo.effects is Effects.LOCAL:
                        try:
                            await _compensation(step, current, unit)
                        except HandlerTrouble as trouble:
                            raise_if_store(trouble)
                            raise
                    return compensated(current, seen.now)

                await self._store(topology, run, succeed)
            except HandlerTrouble as trouble:
                span.fail(trouble.error)
                self._called(run)
                await self._store(topology, run, self._failing(step, str(trouble)))
            except StoreError as error:
                if not is_broken(error):
                    raise
                await self._store(topology, run, self._failing(step, str(HandlerTrouble(error))))

    def _failing(self, step: StepDefinition, error: str) -> _Decide:
        undo = step.compensation
        assert undo is not None

        async def fail(unit: UnitOfWork, seen: Snapshot, current: RunRow) -> Turn:
            del unit
            pause = undo.retry.delay_seconds(current.attempt + 1, self._context.rng.random())
            self._context.pending_alarm.ring(pause)
            log.warning("compensation of %s of %s: %s", current.step, current.saga_id, error)
            retry_at = seen.now + timedelta(seconds=pause)
            return compensation_raised(current, error, attempts=undo.retry.attempts, retry_at=retry_at)

        return fail

    # --- storing -----------------------------------------------------------------------------------------------

    async def _store(self, topology: Topology, run: RunRow, decide: _Decide) -> None:
        """Decide and write under the exclusive lock; tried again while the database is contended or away."""
        context = self._context
        failures = 0
        while True:
            claim = Claim(service=context.service, sagas=(run.saga_id,), lock=Lock.EXCLUSIVE)
            try:
                async with context.store.unit(claim) as unit:
                    seen = await unit.read(claim.sagas, [(run.saga_id, "", "")])
                    current = seen.runs.get((run.saga_id, run.step, run.branch))
                    if current is None or is_stale(run, current):
                        context.count("stale")
                        return
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
                    )
            except (Contended, Conflict, StoreUnavailable) as error:
                failures += 1
                if failures > STORE_TRIES:
                    raise
                log.info("%s of %s: storing again: %s", run.step, run.saga_id, error)
                await anyio.sleep(min(5.0, 0.05 * 2.0**failures) * context.rng.random())
            else:
                context.hand_over(rows)
                if turn.kick or turn.release:
                    context.pending_alarm.ring()
                    context.waiting_alarm.ring()
                return
