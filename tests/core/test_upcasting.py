"""Read older versions of events: declarations that cannot work, chains, and messages kept from every version."""

# Most of this is refused by type checkers as well, so services are Any here.
# mypy: disable-error-code="untyped-decorator, empty-body"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from saga import NOTHING, DeclarationError, Event, PlanError, Run, Saga, Service, Undecodable
from saga._core.cloudevents import decode
from saga._core.definition import ServiceDefinition, StepDefinition
from saga._core.fitting import FIT, fitness
from saga._core.limits import Limits
from saga._core.manifest import EventReads, manifest_from_json, manifest_of, manifest_to_json
from saga._core.plan import Plan, PlanInput, Topology, topology_of
from saga._core.plan_check import check_service
from saga._core.planning import build_plan
from saga._core.resolve import resolve, resolve_all
from saga._core.upcasting import read_one_of, read_payload, readable, reads
from saga._core.versions import as_emitted, as_taken, leads, planned_type, version_of
from tests.core.drafts import manifests, step
from tests.core.order_versions import OrderPlaced, OrderPlacedV1, StockReserved, inventory
from tests.core.wire_examples import GOLDEN
from tests.core.wire_strategies import delivery

SAGA = Saga("checkout", version=1)


class V1(Event, name="thing.made", version=1):
    one: str


class V2(Event, name="thing.made", version=2):
    two: str


class V3(Event, name="thing.made", version=3):
    three: str


class Other(Event, name="thing.sold", version=2):
    two: str


def one_to_two(old: V1) -> V2:
    return V2(two=f"{old.one} 2")


def one_to_three(old: V1) -> V3:
    return V3(three=f"{old.one} straight to 3")


def two_to_three(old: V2) -> V3:
    return V3(three=f"{old.two} 3")


def declared(*upcasters: Callable[[Any], Event], taken: str = "V3") -> ServiceDefinition:
    """Resolve a service with one step, which takes the version named."""
    service = Service("stock")
    for upcaster in upcasters:
        service.upcaster(upcaster)

    async def keep(event: Event, run: Run) -> None: ...

    versions: dict[str, type[Event]] = {"V1": V1, "V2": V2, "V3": V3}
    keep.__annotations__["event"] = versions[taken]
    service.step(SAGA, compensation=NOTHING)(keep)
    return resolve(service)


def step_of(definition: ServiceDefinition) -> StepDefinition:
    return definition.steps[0]


# --- declaring -----------------------------------------------------------------------------------------------

Declare = Callable[[Any], object]
CASES: list[Any] = []


def refused(*words: str) -> Callable[[Declare], Declare]:
    """Say of a function that what it declares is refused with these words."""

    def add(declare: Declare) -> Declare:
        CASES.append(pytest.param(declare, words, id=declare.__name__))
        return declare

    return add


@refused("stock: upcaster up", "at once", "plain `def up(...)`")
def an_async_function(service: Any) -> None:
    @service.upcaster
    async def up(old: V1) -> V3: ...


@refused("stock: upcaster up", "at once")
def a_generator(service: Any) -> None:
    @service.upcaster
    def up(old: V1) -> V3:  # type: ignore[misc] # pyright: ignore[reportInvalidTypeForm]
        yield V3(three="")  # pyright: ignore[reportReturnType]


@refused("stock: upcaster", "not a plain function")
def no_function(service: Any) -> None:
    service.upcaster(V3)


@refused("stock: upcaster up", "2 parameters", "one old event")
def two_parameters(service: Any) -> None:
    @service.upcaster
    def up(old: V1, run: Run) -> V3: ...


@refused("stock: upcaster up", "old is V1 | V2", "not one Event class")
def two_sources(service: Any) -> None:
    @service.upcaster
    def up(old: V1 | V2) -> V3: ...


@refused("stock: upcaster up", "return is V3 | NoneType", "not one Event class")
def perhaps_nothing(service: Any) -> None:
    @service.upcaster
    def up(old: V1) -> V3 | None: ...


@refused("stock: upcaster up", "return is str")
def no_event(service: Any) -> None:
    @service.upcaster
    def up(old: V1) -> str: ...


@refused("stock: upcaster up", "annotation cannot be read", "Missing")
def an_unknown_annotation(service: Any) -> None:
    @service.upcaster
    def up(old: Missing) -> V3: ...  # type: ignore[name-defined] # pyright: ignore[reportUndefinedVariable] # noqa: F821


