"""Call users' handlers: arguments bound, time bounded, results checked, errors told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import anyio
import anyio.lowlevel
from pydantic import BaseModel

from saga._core.answers import Emitted, Refused
from saga._core.definition import Binding, Bindings, Handler, StepDefinition
from saga._core.events import Event, Refusal
from saga._core.frozen import builder
from saga._core.gathering import array_of
from saga._core.ids import idempotency_key
from saga._core.limits import DEFAULT_LIMITS, Limits
from saga._core.rows import RunRow
from saga._core.run import Database, Door, Outgoing, Run, SessionTurn, session_of
from saga._core.words import UndoStatus
from saga._runtime.clock import Timer
from saga._runtime.inputs import inputs_of_run, result_of_run
from saga._runtime.trouble import HandlerTrouble
from saga.errors import Conflict, Contended, DeclarationError, StoreError, StoreUnavailable, TooLarge
from saga.ports import UnitOfWork

_emitted = builder(Emitted)
_DUMP = BaseModel.model_dump_json
END_TIMEOUT_SECONDS = 30.0
CLOSE_SECONDS = 5.0


def raise_if_store(trouble: HandlerTrouble) -> None:
    """Raise what the handler's own transaction has met: the database's trouble burns no attempt.

    A store error from elsewhere (another app, another database) is the handler's trouble like any other.
    """
    if isinstance(trouble.met, Contended | Conflict | StoreUnavailable):
        raise trouble.met from trouble


def is_broken(error: Exception) -> bool:
    """Return whether a handler has broken its transaction: has swallowed an error, ended it, or may not commit."""
    return not isinstance(error, Contended | Conflict | StoreUnavailable)


async def call(
    handler: Handler,
    bindings: Bindings,
    values: Mapping[Binding | int, Any],
    run: Run,
    timeout_seconds: float,
) -> Any:
    """Call a handler and return what it returns; raises HandlerTrouble for anything it raises or for its timeout.

    `run.db` is taken away when the call is over; a session the handler has used is written before, and closed.
    Cancellation passes through.
    """
    timer = Timer()
    with timer.scope:
        return await call_within(timer, handler, bindings, values, run, timeout_seconds)


async def call_within(
    timer: Timer,
    handler: Handler,
    bindings: Bindings,
    values: Mapping[Binding | int, Any],
    run: Run,
    timeout_seconds: float,
) -> Any:
    """Call a handler as `call` does, inside the scope of a timer that serves one call after another.

    Its deadline stays set when the call is over.
    """
    scope = timer.scope
    arguments = [run if binding is Binding.RUN else values[binding] for binding in bindings]
    watched = WatchedDoor(run.door) if run.door is not None else None
    run.door = watched
    timer.wind(timeout_seconds)
    try:
        returned = await handler(*arguments)
        if run.turn is not None:
            await run.turn.flush()
        if not scope.cancel_called:
            return returned
    except anyio.get_cancelled_exc_class() as error:
        if not scope.cancel_called:
            await anyio.lowlevel.checkpoint_if_cancelled()
            if is_asked_to_stop():
                raise
            # asyncio: the handler has awaited a task or future that somebody else had cancelled.
            stray = RuntimeError("the handler awaited something that was cancelled")
            raise HandlerTrouble(stray, _met_by(watched)) from error
    except Exception as error:  # around a user's handler
        if not scope.cancel_called:
            given = [argument for argument in arguments if argument is not run]
            raise HandlerTrouble(error, _met(watched, run, error), given=given) from error
    except BaseExceptionGroup:
        # trio: out of a nursery of the handler's, a cancellation comes in a group.
        if not scope.cancel_called:
            raise
    finally:
        run.end_turn()
        await _close(run.turn, timer)
    raise HandlerTrouble(TimeoutError(f"no answer within {timeout_seconds:g} s"), _met_by(watched))


def _met(watched: WatchedDoor | None, run: Run, error: Exception) -> StoreError | None:
    """Return what an error that a handler has let out was in its own transaction, None when it was not there."""
    if (met := _met_by(watched)) is not None:
        return met
    return run.turn.meant(error) if run.turn is not None else None


def _met_by(watched: WatchedDoor | None) -> StoreError | None:
    return watched.met if watched is not None else None


async def _close(turn: SessionTurn | None, timer: Timer) -> None:
    if turn is not None:
        timer.rest()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await turn.close()


def is_asked_to_stop() -> bool:
    """Return whether this very task is being cancelled; trio has no other cancellation."""
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return True
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class WatchedDoor:
    """Lend a handler its transaction, and remember what went wrong in it."""

    def __init__(self, door: Door) -> None:
        """Lead into `door`."""
        self._door = door
        self.met: StoreError | None = None

    @property
    def db(self) -> Database:
        """Return the transaction's database, watched."""
        return _WatchedDatabase(self._door.db, self)

    @property
    def connection(self) -> Any:
        """Return the driver's own connection."""
        return self._door.connection

    def open_session(self) -> SessionTurn:
        """Begin a session on the transaction; raises SettingsError where its store has none."""
        return session_of(self._door)


class _WatchedDatabase:
    def __init__(self, db: Database, door: WatchedDoor) -> None:
        self._db = db
        self._door = door

    async def execute(self, sql: str, *args: object) -> int:
        try:
            return await self._db.execute(sql, *args)
        except StoreError as error:
            self._door.met = error
            raise

    async def fetch(self, sql: str, *args: object) -> list[Mapping[str, Any]]:
        try:
            return await self._db.fetch(sql, *args)
        except StoreError as error:
            self._door.met = error
            raise

    async def fetch_one(self, sql: str, *args: object) -> Mapping[str, Any] | None:
        try:
            return await self._db.fetch_one(sql, *args)
        except StoreError as error:
            self._door.met = error
            raise


