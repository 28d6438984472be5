"""Call a compensation outside of any batch, and say what follows when nobody may remember its key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from saga._core.definition import StepDefinition
from saga._core.participant import Turn, compensation_raised
from saga._core.rows import RunRow, Snapshot
from saga._runtime.context import ServiceContext
from saga._runtime.failing import following
from saga._runtime.handlers import call_compensation, is_broken
from saga._runtime.inputs import inputs_of_run, result_of_run
from saga._runtime.publishing import Publishing
from saga._runtime.trouble import HandlerTrouble
from saga.ports import UnitOfWork

Decide = Callable[[UnitOfWork, Snapshot, RunRow], Awaitable[Turn]]


class RecordedRaised(Exception):
    """Leave the transaction because `recorded` raised."""

    def __init__(self, trouble: HandlerTrouble) -> None:
        self.trouble = trouble
        super().__init__(str(trouble))


def of_recorded(result: object, error: Exception) -> HandlerTrouble | None:
    """Return what `recorded` has come to, at COMMIT too; None for what is not its fault."""
    if isinstance(error, RecordedRaised):
        return error.trouble
    return HandlerTrouble(error, given=[result]) if is_broken(error) else None


def around(step: StepDefinition, run: RunRow, error: BaseException) -> HandlerTrouble:
    """Return what came up around a compensation, such as at its COMMIT: it may quote what was given all the same."""
    given: list[object] = []
    for read in (inputs_of_run, result_of_run):
        with suppress(HandlerTrouble):  # what cannot be read was not given
            given.append(read(step, run))
    return HandlerTrouble(error, given=given)


def _trouble(error: Exception) -> HandlerTrouble:
    return error if isinstance(error, HandlerTrouble) else HandlerTrouble(error)


async def compensation(
    step: StepDefinition, run: RunRow, unit: UnitOfWork | None, outgoing: Publishing | None = None
) -> None:
    """Call a run's compensation; whatever goes wrong around it is a failed attempt."""
    try:
        await call_compensation(step, run, unit, outgoing)
    except Exception as error:
        raise _trouble(error) from error


def failing(context: ServiceContext, step: StepDefinition, trouble: HandlerTrouble) -> Decide:
    """Store that a compensation has raised, and when it is tried again."""
    undo = step.compensation
    assert undo is not None

    async def fail(unit: UnitOfWork, seen: Snapshot, current: RunRow) -> Turn:
        del unit
        what, text = f"compensation of {current.step}", str(trouble)
        first_at = current.first_called_at or seen.now
        after = following(context, undo, current, trouble.error, first_at=first_at, now=seen.now, what=what, text=text)
        return compensation_raised(current, text, attempts=after.attempts, retry_at=after.retry_at)

    return fail


def given_up(reason: str) -> Decide:
    """Give a compensation up that may have happened under a key nobody may remember."""

    async def give_up(unit: UnitOfWork, seen: Snapshot, current: RunRow) -> Turn:
        del unit
        return compensation_raised(current, reason, attempts=0, retry_at=seen.now)

    return give_up