@refused("stock: upcaster up", "thing.made.v1", "thing.sold.v2", "two events", "name='thing.made'")
def two_names(service: Any) -> None:
    @service.upcaster
    def up(old: V1) -> Other: ...


@refused("stock: upcaster down", "thing.made.v1 of thing.made.v3", "versions only rise", "above 3")
def a_fall(service: Any) -> None:
    @service.upcaster
    def down(old: V3) -> V1: ...


@refused("stock: upcaster down", "versions only rise")
def a_cycle(service: Any) -> None:
    service.upcaster(one_to_three)

    @service.upcaster
    def down(old: V3) -> V1: ...


@refused("stock: upcaster same", "versions only rise")
def a_way_to_itself(service: Any) -> None:
    @service.upcaster
    def same(old: V3) -> V3: ...


@refused("stock: upcasters one_to_two and one_to_three both read thing.made.v1", "remove one")
def two_ways_up(service: Any) -> None:
    for upcaster in (one_to_two, one_to_three, two_to_three):
        service.upcaster(upcaster)


@refused(
    "stock: upcaster one_to_two leads from thing.made.v1 to thing.made.v2",
    "none of its steps",
    "add an upcaster from thing.made.v2 to thing.made.v3",
)
def a_gap(service: Any) -> None:
    service.upcaster(one_to_two)


@refused("stock: upcaster up", "to thing.sold.v2", "none of its steps", "remove the upcaster")
def an_event_nobody_takes(service: Any) -> None:
    class Old(Event, name="thing.sold", version=1): ...

    @service.upcaster
    def up(old: Old) -> Other: ...


@refused("stock: upcaster up", "to thing.made.v4", "none of its steps", "let a step take it, or remove the upcaster")
def a_way_past_what_is_taken(service: Any) -> None:
    class V4(Event, name="thing.made", version=4): ...

    @service.upcaster
    def up(old: V3) -> V4: ...


@refused("stock: upcaster up", "stock.keep", "two classes with the wire type 'thing.made.v3'")
def a_twin(service: Any) -> None:
    class Twin(Event, name="thing.made", version=3): ...

    @service.upcaster
    def up(old: V1) -> Twin: ...


@pytest.mark.parametrize(("declare", "words"), CASES)
def test_what_cannot_work_is_refused_with_a_sentence(declare: Declare, words: tuple[str, ...]) -> None:
    service = Service("stock")

    @service.step(SAGA, compensation=NOTHING)
    async def keep(made: V3, run: Run) -> None: ...

    with pytest.raises(DeclarationError) as caught:
        resolve((declare(service), service)[1])
    for word in words:
        assert word in str(caught.value)


def test_a_twin_in_another_service_of_the_app_is_refused() -> None:
    class Twin(Event, name="order.placed", version=1):
        sku: str

    orders = Service("orders")
    orders.starts(SAGA, Twin)
    with pytest.raises(DeclarationError, match=r"upcaster placed_v1_to_v2.*two classes with the wire type"):
        resolve_all([orders, inventory])


def test_an_upcaster_stays_a_function_and_serves_several_services() -> None:
    one, two = Service("one"), Service("two")
    assert one.upcaster(one_to_two) is one_to_two
    assert two.upcaster(one_to_two) is one_to_two
    assert one_to_two(V1(one="x")) == V2(two="x 2")


def test_what_a_service_only_emits_or_starts_with_may_be_read_too() -> None:
    """Its own stored results and starts are older as well."""
    orders = Service("orders")
    orders.upcaster(one_to_three)
    orders.starts(SAGA, V3)
    assert resolve(orders).starts[0].upcasters.keys() == {"thing.made.v1"}

    makers = Service("makers")
    makers.upcaster(one_to_three)

    @makers.step(SAGA, compensation=NOTHING)
    async def make(order: OrderPlaced, run: Run) -> V3:
        raise NotImplementedError

    assert resolve(makers).steps[0].upcasters.keys() == {"thing.made.v1"}


# --- reading -------------------------------------------------------------------------------------------------


def test_a_chain_is_followed_to_the_end() -> None:
    up = declared(one_to_two, two_to_three).upcasters
    assert read_payload(V3, "thing.made.v1", b'{"one":"x"}', up) == V3(three="x 2 3")
    assert read_payload(V3, "thing.made.v2", b'{"two":"x"}', up) == V3(three="x 3")
    assert read_payload(V3, "thing.made.v3", b'{"three":"x"}', up) == V3(three="x")
    assert list(readable(V3, up)) == ["thing.made.v3", "thing.made.v2", "thing.made.v1"]


