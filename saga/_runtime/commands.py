"""Obey the coordinator: close and undo, each in a transaction of its own under the exclusive lock."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

import anyio

from saga._core.bodies import Close, Command, Hold, Keep, Release, ResolveRun, RetryRun, SkipRun, Undo
from saga._core.commands import decode_command
from saga._core.interventions import intervene, unfit
from saga._core.participant import Compensate, Turn, close, compensated, compensation_raised, undo
from saga._core.rows import Changes, DeliveryRow, RunRow, Snapshot
from saga._core.words import Mark, Part, Reason, RunKey
from saga._runtime.compensating import around
from saga._runtime.context import ServiceContext
from saga._runtime.failing import following
from saga._runtime.given import misfit_of
from saga._runtime.handlers import call_compensation, is_broken, raise_if_store
from saga._runtime.items import CommandItem
from saga._runtime.publishing import publishing_of
from saga._runtime.telling import taking, tell_run
from saga._runtime.tracing import NO_SPAN, came_of, rolled_back, undoing
from saga._runtime.trouble import HandlerTrouble
from saga._runtime.turns import write_turn
from saga.errors import Gone, StoreError
from saga.ports import Claim, Lock, Span, SpanKind, UnitOfWork

log = logging.getLogger("saga")

PAUSE_CAP_SECONDS = 5.0


class CommandRunner:
    """Bring commands to an end; both kinds are idempotent and reply again when repeated."""

    def __init__(self, context: ServiceContext) -> None:
        """Serve one service."""
        self._context = context

    async def obey(self, item: CommandItem) -> None:
        """Return once the command's effect and its reply are committed; waits as long as the database is away."""
        failures = 0
        failed: HandlerTrouble | None = None
        try:
            while True:
                try:
                    await self._transact(item, failed)
                except HandlerTrouble as trouble:
                    failed = trouble
                except Gone:
                    # The row that the command came from: another replica, or a commit without an answer, has obeyed it.
                    return
                except StoreError as error:
                    failures += 1
                    if is_broken(error) and failed is None:
                        failed = HandlerTrouble(error)
                        continue
                    log.info("%s: command tried again: %s", self._context.service, error)
                    await anyio.sleep(min(PAUSE_CAP_SECONDS, 0.05 * 2.0**failures) * self._context.rng.random())
                except Exception as error:
                    if failed is not None:
                        raise
                    # A constraint that is looked at only at COMMIT, most likely: what was written is the handler's.
                    failed = HandlerTrouble(error)
                else:
                    return
        finally:
            if failed is not None:
                rolled_back(failed.span, failed.error)  # where nothing has come of it, and it is done again

    async def _transact(self, item: CommandItem, failed: HandlerTrouble | None) -> None:
        context = self._context
        saga_id = item.envelope.saga_id
        command = decode_command(item.envelope.kind, item.envelope.payload)
        claim = Claim(service=context.service, sagas=(saga_id,), lock=Lock.EXCLUSIVE)
        about = ("saga.command", item.envelope.kind.value)
        async with context.store.unit(claim) as unit:
            # An undo is about one run, and a wide fan-out has thousands; the others go by all of the saga's.
            wanted = (saga_id, command.step, command.branch) if isinstance(command, Undo) else (saga_id, "", "")
            seen = await unit.read(claim.sagas, [wanted])
            with context.tracer.process(item.delivery, item.envelope, about, seen.now) as span:
                if item.envelope.step:
                    span.set("saga.step", item.envelope.step)
                gate = seen.gates.get(saga_id)
                if isinstance(command, Undo) and gate is not None and gate.mark is Mark.HELD:
                    await unit.write(_aside(context.service, item, seen.now, Reason.HELD, "its saga is held"))
                    return
                turn = await self._turn(unit, item, command, seen, failed, span.traceparent)
                if turn.run is not None and (misfit := misfit_of(context, item.topology, command)):
                    log.warning("%s of %s: %s", turn.run.step, saga_id, misfit)
                    said = unfit(item.topology, seen.runs.get((saga_id, turn.run.step, turn.run.branch)), misfit)
                    if said is None:
                        context.count("dead")
                        await unit.write(_aside(context.service, item, seen.now, Reason.DEAD, misfit))
                        return
                    turn = said
                if isinstance(command, Undo) and turn.run is not None and span.traceparent:
                    # What is called outside to undo it hangs below the command, and not below the way forward.
                    turn = replace(turn, run=replace(turn.run, traceparent=span.traceparent))
                rows = await write_turn(
                    context,
                    unit,
                    item.topology,
                    saga_id,
                    turn,
                    now=seen.now,
                    expires_at=item.envelope.expires_at or seen.now,
                    tenant=item.envelope.tenant,
                    traceparent=span.traceparent,
                    lane=item.envelope.lane,
                    used_row=item.row.id if item.row is not None else None,
                )
        context.hand_over(rows)
        tell_run(context, turn.run)
        if turn.kick:
            context.pending_alarm.ring()
        if turn.release:
            context.waiting_alarm.ring()

    async def _turn(
        self,
        unit: UnitOfWork,
        item: CommandItem,
        command: Command,
        seen: Snapshot,
        failed: HandlerTrouble | None,
        traceparent: str,
    ) -> Turn:
        saga_id, service = item.envelope.saga_id, self._context.service
        gate = seen.gates.get(saga_id)
        expires_at = item.envelope.expires_at or seen.now
        match command:
            case Close():
                runs = seen.runs.values()
                return close(item.topology, service, saga_id, gate=gate, runs=runs, expires_at=expires_at, now=seen.now)
            case Undo(step=step, branch=branch):
                run = seen.runs.get((saga_id, step, branch))
                key = RunKey(step=step, branch=branch)
                decided = undo(
                    item.topology,
                    service,
                    saga_id,
                    key,
                    gate=gate,
                    run=run,
                    expires_at=expires_at,
                    now=seen.now,
                )
                if isinstance(decided, Compensate):
                    return await self._compensate(unit, item, decided, seen, failed, traceparent)
                return decided
            case Hold() | Release() | Keep() | RetryRun() | SkipRun() | ResolveRun():
                return intervene(
                    item.topology,
                    service,
                    saga_id,
                    command,
                    gate=gate,
                    runs={run.key: run for run in seen.runs.values()},
                    expires_at=expires_at,
                    now=seen.now,
                )

    async def _compensate(
        self,
        unit: UnitOfWork,
        item: CommandItem,
        decided: Compensate,
        seen: Snapshot,
        failed: HandlerTrouble | None,
        traceparent: str,
    ) -> Turn:
        plan = item.topology.plan
        step = self._context.step(plan.saga, plan.version, decided.run.step)
        assert step.compensation is not None
        if failed is not None:
            if failed.span is NO_SPAN:
                failed = around(step, decided.run, failed.error)
            undo, text = step.compensation, str(failed)
            # What the row says of calls was the action's: from now on it is the compensation's.
            run = replace(decided.run, attempt=0, first_called_at=seen.now, called_at=seen.now)
            what = f"compensation of {run.step}"
            after = following(
                self._context, undo, run, failed.error, first_at=seen.now, now=seen.now, what=what, text=text
            )
            turn = compensation_raised(run, text, attempts=after.attempts, retry_at=after.retry_at)
            if failed.span is NO_SPAN:  # its transaction was broken, and what it had recorded ended with that
                with self._compensating(decided.run, traceparent) as failed.span:
                    failed.span.hold()
            came_of(failed.span, after.verdict_of(is_over=bool(turn.reports)), failed.error, 1, seen.now)
            return _with_gate(turn, decided)
        with self._compensating(decided.run, traceparent) as span:
            run = replace(decided.run, traceparent=span.traceparent)
            outgoing = publishing_of(self._context, run, "compensation", now=seen.now, causation_id=item.envelope.id)
            try:
                with taking(self._context, run.step, Part.COMPENSATION):
                    await call_compensation(step, decided.run, unit, outgoing)
            except HandlerTrouble as trouble:
                raise_if_store(trouble)
                span.hold()
                trouble.span = span
                raise
        return replace(_with_gate(compensated(decided.run, seen.now), decided), published=tuple(outgoing.rows))

    def _compensating(self, run: RunRow, parent: str) -> AbstractContextManager[Span]:
        return self._context.tracer.span(f"compensate {run.step}", SpanKind.INTERNAL, parent, undoing(run))


def _aside(service: str, item: CommandItem, now: datetime, reason: Reason, error: str) -> Changes:
    """Return the command as a row: one that waits for the release of its saga, or that can never be obeyed."""
    row = DeliveryRow(
        service=service,
        saga_id=item.envelope.saga_id,
        due_at=now,
        reason=reason,
        step=item.envelope.step if reason is Reason.DEAD else "",
        error=error,
        message_id=item.envelope.id,
        raw=item.delivery,
    )
    if item.row is None:
        return Changes(insert_deliveries=(row,))
    return Changes(update_deliveries=(replace(row, id=item.row.id, attempt=item.row.attempt),))


def _with_gate(turn: Turn, decided: Compensate) -> Turn:
    return Turn(run=turn.run, gate=decided.gate, reports=turn.reports)
