"""Prove that declarations mean what design and types say, and that users' type checkers see through them."""

from __future__ import annotations

import typing
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Optional, Union, assert_type

import pytest
from pydantic import BaseModel

from saga import (
    NOTHING,
    DeclarationError,
    Dependency,
    Ended,
    Ending,
    Event,
    NotRunning,
    Refusal,
    Retry,
    Run,
    Saga,
    Service,
)
from saga._core.definition import Binding, ServiceDefinition, StepDefinition
from saga._core.plan import Undoing
from saga._core.resolve import resolve, resolve_all
from saga._core.step import UNDO_RETRY
from saga._core.words import Effects, Priority, StepKind
from tests.core import checkout
from tests.core.checkout import Captured, Declined, OrderPlaced, OutOfStock, Shipped, StockReserved

SAGA = Saga("checkout", version=1)
RUN = Run(saga_id="s", step="inventory.reserve_stock")


class Rows:
    """Be a database that knows one row."""

    async def execute(self, sql: str, *args: object) -> int:
        return len(sql) + len(args)

    async def fetch(self, sql: str, *args: object) -> list[typing.Mapping[str, Any]]:
        return [{"sql": sql, "args": args}]

    async def fetch_one(self, sql: str, *args: object) -> typing.Mapping[str, Any] | None:
        return {"sql": sql, "args": args}


class Unit:
    """Be an open transaction."""

    db = Rows()
    connection = "driver"


def only(service: Service) -> StepDefinition:
    (step,) = resolve(service).steps
    return step


def by_name(definitions: tuple[ServiceDefinition, ...]) -> dict[str, StepDefinition]:
    return {step.name: step for definition in definitions for step in definition.steps}


def test_the_example_resolves_to_what_it_says() -> None:
    definitions = resolve_all(checkout.SERVICES)
    steps = by_name(definitions)
    reserve, capture, ship = (steps[name] for name in ("inventory.reserve_stock", "payment.capture", "shipping.ship"))
    assert (reserve.saga, reserve.version) == ("checkout", 1)
    assert (reserve.kind, capture.kind, ship.kind) == (StepKind.STEP, StepKind.PIVOT, StepKind.RETRIABLE)
    assert (reserve.effects, capture.effects) == (Effects.LOCAL, Effects.EXTERNAL)
    assert (reserve.input, reserve.emits, reserve.refuses) == (OrderPlaced, (StockReserved,), (OutOfStock,))
    assert (capture.emits, capture.refuses, capture.ends) == ((Captured,), (Declined,), False)
    assert (reserve.undoing, capture.undoing, ship.undoing) == (
        Undoing.LOCAL,
        Undoing.NEVER,
        Undoing.NEVER,
    )
    assert reserve.handler is checkout.reserve_stock.function
    assert reserve.bindings == (Binding.INPUT, Binding.RUN)
    assert reserve.timeout_seconds == 5.0
    assert capture.dependency is checkout.gateway
    assert capture.recorded is checkout.book
    assert ship.emits == (Shipped,)
    (start,) = definitions[0].starts
    assert (start.name, start.event, start.on_end) == ("orders.start", OrderPlaced, checkout.settle)
    assert all(definition.sagas == (checkout.checkout,) for definition in definitions)


def test_a_compensation_inherits_its_steps_time_and_is_tried_for_long() -> None:
    reserve = by_name(resolve_all(checkout.SERVICES))["inventory.reserve_stock"]
    compensation = reserve.compensation
    assert compensation is not None
    assert compensation.handler is checkout.release_stock
    assert compensation.bindings == (Binding.RESULT, Binding.RUN)
    assert (compensation.timeout_seconds, compensation.retry) == (5.0, UNDO_RETRY)


def test_defaults_are_thirty_seconds_and_the_usual_retries() -> None:
    capture = by_name(resolve_all(checkout.SERVICES))["payment.capture"]
    assert (capture.timeout_seconds, capture.retry) == (30.0, Retry())


def test_a_compensation_with_arguments_has_its_own_place_and_time() -> None:
    service = Service("inventory")
    shop = Dependency("shop", concurrency=1)

    @service.step(SAGA)
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved:
        raise NotImplementedError

    @reserve.compensation(calls=shop, timeout=timedelta(seconds=7), retry=Retry(attempts=9))
    async def release(run: Run, order: OrderPlaced, reserved: StockReserved) -> None: ...

    step = only(service)
    undo = step.compensation
    assert undo is not None
    assert undo.bindings == (Binding.RUN, Binding.INPUT, Binding.RESULT)
    assert (undo.effects, undo.dependency) == (Effects.EXTERNAL, shop)
    assert (undo.timeout_seconds, undo.retry) == (7.0, Retry(attempts=9))
    assert step.undoing is Undoing.EXTERNAL
    assert step.effects is Effects.LOCAL