def test_a_chain_ends_at_the_version_a_step_takes_though_it_goes_on() -> None:
    """Two sagas of one service may work with two versions."""
    up = {**declared(one_to_two, taken="V2").upcasters, **declared(two_to_three).upcasters}
    assert read_payload(V2, "thing.made.v1", b'{"one":"x"}', up) == V2(two="x 2")
    assert not reads(V2, "thing.made.v3", up)


def test_a_version_may_be_left_out() -> None:
    up = declared(one_to_three, two_to_three).upcasters
    assert read_payload(V3, "thing.made.v1", b'{"one":"x"}', up) == V3(three="x straight to 3")


def test_what_no_upcaster_leads_to_cannot_be_read() -> None:
    up = declared(two_to_three).upcasters
    for wire_type in ("thing.made.v1", "thing.made.v4", "thing.sold.v2", "", "thing.made"):
        assert not reads(V3, wire_type, up)
        with pytest.raises(Undecodable, match=r"reads thing\.made\.v3 and thing\.made\.v2, not "):
            read_payload(V3, wire_type, b"{}", up)


def test_an_old_payload_must_fit_its_own_version() -> None:
    with pytest.raises(ValidationError, match="one"):
        read_payload(V3, "thing.made.v1", b'{"three":"x"}', declared(one_to_three).upcasters)


def test_what_an_upcaster_does_wrong_is_said_without_the_payload() -> None:
    (fine,) = declared(one_to_three).upcasters.values()
    secret = b'{"one":"4111 1111"}'

    def raises(old: V1) -> V3:
        raise LookupError(old.one)

    for handler, says in ((raises, "one_to_three raised LookupError"), (one_to_two, "returned V2; its.*says V3")):
        with pytest.raises(Undecodable, match=says) as caught:
            read_payload(V3, "thing.made.v1", secret, {"thing.made.v1": replace(fine, handler=handler)})
        assert "4111" not in str(caught.value)


def test_an_upcaster_that_makes_an_impossible_event_is_told_from_a_bad_payload() -> None:
    (fine,) = declared(one_to_three).upcasters.values()

    def wrong(old: V1) -> V3:
        return V3.model_validate({"three": 3})

    with pytest.raises(Undecodable, match="one_to_three raised ValidationError"):
        read_payload(V3, "thing.made.v1", b'{"one":"x"}', {"thing.made.v1": replace(fine, handler=wrong)})


def test_of_several_alternatives_the_own_version_comes_first() -> None:
    up = declared(one_to_two, two_to_three).upcasters
    assert read_one_of([V3, V2], "thing.made.v2", b'{"two":"x"}', up) == V2(two="x")
    assert read_one_of([Other, V3], "thing.made.v2", b'{"two":"x"}', up) == V3(three="x 3")
    with pytest.raises(Undecodable, match=r"reads thing\.sold\.v2, not thing\.made\.v1"):
        read_one_of([Other], "thing.made.v1", b"{}", up)


# --- plans ---------------------------------------------------------------------------------------------------


def planned(*events: str) -> Topology:
    steps = [f"a.s{number}: step, s.v5 -> {event}" for number, event in enumerate(events)]
    return topology_of(build_plan("checkout", 1, manifests(*steps, starts=(("o", "s.v5"),))))


@pytest.mark.parametrize(
    ("wire_type", "stands_for"),
    [
        ("x.v2", "x.v2"),
        ("x.v4", "x.v4"),
        ("x.v3", "x.v2"),
        ("x.v9", "x.v4"),
        ("x.v10", "x.v4"),
        ("x.v1", ""),
        ("y.v1", ""),
        ("s.v6", "s.v5"),
        ("x", ""),
        ("x.v", ""),
        ("x.vv4", ""),
        ("x.v٤", ""),
        (f"x.v{'9' * 500}", ""),
        ("", ""),
    ],
)
def test_an_event_stands_for_the_newest_planned_version_below(wire_type: str, stands_for: str) -> None:
    assert planned_type(planned("x.v2", "x.v4"), wire_type) == stands_for


