"""Deploy services that have moved to new event versions while sagas are open: what is old is read as new."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import anyio
import pytest
import trio.testing

from outbox.urls import open_coordination_store, open_store
from saga import NOTHING, Dependency, Ended, Ending, Event, KeyConflict, PlanError, Refusal, Retry, Run, Saga, Service
from saga._core.manifest import manifest_of
from saga._core.plan import Plan
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga._core.start import Start
from saga.app import App, Coordinator
from saga.ports import Claim, CoordinationStore, GroupSpec, Store
from tests.runtime.world import TUNING, VirtualClock
from transports import MemoryTransport

pytestmark = pytest.mark.anyio

_NUMBERS = count(1)
SAGA = Saga("shop", version=1)
GATEWAY = Dependency("gateway")
PATIENT = Retry(attempts=100, base_seconds=0.5, cap_seconds=1.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


# --- the same three services before and after ------------------------------------------------------------------


class PlacedV1(Event, name="order.placed", version=1):
    sku: str


class Placed(Event, name="order.placed", version=2):
    sku: str
    quantity: int


class ReservedV1(Event, name="stock.reserved", version=1):
    sku: str


class Reserved(Event, name="stock.reserved", version=2):
    sku: str
    shelf: str


class Paid(Event, name="order.paid", version=1):
    sku: str


class Declined(Refusal, name="payment.declined", version=1):
    sku: str


def placed_v1_to_v2(old: PlacedV1) -> Placed:
    return Placed(sku=old.sku, quantity=1)


def reserved_v1_to_v2(old: ReservedV1) -> Reserved:
    return Reserved(sku=old.sku, shelf="?")


Answer = Paid | Declined


async def paid(sku: str) -> Answer:
    return Paid(sku=sku)


async def declined(sku: str) -> Answer:
    return Declined(sku=sku)


@dataclass
class Shop:
    """Hold one generation of the services, and what its handlers were given."""

    gateway: Callable[[str], Awaitable[Answer]] = paid
    orders: Service = field(default_factory=lambda: Service("orders"))
    inventory: Service = field(default_factory=lambda: Service("inventory"))
    payment: Service = field(default_factory=lambda: Service("payment"))
    seen: list[tuple[str, Event]] = field(default_factory=list[tuple[str, Event]])

    def __post_init__(self) -> None:
        self.declare()

    def declare(self) -> None:
        """Declare what this generation knows."""
        raise NotImplementedError

    @property
    def services(self) -> list[Service]:
        """Return all three."""
        return [self.orders, self.inventory, self.payment]

    async def pay(self, reserved: Reserved | ReservedV1) -> Answer:
        """Ask the gateway."""
        self.seen.append(("pay", reserved))
        return await self.gateway(reserved.sku)

    def ends(self) -> None:
        """Declare what the starter does in the end."""

        @self.orders.on_end(SAGA)
        async def settle(end: Ended, run: Run) -> None:
            self.seen.append((end.ending.value, end.start))


class OldShop(Shop):
    """Be the shop that knows first versions only."""

    def declare(self) -> None:
        self.place: Start[PlacedV1] = self.orders.starts(SAGA, PlacedV1)
        self.ends()
        self.declare_inventory()
        self.declare_payment()

    def declare_inventory(self) -> None:
        @self.inventory.step(SAGA, retry=PATIENT)
        async def reserve(order: PlacedV1, run: Run) -> ReservedV1:
            self.seen.append(("reserve", order))
            return ReservedV1(sku=order.sku)

        @reserve.compensation
        async def release(reserved: ReservedV1, order: PlacedV1, run: Run) -> None:
            self.seen.extend((("release", reserved), ("release of", order)))

    def declare_payment(self) -> None:
        @self.payment.step(SAGA, retry=PATIENT, calls=GATEWAY, compensation=NOTHING)
        async def pay(reserved: ReservedV1, run: Run) -> Paid | Declined:
            return await self.pay(reserved)


class NewShop(Shop):
    """Be the shop that works with second versions and reads the first."""

    def declare(self) -> None:
        for service in (self.orders, self.inventory):
            service.upcaster(placed_v1_to_v2)
        for service in (self.inventory, self.payment):
            service.upcaster(reserved_v1_to_v2)
        self.place: Start[Placed] = self.orders.starts(SAGA, Placed)
        self.ends()

        @self.inventory.step(SAGA, retry=PATIENT)
        async def reserve(order: Placed, run: Run) -> Reserved:
            self.seen.append(("reserve", order))
            return Reserved(sku=order.sku, shelf="A")

        @reserve.compensation
        async def release(reserved: Reserved, order: Placed, run: Run) -> None:
            self.seen.extend((("release", reserved), ("release of", order)))

        @self.payment.step(SAGA, retry=PATIENT, calls=GATEWAY, compensation=NOTHING)
        async def pay(reserved: Reserved, run: Run) -> Paid | Declined:
            return await self.pay(reserved)


def plan_of(shop: Shop, revision: int = 1) -> Plan:
    return build_plan("shop", 1, [manifest_of(definition) for definition in resolve_all(shop.services)], revision)


class OldDock(Shop):
    """Be a shop whose inventory joins what two services did; orders does the first, payment the second."""

    def declare(self) -> None:
        self.place: Start[PlacedV1] = self.orders.starts(SAGA, PlacedV1)

        @self.orders.step(SAGA, compensation=NOTHING)
        async def reserve(order: PlacedV1, run: Run) -> ReservedV1:
            return ReservedV1(sku=order.sku)

        @self.payment.step(SAGA, compensation=NOTHING)
        async def charge(order: PlacedV1, run: Run) -> Paid:
            return Paid(sku=order.sku)

        self.ends()
        self.declare_inventory()

    def declare_inventory(self) -> None:
        @self.inventory.join(SAGA, compensation=NOTHING)
        async def load(reserved: ReservedV1, payment: Paid, run: Run) -> None:
            self.seen.append(("load", reserved))


class NewDock(OldDock):
    """Be the same shop with an inventory that works with the second version."""

    def declare_inventory(self) -> None:
        self.inventory.upcaster(reserved_v1_to_v2)

        @self.inventory.join(SAGA, compensation=NOTHING)
        async def load(reserved: Reserved, payment: Paid, run: Run) -> None:
            self.seen.append(("load", reserved))


# --- one database and one log over all deploys -------------------------------------------------------------------


@dataclass
class Ground:
    """Be what outlives a deploy: the database, the log, and the plans a coordinator is given."""

    store: Store
    coordination: CoordinationStore
    transport: MemoryTransport
    folder: Path

    def publish(self, plan: Plan) -> None:
        """Put a plan where the next coordinator finds it."""
        (self.folder / f"{plan.revision}.plan.json").write_bytes(plan_to_json(plan))

    @asynccontextmanager
    async def deployed(self, services: Sequence[Service], *plans: Plan) -> AsyncGenerator[App]:
        """Run some services and a coordinator with these plans alone, and the ones it had before."""
        for file in self.folder.glob("*.plan.json"):
            file.unlink()
        for plan in plans:
            self.publish(plan)
        coordinator = Coordinator(plans=self.folder, store=self.coordination)
        app = App(services, coordinator=coordinator, store=self.store, transport=self.transport, tuning=TUNING)
        async with app:
            yield app

    async def types(self, saga_id: str) -> dict[str, tuple[str, str]]:
        """Return the stored input and result types of a saga's runs."""
        sql = "select step, input_type, result_type from saga_run where saga_id = $1"
        async with self.store.unit(Claim(service="orders", sagas=())) as unit:
            return {row["step"]: (row["input_type"], row["result_type"]) for row in await unit.db.fetch(sql, saga_id)}


