"""What a dependency and a `confirm` may say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from saga import NOT_FOUND, NOTHING, DeclarationError, Dependency, Event, NotFound, Refusal, Run, Saga, Service
from saga._core.resolve import resolve

SAGA = Saga("checkout", version=1)
GATEWAY = Dependency("gateway")


class Placed(Event, name="order.placed", version=1):
    """Be what the step gets."""


class Charged(Event, name="payment.charged", version=1):
    """Be what it emits."""


class Declined(Refusal, name="payment.declined", version=1):
    """Be how it refuses."""


class Shipped(Event, name="parcel.shipped", version=1):
    """Be something else."""


def declared(confirm: Any, *, calls: Dependency | None = GATEWAY) -> Service:
    service = Service("payment")

    @service.step(SAGA, calls=calls, compensation=NOTHING)
    async def charge(placed: Placed, run: Run) -> Charged | Declined:
        raise NotImplementedError

    charge.confirm(confirm)
    return service


async def asks(placed: Placed, run: Run) -> Charged | Declined | NotFound:
    return NOT_FOUND


async def knows_one_answer(placed: Placed, run: Run) -> Charged | NotFound:
    return NOT_FOUND


async def cannot_miss(placed: Placed, run: Run) -> Charged | Declined:
    raise NotImplementedError


async def finds_nothing_ever(placed: Placed, run: Run) -> NotFound:
    return NOT_FOUND


async def says_none(placed: Placed, run: Run) -> Charged | None:
    return None


async def finds_something_else(placed: Placed, run: Run) -> Shipped | NotFound:
    return NOT_FOUND


async def takes_the_result(charged: Charged, run: Run) -> Charged | NotFound:
    return NOT_FOUND


async def takes_no_run(placed: Placed) -> Charged | NotFound:
    return NOT_FOUND


@pytest.mark.parametrize("confirm", [asks, knows_one_answer])
def test_a_probe_is_bound_to_its_step(confirm: Any) -> None:
    (step,) = resolve(declared(confirm)).steps
    assert step.confirm is confirm


def test_none_is_an_answer_of_a_step_that_may_emit_nothing() -> None:
    service = Service("payment")

    @service.step(SAGA, calls=GATEWAY, compensation=NOTHING)
    async def notify(placed: Placed, run: Run) -> None: ...

    @notify.confirm
    async def find_note(placed: Placed, run: Run) -> NotFound | None:
        return None

    assert resolve(service).steps[0].confirm is find_note


@pytest.mark.parametrize(
    "confirm",
    [cannot_miss, finds_nothing_ever, says_none, finds_something_else, takes_the_result, takes_no_run],
)
def test_a_probe_with_another_signature_is_told_the_right_one(confirm: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        resolve(declared(confirm))
    assert "payment.charge (checkout v1): confirm" in str(caught.value)
    assert "write `(placed: Placed, run: Run) -> Charged | Declined | NotFound`" in str(caught.value)


def test_only_a_step_that_calls_outside_has_a_probe() -> None:
    with pytest.raises(DeclarationError, match="declare the step with calls="):
        declared(asks, calls=None)


def test_one_probe_is_enough() -> None:
    service = Service("payment")

    @service.step(SAGA, calls=GATEWAY, compensation=NOTHING)
    async def charge(placed: Placed, run: Run) -> Charged | Declined:
        raise NotImplementedError

    charge.confirm(asks)
    with pytest.raises(DeclarationError, match="declared twice"):
        charge.confirm(knows_one_answer)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dependency("gateway", max_in_flight=timedelta(0)),
        lambda: Dependency("gateway", key_ttl=timedelta(0)),
        lambda: Dependency("gateway", max_in_flight=timedelta(hours=1), key_ttl=timedelta(hours=1)),
    ],
)
def test_times_that_cannot_be_meant_are_refused(make: Callable[[], Dependency]) -> None:
    with pytest.raises(DeclarationError, match=r"max_in_flight|key_ttl"):
        make()


def test_no_call_may_last_longer_than_its_dependency_says() -> None:
    service, short = Service("payment"), Dependency("bank", max_in_flight=timedelta(seconds=7))

    with pytest.raises(DeclarationError, match=r"payment\.pay \(checkout v1\): timeout 0:00:30 is longer"):

        @service.step(SAGA, calls=short, compensation=NOTHING)
        async def pay(placed: Placed, run: Run) -> Charged:
            raise NotImplementedError

    @service.step(SAGA, calls=short, timeout=timedelta(seconds=7))
    async def charge(placed: Placed, run: Run) -> Charged:
        raise NotImplementedError

    @service.step(SAGA)
    async def book(placed: Placed, run: Run) -> Charged:
        raise NotImplementedError

    with pytest.raises(DeclarationError, match=r"book \(checkout v1\): compensation: timeout 0:00:30 .* give timeout="):

        @book.compensation(calls=short)
        async def unbook(charged: Charged, run: Run) -> None:
            raise NotImplementedError

    @charge.compensation(calls=short)
    async def refund(charged: Charged, run: Run) -> None:
        raise NotImplementedError