@given(st.text(max_size=40))
def test_no_wire_type_breaks_it(wire_type: str) -> None:
    topology = planned("x.v2")
    assert planned_type(topology, wire_type) in {"", *topology.sources}
    assert version_of(wire_type)[1] >= 0


def reader(*upcasters: Callable[[Any], Event]) -> ServiceDefinition:
    """Resolve a service whose one step takes V3."""
    return declared(*upcasters)


def sender(*versions: type[Event], known: Callable[[Any], Event] | None = None) -> ServiceDefinition:
    """Resolve a starter with one step for each of these events, which emits it."""
    makers = Service("makers")
    makers.starts(SAGA, StockReserved)
    if known is not None:
        makers.upcaster(known)

    async def make(order: StockReserved, run: Run) -> None: ...

    for number, version in enumerate(versions):
        maker = FunctionType(make.__code__, make.__globals__, f"make{number}")
        maker.__annotations__ = {**make.__annotations__, "return": version}
        makers.step(SAGA, compensation=NOTHING)(maker)
    return resolve(makers)


def joined(*definitions: ServiceDefinition) -> Plan:
    return build_plan("checkout", 1, [manifest_of(definition) for definition in definitions])


def test_a_plan_names_the_version_that_is_sent_and_its_reader_matches() -> None:
    new = reader(one_to_two, two_to_three)
    for version in (V1, V2, V3):
        plan = joined(sender(version), new)
        (keep,) = (step for step in plan.steps if step.name == "stock.keep")
        assert keep.reacts_to == version.wire_type
        assert check_service(new, plan) == ()
        assert fitness(new, plan).steps == {}
    assert joined(sender(V1), new).hash != joined(sender(V3), new).hash


def test_a_manifest_says_what_is_read_and_keeps_it_in_its_file() -> None:
    (part,) = manifest_of(reader(one_to_two, two_to_three)).sagas
    assert part.reads == (EventReads(type="thing.made.v3", older=("thing.made.v2", "thing.made.v1")),)
    assert [(needs.type, [field.name for field in needs.fields]) for needs in part.needs] == [
        ("thing.made.v1", ["one"]),
        ("thing.made.v2", ["two"]),
        ("thing.made.v3", ["three"]),
    ]
    manifest = manifest_of(reader(one_to_two, two_to_three))
    assert manifest_from_json(manifest_to_json(manifest)) == manifest
    assert manifest_of(reader()).sagas[0].reads == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reads": {"thing.sold.v2": []}}, "reads names thing.sold.v2"),
        ({"reads": {}}, "needs and the steps do not name the same events"),
        ({"reads": {"thing.made.v3": "thing.made.v1"}}, "not a list"),
        ({"reads": []}, "not an object"),
    ],
)
def test_a_manifest_edited_by_hand_is_refused(change: dict[str, object], says: str) -> None:
    body = orjson.loads(manifest_to_json(manifest_of(reader(one_to_three))))
    body["sagas"][0].update(change)
    with pytest.raises(PlanError, match=says):
        manifest_from_json(orjson.dumps(body))


def test_without_an_upcaster_nobody_feeds_the_step() -> None:
    with pytest.raises(PlanError, match=r"stock\.keep: reacts to thing\.made\.v3, which no step emits"):
        joined(sender(V1), reader(two_to_three))


def test_a_step_takes_one_version_in_one_plan() -> None:
    with pytest.raises(
        PlanError, match=r"stock\.keep: takes thing\.made\.v3 in several.*v2 \(by makers\).*same version"
    ):
        joined(sender(V1, V2), reader(one_to_two, two_to_three))


def test_what_is_sent_is_held_against_the_needs_of_its_own_version() -> None:
    class Fussy(Event, name="thing.made", version=1):
        one: str
        colour: str

    def up(old: Fussy) -> V3: ...

    with pytest.raises(PlanError, match=r"stock\.keep: needs its field 'colour', .*by makers in thing\.made\.v1"):
        joined(sender(V1), reader(up))


def test_a_sender_that_moved_goes_on_with_open_sagas_and_starts_none_of_the_old_plan() -> None:
    plan = joined(sender(V1), reader(one_to_three))
    moved = sender(V3, known=one_to_three)
    assert fitness(moved, plan) == FIT
    assert [problem for problem in check_service(moved, plan) if "emits" in problem] != []
    blind = sender(V3)
    assert "makers.make0" in fitness(blind, plan).steps