@asynccontextmanager
async def ground(folder: Path) -> AsyncGenerator[Ground]:
    address = f"sqlite:///:memory:?name=v{next(_NUMBERS)}"
    clock = VirtualClock()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(address, clock=clock))
        coordination = await stack.enter_async_context(open_coordination_store(address, clock=clock))
        transport = await stack.enter_async_context(MemoryTransport())
        # The log keeps what a group has not read, also while nobody of it is up.
        for name in ("inventory", "payment"):
            transport.declare(GroupSpec(name=name, slot="0", topics=("orders.events", f"{name}.commands")))
        yield Ground(store=store, coordination=coordination, transport=transport, folder=folder)


class Away:
    """Be a gateway that never answers, and say when it was first asked."""

    def __init__(self) -> None:
        self.asked = anyio.Event()

    async def __call__(self, sku: str) -> Answer:
        self.asked.set()
        raise ConnectionError(sku)


OLD_PLAN = plan_of(OldShop())
NEW_PLAN = plan_of(NewShop(), revision=2)


async def test_an_old_event_in_the_log_is_handled_as_a_new_one(tmp_path: Path) -> None:
    old, new = OldShop(), NewShop()
    async with ground(tmp_path) as below:
        async with below.deployed([old.orders], OLD_PLAN):
            handle = await old.place(PlacedV1(sku="A"), key="1")
        async with below.deployed(new.services, OLD_PLAN, NEW_PLAN) as app:
            end = await app.handle(new.place, handle.saga_id).outcome(60)
        assert end.ending is Ending.COMPLETED
        assert end.start == Placed(sku="A", quantity=1)
        assert new.seen == [
            ("reserve", Placed(sku="A", quantity=1)),
            ("pay", Reserved(sku="A", shelf="A")),
            ("completed", Placed(sku="A", quantity=1)),
        ]
        # What is stored is what came in; what goes out under the old plan has the new version.
        assert await below.types(handle.saga_id) == {
            "orders.start": ("", "order.placed.v1"),
            "inventory.reserve": ("order.placed.v1", "stock.reserved.v2"),
            "payment.pay": ("stock.reserved.v2", "order.paid.v1"),
        }


