"""What a step that takes a batch may look like."""

from __future__ import annotations

from typing import Any

import pytest

from saga import NOTHING, Batch, DeclarationError, Dependency, Event, Refusal, Run, Runs, Saga, Service
from saga._core.definition import Binding, StepDefinition
from saga._core.resolve import resolve
from saga._core.words import Handles

SAGA = Saga("checkout", version=1)


class Placed(Event, name="order.placed", version=1):
    """Be what the step gets."""


class Reserved(Event, name="stock.reserved", version=1):
    """Be what it emits."""


class SoldOut(Refusal, name="stock.sold-out", version=1):
    """Be how it refuses."""


def declared(function: Any, **options: Any) -> StepDefinition:
    service = Service("stock")
    service.step(SAGA, compensation=NOTHING, **options)(function)
    return resolve(service).steps[0]


def test_its_shape_is_that_of_a_step_that_takes_one_event() -> None:
    async def reserve(events: Batch[Placed], runs: Runs) -> Batch[Reserved | SoldOut]:
        raise NotImplementedError

    step = declared(reserve)
    assert (step.input, step.emits, step.refuses) == (Placed, (Reserved,), (SoldOut,))
    assert (step.handles, step.bindings) == (Handles.BATCH, (Binding.INPUT, Binding.RUN))


def test_the_end_of_a_saga_may_return_nothing_for_some() -> None:
    async def reserve(events: Batch[Placed], runs: Runs) -> Batch[Reserved | None]:
        raise NotImplementedError

    assert declared(reserve).ends


def test_half_a_batch_is_refused() -> None:
    async def one(events: Batch[Placed], run: Run) -> Batch[Reserved]:
        raise NotImplementedError

    async def two(events: Batch[Placed], runs: Runs) -> Reserved:
        raise NotImplementedError

    async def three(event: Placed, runs: Runs) -> Reserved:
        raise NotImplementedError

    async def four(events: Batch, runs: Runs) -> Batch[Reserved]:  # type: ignore[type-arg]
        raise NotImplementedError

    functions: list[Any] = [one, two, three, four]
    for function in functions:
        with pytest.raises(DeclarationError, match="takes its runs and returns a batch; write `async def"):
            declared(function)


def test_what_is_about_one_saga_cannot_take_a_batch() -> None:
    async def reserve(events: Batch[Placed], runs: Runs) -> Batch[Reserved]:
        raise NotImplementedError

    async def many(events: Batch[Placed], runs: Runs) -> Batch[list[Reserved]]:
        raise NotImplementedError

    with pytest.raises(DeclarationError, match="for one saga at a time, under its own idempotency key"):
        declared(reserve, calls=Dependency("gateway"))
    with pytest.raises(DeclarationError, match="cannot fan out"):
        declared(many)
    service = Service("stock")
    service.join(SAGA, compensation=NOTHING)(reserve)
    with pytest.raises(DeclarationError, match="take the events alone"):
        resolve(service)