def test_a_join_takes_what_is_sent_of_each_of_its_events() -> None:
    def joining(*upcasters: Callable[[Any], Event]) -> ServiceDefinition:
        service = Service("stock")
        for upcaster in upcasters:
            service.upcaster(upcaster)

        @service.join(SAGA, compensation=NOTHING)
        async def both(reserved: StockReserved, made: V3, run: Run) -> None: ...

        return resolve(service)

    new = joining(one_to_three)
    plan = joined(sender(V1), new)
    (both,) = (step for step in plan.steps if step.name == "stock.both")
    assert [join.event for join in both.joins] == ["stock.reserved.v1", "thing.made.v1"]
    assert check_service(new, plan) == ()
    assert fitness(new, plan) == FIT
    assert "stock.both" in fitness(joining(), plan).steps


def test_an_order_that_changes_with_the_versions_is_no_difference() -> None:
    """As text, v10 comes before v9."""
    planned = replace(step("a.s: step, s -> x"), reacts_to="", joins=(PlanInput(event="x.v8"), PlanInput(event="x.v9")))
    coded = replace(planned, joins=(PlanInput(event="x.v10"), PlanInput(event="x.v9")))
    assert as_taken(coded, planned, {"x.v8": "x.v10"}) == planned


def test_what_is_sent_once_for_each_element_may_move_as_well() -> None:
    planned = step("a.s: step, s -> x.v1 | y", fan_out="x.v1")
    coded = step("a.s: step, s -> x.v2 | y", fan_out="x.v2")
    assert as_emitted(coded, planned, {"x.v1": "x.v2"}) == planned
    assert as_emitted(coded, planned, {}) == coded


def test_a_start_of_an_older_version_is_known_by_its_upcaster() -> None:
    def began(event: type[Event], *upcasters: Callable[[Any], Event]) -> ServiceDefinition:
        orders = Service("orders")
        orders.starts(SAGA, event)
        for upcaster in upcasters:
            orders.upcaster(upcaster)
        return resolve(orders)

    plan = joined(began(V1), reader(one_to_three))
    assert fitness(began(V3, one_to_three), plan).ending == ""
    assert "thing.made.v3" in fitness(began(V3), plan).ending
    assert check_service(began(V3, one_to_three), plan) != ()


def test_ways_lead_up_only() -> None:
    ways = {"x.v1": "x.v2", "x.v2": "x.v3"}
    assert leads("x.v1", "x.v3", ways)
    assert leads("x.v2", "x.v2", ways)
    assert not leads("x.v3", "x.v1", ways)
    assert not leads("y.v1", "x.v3", ways)


# --- messages kept from every version --------------------------------------------------------------------------

KEPT = GOLDEN / "versions"
MEANS = {
    "order.placed.v1": OrderPlaced(sku="A-1", quantity=1),
    "order.placed.v2": OrderPlaced(sku="A-1", quantity=2),
}
"""What the newest code reads in each file. The files are never written again: a new version adds one."""


def read_file(path: Path, definition: ServiceDefinition) -> Event:
    """Read a kept message as the service's step does."""
    file = orjson.loads(path.read_bytes())
    headers = tuple((name, bytes.fromhex(value)) for name, value in file["headers"])
    envelope = decode(delivery(bytes.fromhex(file["value"]), headers), Limits())
    step = step_of(definition)
    return read_payload(step.input, envelope.type, envelope.payload, step.upcasters)


@pytest.mark.parametrize("name", MEANS)
def test_the_newest_code_reads_what_every_version_has_sent(name: str) -> None:
    assert step_of(resolve(inventory)).input is OrderPlaced
    assert read_file(KEPT / f"{name}.json", resolve(inventory)) == MEANS[name]


def test_every_version_there_has_been_is_kept() -> None:
    versions = [f"order.placed.v{number}" for number in range(1, OrderPlaced.wire_version + 1)]
    assert sorted(path.stem for path in KEPT.glob("*.json")) == versions
    assert list(MEANS) == versions


def test_a_message_whose_reader_is_gone_is_noticed() -> None:
    forgetful = Service("inventory")

    @forgetful.step(SAGA, compensation=NOTHING)
    async def reserve(order: OrderPlaced, run: Run) -> StockReserved:
        raise NotImplementedError

    with pytest.raises(Undecodable, match=r"reads order\.placed\.v2, not order\.placed\.v1"):
        read_file(KEPT / f"{OrderPlacedV1.wire_type}.json", resolve(forgetful))
