"""Compare what happened with what was expected, and say what happened instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from saga._core.events import Refusal
from saga._core.run import Ended
from saga._core.words import Cause, Ending
from saga._runtime.starter import SagaHandle
from saga.errors import OutcomePending
from saga.testing.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Wait for the end of one saga and compare it; every method returns the end, or raises AssertionError."""

    handle: SagaHandle
    history: History
    within: timedelta

    async def completed(self) -> Ended:
        """Expect that all of it has happened."""
        ended = await self._ended("completed")
        if ended.ending is not Ending.COMPLETED:
            self._fail("completed", ended)
        return ended

    async def compensated(self, *, refusal: Refusal | None = None, cause: Cause | None = None) -> Ended:
        """Expect that all of it was undone, because of this refusal or cause if one is given."""
        expected = "compensated" + _why(refusal, cause)
        ended = await self._ended(expected)
        if ended.ending is not Ending.COMPENSATED or not _fits(ended, refusal, cause):
            self._fail(expected, ended)
        return ended

    async def stuck(self, *, cause: Cause | None = None) -> Ended:
        """Expect that it waits for a person, because of this cause if one is given."""
        expected = "stuck" + _why(None, cause)
        ended = await self._ended(expected)
        if ended.ending is not Ending.STUCK or not _fits(ended, None, cause):
            self._fail(expected, ended)
        return ended

    async def _ended(self, expected: str) -> Ended:
        try:
            return await self.handle.outcome(timeout_seconds=self.within.total_seconds())
        except OutcomePending:
            msg = f"expected {expected}, but the saga has not ended within {self.within}"
        raise AssertionError(f"{msg}\n{self.history.tell(self.handle.saga_id)}") from None

    def _fail(self, expected: str, ended: Ended) -> None:
        found = ended.ending.value
        if ended.refusal_type:
            found += f", refused with {ended.refusal_type} {ended.refusal_json.decode()}"
        elif ended.cause is not None:
            found += f", because of {ended.cause.value}"
        detail = f" ({ended.detail})" if ended.detail else ""
        msg = f"expected {expected}, but the saga is {found}{detail}\n{self.history.tell(ended.saga_id)}"
        raise AssertionError(msg)


def _why(refusal: Refusal | None, cause: Cause | None) -> str:
    why = ""
    if refusal is not None:
        why += f", refused with {refusal.wire_type} {refusal.model_dump_json()}"
    if cause is not None:
        why += f", because of {cause.value}"
    return why


def _fits(ended: Ended, refusal: Refusal | None, cause: Cause | None) -> bool:
    same = refusal is None or ended.refused_with(type(refusal)) == refusal
    return same and (cause is None or ended.cause is cause)


def in_order(what: str, wanted: Sequence[str], found: Sequence[str], history: History) -> None:
    """Raise AssertionError unless `wanted` are in `found`, in that order."""
    rest = iter(found)
    missing = [step for step in wanted if step not in found]
    if not missing and all(step in rest for step in wanted):
        return
    problem = f"{', '.join(missing)} is not" if missing else "the order is another"
    msg = f"expected {', '.join(wanted)} to be {what}, but {problem}; {what} are: {', '.join(found) or 'none'}"
    raise AssertionError(f"{msg}\n{history.tell()}")
