"""Prove that what cannot work is refused with a sentence: one row for each impossible declaration."""

# Most of this is refused by type checkers as well, so services are Any here.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from saga import NOTHING, DeclarationError, Dependency, Ended, Event, Refusal, Retry, Run, Saga, Service, StepKind
from saga._core.resolve import resolve, resolve_all
from tests.core.checkout import Captured, OrderPlaced, OutOfStock, Shipped, StockReserved

SAGA = Saga("checkout", version=1)
OTHER_SAGA = Saga("trip", version=1)
GATEWAY = Dependency("gateway")
Declare = Callable[[Any], object]
CASES: list[Any] = []
WHERE = "inventory.reserve (checkout v1)"


def refused(*words: str) -> Callable[[Declare], Declare]:
    """Say of a function that what it declares is refused with these words."""

    def add(declare: Declare) -> Declare:
        CASES.append(pytest.param(declare, words, id=declare.__name__))
        return declare

    return add


def step(service: Any, **options: Any) -> Any:
    """Return the decorator of a step that needs no compensation."""
    return service.step(SAGA, **{"compensation": NOTHING, **options})


def good_step(service: Any, **options: Any) -> Any:
    """Declare a step with nothing wrong, and no compensation yet."""

    async def reserve(order: OrderPlaced, run: Run) -> StockReserved | OutOfStock:
        raise NotImplementedError

    return service.step(SAGA, **options)(reserve)


@refused(WHERE, "is not async", "async def reserve")
def a_sync_function(service: Any) -> None:
    @step(service)
    def reserve(order: OrderPlaced, run: Run) -> None: ...


@refused(WHERE, "is not async")
def an_async_generator(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> AsyncIterator[StockReserved]:
        yield StockReserved(sku="", quantity=1)


@refused("inventory.", "not a plain function", "async def")
def a_partial(service: Any) -> None:
    async def reserve(order: OrderPlaced, run: Run) -> None: ...

    step(service)(functools.partial(reserve))


@refused("inventory", "<step inventory.reserve (checkout v1)>", "declared already", "second function")
def a_step_of_a_step(service: Any) -> None:
    step(service)(good_step(service))


@refused(WHERE, "'order' has no annotation", "signature is the contract")
def no_annotation(service: Any) -> None:
    @step(service)
    async def reserve(order, run: Run) -> None: ...  # type: ignore[no-untyped-def] # pyright: ignore[reportUnknownParameterType, reportMissingParameterType] # noqa: ANN001


@refused(WHERE, "return type has no annotation", "-> None")
def no_return_annotation(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run): ...  # type: ignore[no-untyped-def] # noqa: ANN202


@refused(WHERE, "annotation cannot be read", "Missing", "TYPE_CHECKING")
def an_unknown_annotation(service: Any) -> None:
    @step(service)
    async def reserve(order: Missing, run: Run) -> None: ...  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable] # noqa: F821


@refused(WHERE, "first parameter 'run'", "not an Event class")
def the_run_first(service: Any) -> None:
    @step(service)
    async def reserve(run: Run, order: OrderPlaced) -> None: ...


@refused(WHERE, "first parameter 'order' is str", "not an Event class")
def an_input_that_is_no_event(service: Any) -> None:
    @step(service)
    async def reserve(order: str, run: Run) -> None: ...


@refused(WHERE, "first parameter 'order' is OutOfStock", "not an Event class")
def an_input_that_is_a_refusal(service: Any) -> None:
    @step(service)
    async def reserve(order: OutOfStock, run: Run) -> None: ...


@refused(WHERE, "first parameter 'event' is Event", "not an Event class")
def the_bare_base_class(service: Any) -> None:
    @step(service)
    async def reserve(event: Event, run: Run) -> None: ...


@refused(WHERE, "OrderPlaced | Shipped", "two events need two steps")
def two_inputs(service: Any) -> None:
    @step(service)
    async def reserve(event: OrderPlaced | Shipped, run: Run) -> None: ...