async def test_an_old_stored_input_is_given_to_the_outside_call_as_a_new_one(tmp_path: Path) -> None:
    gateway = Away()
    old, new = OldShop(gateway=gateway), NewShop()
    async with ground(tmp_path) as below:
        async with below.deployed(old.services, OLD_PLAN):
            handle = await old.place(PlacedV1(sku="A"))
            await gateway.asked.wait()
        async with below.deployed(new.services, OLD_PLAN, NEW_PLAN) as app:
            assert (await app.handle(new.place, handle.saga_id).outcome(60)).ending is Ending.COMPLETED
        assert ("pay", ReservedV1(sku="A")) in old.seen
        assert new.seen == [("pay", Reserved(sku="A", shelf="?")), ("completed", Placed(sku="A", quantity=1))]


async def test_an_old_result_is_undone_by_new_code(tmp_path: Path) -> None:
    gateway = Away()
    old, new = OldShop(gateway=gateway), NewShop(gateway=declined)
    async with ground(tmp_path) as below:
        async with below.deployed(old.services, OLD_PLAN):
            handle = await old.place(PlacedV1(sku="A"))
            await gateway.asked.wait()
        async with below.deployed(new.services, OLD_PLAN, NEW_PLAN) as app:
            end = await app.handle(new.place, handle.saga_id).outcome(60)
        assert (end.ending, end.refusal) == (Ending.COMPENSATED, Declined(sku="A"))
        assert new.seen == [
            ("pay", Reserved(sku="A", shelf="?")),
            ("release", Reserved(sku="A", shelf="?")),
            ("release of", Placed(sku="A", quantity=1)),
            ("compensated", Placed(sku="A", quantity=1)),
        ]