def test_nothing_to_undo_is_not_never_undone() -> None:
    service = Service("inventory")

    @service.step(SAGA, compensation=NOTHING)
    async def look(order: OrderPlaced, run: Run) -> None: ...

    @service.retriable(SAGA, compensation=NOTHING)
    async def tell(order: OrderPlaced, run: Run) -> None: ...

    @service.step(SAGA)
    async def forget(order: OrderPlaced, run: Run) -> None: ...

    @service.retriable(SAGA)
    async def write(order: OrderPlaced, run: Run) -> None: ...

    @write.compensation
    async def erase(order: OrderPlaced, run: Run) -> None: ...

    found = {step.name: (step.undoing, step.compensation is None) for step in resolve(service).steps}
    assert found == {
        "inventory.look": (Undoing.NOTHING, True),
        "inventory.tell": (Undoing.NOTHING, True),
        "inventory.forget": (Undoing.NEVER, True),
        "inventory.write": (Undoing.LOCAL, False),
    }


def test_alternatives_ends_and_refusals_are_read_from_the_return_annotation() -> None:
    service = Service("inventory")

    @service.step(SAGA, calls=checkout.gateway)
    async def many(order: OrderPlaced, run: Run) -> StockReserved | Shipped | OutOfStock | Declined | None: ...

    @many.compensation
    async def undo(result: None | Shipped | StockReserved, run: Run) -> None: ...  # noqa: RUF036 -- any order

    @many.recorded
    async def keep(result: StockReserved | None | Shipped, run: Run) -> None: ...  # noqa: RUF036 -- any order

    step = only(service)
    assert (step.emits, step.ends, step.refuses) == (
        (StockReserved, Shipped),
        True,
        (OutOfStock, Declined),
    )
    assert step.compensation is not None
    assert step.compensation.bindings == (Binding.RESULT, Binding.RUN)
    assert step.recorded is keep


def test_recorded_of_a_step_without_events_takes_none() -> None:
    service = Service("mail")

    @service.step(SAGA, calls=checkout.gateway, compensation=NOTHING)
    async def send(order: OrderPlaced, run: Run) -> None: ...

    @send.recorded
    async def sent(result: None, run: Run) -> None: ...

    assert only(service).recorded is sent


def test_old_spellings_of_unions_work() -> None:
    service = Service("inventory")

    @service.step(SAGA, compensation=NOTHING)
    async def union(order: OrderPlaced, run: Run) -> Union[StockReserved, OutOfStock]:  # noqa: UP007
        raise NotImplementedError

    @service.step(SAGA, compensation=NOTHING)
    async def optional(order: OrderPlaced, run: Run) -> Optional[StockReserved]: ...  # noqa: UP045

    first, second = resolve(service).steps
    assert (first.emits, first.refuses, first.ends) == ((StockReserved,), (OutOfStock,), False)
    assert (second.emits, second.ends) == ((StockReserved,), True)


def declare_in_a_function() -> Service:
    class Inner(Event, name="inner.made", version=1):
        pass

    service = Service("inner")

    def deeper() -> None:
        @service.step(SAGA, compensation=NOTHING)
        async def react(order: Inner, run: Run) -> Outer | None: ...

    class Outer(Event, name="outer.made", version=1):
        pass

    deeper()
    return service


def test_classes_of_functions_around_a_handler_are_found() -> None:
    step = only(declare_in_a_function())
    assert (step.input.wire_type, [event.wire_type for event in step.emits]) == (
        "inner.made.v1",
        ["outer.made.v1"],
    )


def test_a_class_closed_over_is_found_when_the_decorator_runs_elsewhere() -> None:
    def make() -> Callable[[OrderPlaced, Run], Coroutine[Any, Any, None]]:
        class Closed(Event, name="closed.over", version=1):
            pass

        async def react(order: OrderPlaced, run: Run) -> Closed | None:  # type: ignore[return] # pyright: ignore[reportReturnType]
            Closed()

        return react  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    service = Service("elsewhere")
    service.step(SAGA, compensation=NOTHING)(make())
    assert only(service).emits[0].wire_type == "closed.over.v1"


@pytest.mark.anyio
async def test_decorated_functions_stay_functions() -> None:
    run = Run(saga_id="s", step="inventory.reserve_stock", door=Unit())
    order = OrderPlaced(sku="pen", quantity=2)
    assert await checkout.reserve_stock(order, run) == StockReserved(sku="pen", quantity=2)
    assert await checkout.reserve_stock(order=order, run=run) == StockReserved(sku="pen", quantity=2)
    assert vars(checkout.reserve_stock)["__name__"] == "reserve_stock"
    assert checkout.reserve_stock.__doc__ == "Put stock aside."
    assert checkout.reserve_stock.name == "inventory.reserve_stock"
    assert repr(checkout.reserve_stock) == "<step inventory.reserve_stock (checkout v1)>"
    await checkout.release_stock(StockReserved(sku="pen", quantity=2), run)