@refused(WHERE, "OrderPlaced | str", "not an Event class")
def an_input_that_may_be_text(service: Any) -> None:
    @step(service)
    async def reserve(event: OrderPlaced | str, run: Run) -> None: ...


@refused(WHERE, "nothing can be given for parameter 'extra' (int)", "carry it in OrderPlaced")
def an_unknown_parameter(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run, extra: int = 3) -> None: ...


@refused(WHERE, "*rest", "not positional")
def a_starred_parameter(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run, *rest: str) -> None: ...


@refused(WHERE, "run: 'Run'", "not positional")
def a_keyword_only_run(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, *, run: Run) -> None: ...


@refused(WHERE, "has no Run", "run: Run")
def no_run(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced) -> None: ...


@refused(WHERE, "more than one Run")
def two_runs(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run, again: Run) -> None: ...


@refused(WHERE, "has no Run")
def no_parameters(service: Any) -> None:
    @step(service)
    async def reserve() -> None: ...


@refused(WHERE, "returns str", "neither an Event class nor a Refusal class nor None")
def a_result_that_is_no_event(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> str:
        raise NotImplementedError


@refused(WHERE, "returns Event", "neither an Event class")
def a_bare_result(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> Event:
        raise NotImplementedError


@refused(WHERE, "returns Refusal", "neither an Event class")
def a_bare_refusal(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved | Refusal:
        raise NotImplementedError


@refused(WHERE, "fans out one event class", "either as a list or alone")
def a_list_and_one_of_the_same_event(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> list[StockReserved] | StockReserved:
        raise NotImplementedError


@refused(WHERE, "list[", "list[Event]", "with one Event class")
def a_list_of_alternatives(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> list[StockReserved | Captured]:
        raise NotImplementedError


@refused(WHERE, "takes no event")
def a_join_of_nothing(service: Any) -> None:
    @service.join(SAGA)
    async def reserve(run: Run) -> StockReserved:
        raise NotImplementedError


@refused(WHERE, "parameter 'name' is str", "list[Event]")
def a_join_of_something_else(service: Any) -> None:
    @service.join(SAGA)
    async def reserve(order: OrderPlaced, name: str, run: Run) -> StockReserved:
        raise NotImplementedError


@refused(WHERE, "reacts to Captured and emits it")
def a_join_that_emits_one_of_its_inputs(service: Any) -> None:
    @service.join(SAGA)
    async def reserve(order: OrderPlaced, captured: Captured, run: Run) -> Captured:
        raise NotImplementedError


@refused(WHERE, "is no promise of a step")
def a_join_of_an_impossible_kind(service: Any) -> None:
    @service.join(SAGA, kind=StepKind.RECEIVE)
    async def reserve(order: OrderPlaced, captured: Captured, run: Run) -> StockReserved:
        raise NotImplementedError


@refused(WHERE, "delay", "at least one millisecond")
def a_delay_of_nothing(service: Any) -> None:
    @step(service, delay=timedelta(0))
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved:
        raise NotImplementedError


@refused("receives", "receives OrderPlaced already", "keep one")
def an_event_received_twice(service: Any) -> None:
    service.receives(SAGA, OrderPlaced)
    service.receives(SAGA, OrderPlaced)


@refused("inventory.receives", "is not an Event class")
def something_else_received(service: Any) -> None:
    service.receives(SAGA, OutOfStock)


@refused(WHERE, "is another service's", "inventory.starts")
def a_child_that_another_service_starts(service: Any) -> None:
    @service.child(SAGA, Service("elsewhere").starts(OTHER_SAGA, Captured))
    async def reserve(order: OrderPlaced, run: Run) -> Captured:
        raise NotImplementedError


@refused(WHERE, "returns its start event and nothing else", "-> Captured")
def a_child_that_is_not_started(service: Any) -> None:
    @service.child(SAGA, service.starts(OTHER_SAGA, Captured))
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved:
        raise NotImplementedError


@refused(WHERE, "undone by its own steps")
def a_child_with_a_compensation(service: Any) -> None:
    @service.child(SAGA, service.starts(OTHER_SAGA, Captured))
    async def reserve(order: OrderPlaced, run: Run) -> Captured:
        raise NotImplementedError

    @reserve.compensation
    async def release(order: OrderPlaced, run: Run) -> None:
        raise NotImplementedError


@refused(WHERE, "completed", "cannot refuse", "has completed")
def a_completed_child_that_refuses(service: Any) -> None:
    @service.child(SAGA, service.starts(OTHER_SAGA, Captured))
    async def reserve(order: OrderPlaced, run: Run) -> Captured:
        raise NotImplementedError

    @reserve.completed
    async def done(end: Ended, run: Run) -> StockReserved | OutOfStock:
        raise NotImplementedError


@refused(WHERE, "completed", "takes the child's ending and the run")
def a_completed_child_told_of_something_else(service: Any) -> None:
    @service.child(SAGA, service.starts(OTHER_SAGA, Captured))
    async def reserve(order: OrderPlaced, run: Run) -> Captured:
        raise NotImplementedError

    @reserve.completed
    async def done(end: Captured, run: Run) -> StockReserved:
        raise NotImplementedError


@refused(WHERE, "tuple[", "list[Event]")
def a_tuple_of_events(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> tuple[StockReserved, ...]:
        raise NotImplementedError


@refused(WHERE, "reacts to OrderPlaced and emits it", "another class")
def a_step_that_emits_its_input(service: Any) -> None:
    # Its compensation could not tell input from result either.
    @service.step(SAGA)
    async def reserve(order: OrderPlaced, run: Run) -> OrderPlaced:
        raise NotImplementedError

    @reserve.compensation
    async def release(order: OrderPlaced, run: Run) -> None: ...


@refused(WHERE, "returns only OutOfStock", "never succeed")
def a_step_that_only_refuses(service: Any) -> None:
    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> OutOfStock:
        raise NotImplementedError


@refused(WHERE, "retriable", "cannot refuse", "OutOfStock")
def a_refusal_of_a_retriable(service: Any) -> None:
    @service.retriable(SAGA)
    async def reserve(order: OrderPlaced, run: Run) -> Shipped | OutOfStock:
        raise NotImplementedError


@refused(WHERE, "two steps of this name", "rename")
def two_steps_of_one_name(service: Any) -> None:
    good_step(service)
    good_step(service)


@refused("inventory.start (checkout v1)", "names the run that starts a saga", "rename")
def a_step_called_start(service: Any) -> None:
    @step(service)
    async def start(order: OrderPlaced, run: Run) -> None: ...


@refused("inventory.Reserve_ (checkout v1)", "'Reserve_' is not a usable name", "reserve_stock")
def a_bad_function_name(service: Any) -> None:
    @step(service)
    async def Reserve_(order: OrderPlaced, run: Run) -> None: ...  # noqa: N802


@refused(f"{WHERE}: timeout is 0:00:00", "at least one millisecond")
def no_time(service: Any) -> None:
    good_step(service, timeout=timedelta())


@refused(f"{WHERE}: timeout is -1 day", "at least one millisecond")
def negative_time(service: Any) -> None:
    good_step(service, timeout=timedelta(seconds=-1))


@refused(f"{WHERE}: timeout is 5", "write a timedelta")
def a_time_that_is_a_number(service: Any) -> None:
    good_step(service, timeout=5)


@refused(WHERE, "0:05:01 is longer than the saga's 0:05:00")
def more_time_than_the_saga(service: Any) -> None:
    good_step(service, timeout=timedelta(minutes=5, seconds=1))


@refused(WHERE, "calls='gateway' is not a Dependency", "Dependency('gateway')")
def calls_that_is_text(service: Any) -> None:
    good_step(service, calls="gateway")


@refused(f"{WHERE}: compensation", "pivot is the point of no return")
def a_compensation_of_the_pivot(service: Any) -> None:
    @service.pivot(SAGA)
    async def reserve(order: OrderPlaced, run: Run) -> None: ...

    @reserve.compensation
    async def release(order: OrderPlaced, run: Run) -> None: ...


@refused(f"{WHERE}: compensation", "compensation=NOTHING", "remove either")
def a_compensation_and_nothing(service: Any) -> None:
    @good_step(service, compensation=NOTHING).compensation
    async def release(order: OrderPlaced, run: Run) -> None: ...


@refused(f"{WHERE}: compensation is declared twice", "keep one")
def two_compensations(service: Any) -> None:
    reserve = good_step(service)

    @reserve.compensation
    async def release(order: OrderPlaced, run: Run) -> None: ...

    @reserve.compensation
    async def release_again(order: OrderPlaced, run: Run) -> None: ...


@refused(f"{WHERE}: compensation", "release is not async")
def a_sync_compensation(service: Any) -> None:
    @good_step(service).compensation
    def release(order: OrderPlaced, run: Run) -> None: ...


@refused(f"{WHERE}: compensation: timeout is 0:00:00")
def a_compensation_without_time(service: Any) -> None:
    @good_step(service).compensation(timeout=timedelta())
    async def release(order: OrderPlaced, run: Run) -> None: ...


@refused(f"{WHERE}: compensation", "is not a Dependency")
def a_compensation_that_calls_text(service: Any) -> None:
    @good_step(service).compensation(calls="gateway")
    async def release(order: OrderPlaced, run: Run) -> None: ...


@refused(
    f"{WHERE}: compensation: parameter 'captured' is Captured",
    "the step's result (StockReserved), the input (OrderPlaced) or Run",
    "bound by type",
)
def a_compensation_that_takes_something_else(service: Any) -> None:
    @good_step(service).compensation
    async def release(captured: Captured, run: Run) -> None: ...


@refused(WHERE, "compensation: parameter 'refusal' is OutOfStock", "none of the step's result")
def a_compensation_that_takes_the_refusal(service: Any) -> None:
    @good_step(service).compensation
    async def release(refusal: OutOfStock, run: Run) -> None: ...


@refused(WHERE, "'reserved' is StockReserved", "may return Shipped too", "`reserved: StockReserved | Shipped`")
def a_compensation_of_one_alternative(service: Any) -> None:
    @service.step(SAGA)
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved | Shipped:
        raise NotImplementedError

    @reserve.compensation
    async def release(reserved: StockReserved, run: Run) -> None: ...


@refused(WHERE, "may return None too", "`reserved: StockReserved | None`")
def a_compensation_that_forgets_none(service: Any) -> None:
    @service.step(SAGA)
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved | None: ...

    @reserve.compensation
    async def release(reserved: StockReserved, run: Run) -> None: ...


@refused(WHERE, "'result' is None", "none of the input (OrderPlaced)")
def a_compensation_that_takes_nothing(service: Any) -> None:
    @service.step(SAGA)
    async def reserve(order: OrderPlaced, run: Run) -> None: ...

    @reserve.compensation
    async def release(result: None, run: Run) -> None: ...


@refused(WHERE, "'again' asks for StockReserved a second time")
def a_compensation_that_takes_the_result_twice(service: Any) -> None:
    @good_step(service).compensation
    async def release(reserved: StockReserved, again: StockReserved, run: Run) -> None: ...


@refused(f"{WHERE}: compensation: has no Run")
def a_compensation_without_a_run(service: Any) -> None:
    @good_step(service).compensation
    async def release(reserved: StockReserved) -> None: ...


@refused(f"{WHERE}: compensation: returns Shipped", "-> None")
def a_compensation_that_emits(service: Any) -> None:
    @good_step(service).compensation
    async def release(reserved: StockReserved, run: Run) -> Shipped:
        raise NotImplementedError


@refused(f"{WHERE}: recorded", "without calls=", "inventory.reserve itself")
def recorded_on_a_local_step(service: Any) -> None:
    @good_step(service).recorded
    async def book(reserved: StockReserved, run: Run) -> None: ...


@refused(f"{WHERE}: recorded is declared twice")
def two_recorded(service: Any) -> None:
    reserve = good_step(service, calls=GATEWAY)

    @reserve.recorded
    async def book(reserved: StockReserved, run: Run) -> None: ...

    @reserve.recorded
    async def book_again(reserved: StockReserved, run: Run) -> None: ...


@refused(f"{WHERE}: recorded", "book is not async")
def a_sync_recorded(service: Any) -> None:
    @good_step(service, calls=GATEWAY).recorded
    def book(reserved: StockReserved, run: Run) -> None: ...


@refused(f"{WHERE}: recorded", "(result: StockReserved, run: Run) -> None")
def recorded_that_takes_the_input(service: Any) -> None:
    @good_step(service, calls=GATEWAY).recorded
    async def book(order: OrderPlaced, run: Run) -> None: ...


@refused(f"{WHERE}: recorded", "(result: StockReserved, run: Run) -> None")
def recorded_with_the_run_first(service: Any) -> None:
    @good_step(service, calls=GATEWAY).recorded
    async def book(run: Run, reserved: StockReserved) -> None: ...


@refused(f"{WHERE}: recorded", "(result: StockReserved, run: Run) -> None")
def recorded_with_three_parameters(service: Any) -> None:
    @good_step(service, calls=GATEWAY).recorded
    async def book(reserved: StockReserved, run: Run, order: OrderPlaced) -> None: ...


@refused(f"{WHERE}: recorded: has no Run")
def recorded_without_a_run(service: Any) -> None:
    @good_step(service, calls=GATEWAY).recorded
    async def book(reserved: StockReserved) -> None: ...


@refused(f"{WHERE}: recorded: returns Shipped", "-> None")
def recorded_that_emits(service: Any) -> None:
    @good_step(service, calls=GATEWAY).recorded
    async def book(reserved: StockReserved, run: Run) -> Shipped:
        raise NotImplementedError


@refused("inventory.start (checkout v1)", "starts the saga already", "keep one")
def two_starts(service: Any) -> None:
    service.starts(SAGA, OrderPlaced)
    service.starts(SAGA, Shipped)


@refused("inventory.start (checkout v1)", "is not an Event class")
def a_start_with_a_refusal(service: Any) -> None:
    service.starts(SAGA, OutOfStock)


@refused("inventory.start (checkout v1)", "is not an Event class")
def a_start_with_the_bare_base_class(service: Any) -> None:
    service.starts(SAGA, Event)


@refused("inventory.on_end (checkout v1)", "only the starter", "inventory.starts(...)")
def an_end_without_a_start(service: Any) -> None:
    @service.on_end(SAGA)
    async def settle(ended: Ended, run: Run) -> None: ...


@refused("inventory.on_end (checkout v1) is declared twice")
def two_ends(service: Any) -> None:
    async def settle(ended: Ended, run: Run) -> None: ...

    service.starts(SAGA, OrderPlaced)
    service.on_end(SAGA)(settle)
    service.on_end(SAGA)(settle)


@refused("inventory.on_end (checkout v1)", "settle is not async")
def a_sync_end(service: Any) -> None:
    @service.on_end(SAGA)
    def settle(ended: Ended, run: Run) -> None: ...


@refused("inventory.on_end (checkout v1)", "(ended: Ended, run: Run) -> None")
def an_end_with_other_parameters(service: Any) -> None:
    service.starts(SAGA, OrderPlaced)

    @service.on_end(SAGA)
    async def settle(ended: Ended) -> None: ...


@refused("inventory.on_end (checkout v1)", "returns Shipped", "-> None")
def an_end_that_emits(service: Any) -> None:
    service.starts(SAGA, OrderPlaced)

    @service.on_end(SAGA)
    async def settle(ended: Ended, run: Run) -> Shipped:
        raise NotImplementedError


@refused("Saga checkout v1", "service inventory", "different times", "declare it once")
def two_sagas_of_one_name(service: Any) -> None:
    good_step(service)
    service.starts(Saga("checkout", version=1, timeout=timedelta(minutes=9)), OrderPlaced)


@refused("inventory.reserve", "two classes", "'order.placed.v1'", "import one")
def two_events_of_one_wire_type(service: Any) -> None:
    class OrderPlacedAgain(Event, name="order.placed", version=1):
        pass

    good_step(service)
    service.starts(SAGA, OrderPlacedAgain)


@refused("inventory.reserve", "two classes", "'order.placed.v1'")
def an_event_and_a_refusal_of_one_wire_type(service: Any) -> None:
    class OrderRefused(Refusal, name="order.placed", version=1):
        pass

    @step(service)
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved | OrderRefused:
        raise NotImplementedError


@pytest.mark.parametrize(("declare", "words"), CASES)
def test_an_impossible_declaration_is_refused_with_a_sentence(declare: Declare, words: tuple[str, ...]) -> None:
    service = Service("inventory")
    # Some are refused at the decorator, some when annotations are read.
    with pytest.raises(DeclarationError) as raised:  # noqa: PT012
        declare(service)
        resolve(service)
    sentence = str(raised.value)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Saga("Check out", version=1), ("Saga 'Check out'", "lower-case", "'checkout'")),
        (lambda: Saga("checkout", version=0), ("version=0", "count from 1")),
        (lambda: Saga("checkout", version=1, timeout=timedelta()), ("timeout", "at least one millisecond")),
        (
            lambda: Saga("checkout", version=1, forward_window=timedelta(days=-1)),
            ("forward_window", "at least one millisecond"),
        ),
        (lambda: Service("Orders"), ("Service 'Orders'", "lower-case")),
        (lambda: Service("shop.orders"), ("'shop.orders'", "names with '.'")),
        (lambda: Service("saga"), ("'saga'", "are ours")),
        (lambda: Dependency("Gate way"), ("Dependency 'Gate way'",)),
        (lambda: Dependency("gateway", concurrency=0), ("concurrency=0", "at least 1")),
        (lambda: Retry(attempts=0), ("attempts=0", "at least 1")),
        (lambda: Retry(base_seconds=-1), ("base_seconds=-1", "positive")),
        (lambda: Retry(base_seconds=2, cap_seconds=1), ("cap_seconds=1", "cap not below")),
    ],
)
def test_impossible_values_are_refused_with_a_sentence(make: Callable[[], object], words: tuple[str, ...]) -> None:
    with pytest.raises(DeclarationError) as raised:
        make()
    assert all(word in str(raised.value) for word in words), str(raised.value)


def refused_together(*services: Service) -> str:
    for service in services:
        resolve(service)
    with pytest.raises(DeclarationError) as raised:
        resolve_all(services)
    return str(raised.value)


def test_two_services_of_one_name_are_refused() -> None:
    sentence = refused_together(Service("orders"), Service("orders"))
    assert "Service 'orders' is declared twice" in sentence


def test_services_with_different_times_for_one_saga_are_refused() -> None:
    orders, inventory = Service("orders"), Service("inventory")
    orders.starts(Saga("checkout", version=1, timeout=timedelta(minutes=1)), OrderPlaced)
    good_step(inventory)
    assert "different times" in refused_together(orders, inventory)


def test_two_classes_of_one_wire_type_in_two_services_are_refused() -> None:
    class Other(Event, name="order.placed", version=1):
        pass

    orders, inventory = Service("orders"), Service("inventory")
    orders.starts(SAGA, Other)
    good_step(inventory)
    sentence = refused_together(orders, inventory)
    assert "inventory.reserve" in sentence
    assert "orders.start" in sentence
    assert "two classes" in sentence


def test_two_dependencies_of_one_name_are_refused() -> None:
    one, other = Service("one"), Service("other")
    good_step(one, calls=GATEWAY)

    @good_step(other).compensation(calls=Dependency("gateway", concurrency=3))
    async def release(order: OrderPlaced, run: Run) -> None: ...

    sentence = refused_together(one, other)
    assert "other.reserve" in sentence
    assert "declare it once" in sentence