async def test_what_a_join_gathered_before_is_given_to_it_as_new(tmp_path: Path) -> None:
    old, new = OldDock(), NewDock()
    plan = plan_of(old)
    async with ground(tmp_path) as below:
        async with below.deployed([old.orders, old.inventory], plan):
            handle = await old.place(PlacedV1(sku="A"))
            await anyio.sleep(5)  # virtual
            assert "inventory.load" in await below.types(handle.saga_id)
        async with below.deployed(new.services, plan) as app:
            assert (await app.handle(new.place, handle.saga_id).outcome(60)).ending is Ending.COMPLETED
        assert (old.seen, new.seen[0]) == ([], ("load", Reserved(sku="A", shelf="?")))


async def test_sagas_of_both_plans_run_side_by_side_on_new_code(tmp_path: Path) -> None:
    gateway = Away()
    old, new = OldShop(gateway=gateway), NewShop()
    async with ground(tmp_path) as below:
        async with below.deployed(old.services, OLD_PLAN):
            before = await old.place(PlacedV1(sku="A"))
            await gateway.asked.wait()
        async with below.deployed(new.services, OLD_PLAN, NEW_PLAN) as app:
            after = await new.place(Placed(sku="B", quantity=2))
            assert (await after.outcome(60)).start == Placed(sku="B", quantity=2)
            assert (await app.handle(new.place, before.saga_id).outcome(60)).start == Placed(sku="A", quantity=1)
        assert {entry for entry in new.seen if entry[0] == "completed"} == {
            ("completed", Placed(sku="A", quantity=1)),
            ("completed", Placed(sku="B", quantity=2)),
        }
        assert (await below.types(after.saga_id))["inventory.reserve"] == ("order.placed.v2", "stock.reserved.v2")


async def test_an_event_too_new_for_a_reader_waits_for_the_code_that_reads_it(tmp_path: Path) -> None:
    old, new = OldShop(), NewShop()
    async with ground(tmp_path) as below:
        async with below.deployed([old.orders], OLD_PLAN):
            handle = await old.place(PlacedV1(sku="A"))
        async with below.deployed([new.orders, new.inventory, old.payment], OLD_PLAN, NEW_PLAN) as app:
            await anyio.sleep(5)  # virtual
            assert app.context("payment").counts["parked"]
        assert old.seen == []
        async with below.deployed(new.services, OLD_PLAN, NEW_PLAN) as app:
            assert (await app.handle(new.place, handle.saga_id).outcome(60)).ending is Ending.COMPLETED
        assert ("pay", Reserved(sku="A", shelf="A")) in new.seen


async def test_readers_move_first_and_the_plan_stays(tmp_path: Path) -> None:
    old, new = OldShop(), NewShop()
    async with ground(tmp_path) as below:
        async with below.deployed([old.orders, old.inventory, new.payment], OLD_PLAN):
            assert (await (await old.place(PlacedV1(sku="A"))).outcome(60)).ending is Ending.COMPLETED
        assert new.seen == [("pay", Reserved(sku="A", shelf="?"))]


async def test_senders_that_moved_start_nothing_under_the_plan_before(tmp_path: Path) -> None:
    new = NewShop()
    async with ground(tmp_path) as below:
        with pytest.raises(PlanError, match=r"starting event is order\.placed\.v2 in this code and order\.placed\.v1"):
            async with below.deployed([new.orders], OLD_PLAN):
                raise NotImplementedError


async def test_a_start_under_the_key_of_an_old_one_finds_it(tmp_path: Path) -> None:
    old, new = OldShop(), NewShop()
    async with ground(tmp_path) as below:
        async with below.deployed(old.services, OLD_PLAN):
            before = await old.place(PlacedV1(sku="A"), key="1")
        async with below.deployed(new.services, OLD_PLAN, NEW_PLAN):
            assert (await new.place(Placed(sku="A", quantity=1), key="1")).saga_id == before.saga_id
            with pytest.raises(KeyConflict):
                await new.place(Placed(sku="A", quantity=2), key="1")