@pytest.mark.anyio
async def test_type_checkers_see_through_the_decorators() -> None:
    captured = await checkout.capture(StockReserved(sku="", quantity=1), RUN)
    assert_type(captured, Captured | Declined)
    assert_type(await checkout.ship(Captured(amount=1), RUN), Shipped)
    assert captured == Captured(amount=10)
    assert_type(checkout.place.event, type[OrderPlaced])


class Recorder:
    """Be a starter that remembers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[tuple[Any, ...]] = []

    async def start(
        self, start: Any, event: Event, *, key: str | None, tenant: str, priority: Priority, connection: Any
    ) -> str:
        self.calls.append((start, event, key, tenant, priority, connection))
        return self.name

    def start_here(
        self, start: Any, event: Event, *, key: str | None, tenant: str, priority: Priority, connection: Any
    ) -> str:
        self.calls.append((start, event, key, tenant, priority, connection))
        return f"{self.name} here"


@pytest.mark.anyio
async def test_a_start_goes_to_the_app_bound_last() -> None:
    service = Service("orders")
    place = service.starts(SAGA, OrderPlaced)
    order = OrderPlaced(sku="pen", quantity=1)
    first, second = Recorder("first"), Recorder("second")
    with pytest.raises(NotRunning, match=r"orders\.start \(checkout v1\): no app is running .* `async with app:`"):
        await place(order)
    place.bind(first)
    place.bind(second)
    assert await place(order, key="k", tenant="t", connection="c") == "second"
    assert second.calls == [(place, order, "k", "t", Priority.NORMAL, "c")]
    assert place.sync(order, key="k", connection="c") == "second here"
    assert second.calls[1:] == [(place, order, "k", "", Priority.NORMAL, "c")]
    place.unbind(second)
    assert await place(order) == "first"
    assert first.calls == [(place, order, None, "", Priority.NORMAL, None)]
    place.unbind(second)
    place.unbind(first)
    with pytest.raises(NotRunning):
        await place(order)
    assert (place.name, place.service, place.saga, place.event) == (
        "orders.start",
        "orders",
        SAGA,
        OrderPlaced,
    )


@pytest.mark.anyio
async def test_a_start_takes_its_own_event_only() -> None:
    place: Any = Service("orders").starts(SAGA, OrderPlaced)
    place.bind(Recorder("r"))
    with pytest.raises(DeclarationError, match="starts with OrderPlaced, not Shipped"):
        await place(Shipped(parcel="p"))


@pytest.mark.anyio
async def test_a_run_lends_its_transaction_until_its_turn_ends() -> None:
    run = Run(saga_id="s", step="inventory.reserve_stock", door=Unit())
    assert await run.db.execute("select 1") == 8
    assert run.connection == "driver"
    run.end_turn()
    with pytest.raises(NotRunning, match=r"inventory\.reserve_stock: run\.db has no open transaction"):
        _ = run.db
    with pytest.raises(NotRunning, match=r"run\.connection .* @<step>\.recorded"):
        _ = run.connection


def test_the_same_function_name_serves_two_versions() -> None:
    service = Service("inventory")
    for version in (1, 2):

        @service.step(Saga("checkout", version=version), compensation=NOTHING)
        async def reserve(order: OrderPlaced, run: Run) -> StockReserved:
            raise NotImplementedError

    assert [(step.name, step.version) for step in resolve(service).steps] == [
        ("inventory.reserve", 1),
        ("inventory.reserve", 2),
    ]


def test_migrations_are_kept_as_text() -> None:
    assert resolve(Service("orders", migrations="sql")).migrations == "sql"
    assert resolve(Service("orders")).migrations is None


def test_an_event_may_carry_models() -> None:
    class Line(BaseModel):
        sku: str

    class Cart(Event, name="cart.filled", version=1):
        lines: list[Line]

    service = Service("cart")

    @service.step(SAGA, compensation=NOTHING)
    async def fill(order: OrderPlaced, run: Run) -> Cart:
        raise NotImplementedError

    assert only(service).emits == (Cart,)


def test_ended_is_a_value() -> None:
    order = OrderPlaced(sku="pen", quantity=1)
    ended = Ended(ending=Ending.COMPLETED, saga_id="s", start=order)
    assert (ended.cause, ended.refusal, ended.refusal_type, ended.detail) == (None, None, "", "")
    assert ended == Ended(ending=Ending.COMPLETED, saga_id="s", start=order)


def test_a_subclass_of_a_refusal_is_a_refusal() -> None:
    class Sold(OutOfStock, name="stock.sold", version=1):
        pass

    service = Service("inventory")

    @service.step(SAGA, compensation=NOTHING)
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved | Sold:
        raise NotImplementedError

    assert only(service).refuses == (Sold,)
    assert issubclass(Sold, Refusal)


def test_a_step_without_a_timeout_fits_into_a_short_saga() -> None:
    brief = Saga("brief", version=1, timeout=timedelta(seconds=5))
    service = Service("quick")

    @service.step(brief, compensation=NOTHING)
    async def act(order: OrderPlaced, run: Run) -> None: ...

    assert resolve(service).steps[0].timeout_seconds == 5