Result = Event | list[Event] | Refusal | None
"""What a handler may return."""


def answer_in(result: Any, step: StepDefinition, limits: Limits) -> tuple[Result, Emitted | Refused]:
    """Return a handler's result, and the answer it makes, if its annotation allows it and it fits on the wire.

    Raises HandlerTrouble. An answer that emits nothing has an empty type.
    """
    silent = step.ends or not step.emits
    if result is None and silent:
        return None, Emitted(type="", payload=b"")
    if isinstance(result, list):
        elements = _checked_list(cast("list[Any]", result), step)  # type: ignore[redundant-cast]  # pyright needs it
        payloads = [_payload_in(element, step, limits) for element in elements]
        assert step.fan_out is not None
        answer = Emitted(type=step.fan_out.wire_type, payload=array_of(payloads), fan_out=len(payloads))
        return elements, answer
    value = cast("Event | Refusal", result)
    kind = type(value)
    if kind is not step.fan_out and kind in step.emits:
        return value, _emitted(type=kind.wire_type, payload=_payload_in(value, step, limits))
    if kind in step.refuses:
        return value, Refused(type=kind.wire_type, payload=_payload_in(value, step, limits))
    kinds = (*(event for event in step.emits if event is not step.fan_out), *step.refuses)
    listed = [] if step.fan_out is None else [f"list[{step.fan_out.__qualname__}]"]
    allowed = listed + [cls.__qualname__ for cls in kinds] + ["None"] * silent
    msg = f"{step.name} returned {kind.__qualname__}; its annotation allows {' | '.join(allowed)}"
    raise HandlerTrouble(DeclarationError(msg))


def started_event(result: Any, step: StepDefinition, limits: Limits) -> Event:
    """Return the start event of a child saga if that is what its step has returned; raises HandlerTrouble."""
    assert step.child is not None
    if type(result) is not step.child.event:
        found = type(result).__qualname__
        msg = f"{step.name} returned {found}; it starts {step.child.saga} with {step.child.event.__qualname__}"
        raise HandlerTrouble(DeclarationError(msg))
    event: Event = result
    _payload_in(event, step, limits)
    return event


def _checked_list(result: list[Any], step: StepDefinition) -> list[Event]:
    """Return the elements of a fan-out if all are of its class and there are no more than may branch."""
    if step.fan_out is None or any(type(element) is not step.fan_out for element in result):
        kinds = " and ".join(sorted({type(element).__qualname__ for element in result})) or "nothing"
        allowed = "no list" if step.fan_out is None else f"list[{step.fan_out.__qualname__}]"
        msg = f"{step.name} returned a list of {kinds}; its annotation allows {allowed}"
        raise HandlerTrouble(DeclarationError(msg))
    if len(result) > DEFAULT_LIMITS.branches:
        msg = (
            f"{step.name} returned {len(result)} elements; a fan-out has at most {DEFAULT_LIMITS.branches}, "
            f"so let an element carry several"
        )
        raise HandlerTrouble(TooLarge(msg))
    return result


def _payload_in(result: Event | Refusal, step: StepDefinition, limits: Limits) -> bytes:
    limit = limits.refusal_bytes if isinstance(result, Refusal) else limits.payload_bytes
    try:
        payload = payload_of(result)
    except Exception as error:  # serializers are the user's code too
        raise HandlerTrouble(error, given=[result]) from error
    if len(payload) > limit:
        msg = f"{step.name} returned a {result.wire_type} of {len(payload)} bytes; at most {limit} are allowed"
        raise HandlerTrouble(TooLarge(msg))
    return payload


def payload_of(value: Event | Refusal) -> bytes:
    """Return the JSON of an event or refusal as UTF-8."""
    if (kind := type(value)).model_dump_json is _DUMP:  # as it does it itself, without a text in between
        return kind.__pydantic_serializer__.to_json(value, by_alias=True)
    return value.model_dump_json(by_alias=True).encode()


def refusal_of(refusal: Refusal) -> Refused:
    """Return a refusal that has been checked as an answer."""
    return Refused(type=refusal.wire_type, payload=payload_of(refusal))


async def call_compensation(
    step: StepDefinition, run: RunRow, unit: UnitOfWork | None, outgoing: Outgoing | None = None
) -> None:
    """Call the compensation of a run with the stored input and result; raises HandlerTrouble.

    `unit` is the transaction a local compensation runs in, None for one that calls outside; `outgoing` likewise.
    """
    undo = step.compensation
    assert undo is not None
    # A run that a person has skipped may have a result and no input.
    wants_input = any(binding not in (Binding.RUN, Binding.RESULT) for binding in undo.bindings)
    values = inputs_of_run(step, run) if wants_input else {}
    values[Binding.RESULT] = result_of_run(step, run)
    key = idempotency_key(run.saga_id, run.step, run.branch, compensation=True)
    given = Run(
        saga_id=run.saga_id,
        step=run.step,
        branch=run.branch,
        attempt=(run.attempt if run.undo is UndoStatus.INTENT else 0) + 1,
        tenant=run.tenant,
        idempotency_key=key,
        door=unit,
        outgoing=outgoing,
    )
    await call(undo.handler, undo.bindings, values, given, undo.timeout_seconds)


async def call_end(handler: Handler, ended: object, run: Run) -> None:
    """Call `on_end`; raises HandlerTrouble."""
    bindings = (Binding.INPUT, Binding.RUN)
    await call(handler, bindings, {Binding.INPUT: ended}, run, END_TIMEOUT_SECONDS)
