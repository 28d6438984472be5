"""Prove that plans are made the same from the same parts, and that files hold what they say."""

from __future__ import annotations

import json
import random
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga import NOTHING, Dependency, Run, Saga, Service
from saga._core.definition import ServiceDefinition
from saga._core.flow import flow_lines, plan_warnings
from saga._core.manifest import Manifest, manifest_from_json, manifest_of, manifest_to_json
from saga._core.plan import Plan, PlanInput, PlanStep, Undoing
from saga._core.plan_check import check_service
from saga._core.planning import build_plan, plan_from_json, plan_hash, plan_to_json
from saga._core.resolve import resolve, resolve_all
from saga._core.words import Effects, StepKind, Takes
from saga.errors import PlanError
from tests.core import checkout
from tests.core.checkout import OrderPlaced, Shipped, StockReserved
from tests.core.drafts import manifests, sound_steps, step


def checkout_manifests() -> tuple[Manifest, ...]:
    return tuple(manifest_of(definition) for definition in resolve_all(checkout.SERVICES))


def checkout_plan() -> Plan:
    return build_plan("checkout", 1, checkout_manifests())


def plan_of(*steps: PlanStep | str) -> Plan:
    return build_plan("checkout", 1, manifests(*steps))


def definition_of(name: str) -> ServiceDefinition:
    return next(d for d in resolve_all(checkout.SERVICES) if d.name == name)


def test_the_example_is_a_plan() -> None:
    plan = checkout_plan()
    assert [s.name for s in plan.steps] == ["inventory.reserve_stock", "payment.capture", "shipping.ship"]
    assert (plan.start, plan.start_event) == ("orders.start", "order.placed.v1")
    assert (plan.timeout_ms, plan.forward_window_ms) == (300_000, 7 * 24 * 3600 * 1000)
    assert plan.revision == 1
    assert flow_lines(plan) == ("orders.start -> inventory.reserve_stock -> payment.capture (pivot) -> shipping.ship",)
    assert plan.steps[1] == PlanStep(
        name="payment.capture",
        kind=StepKind.PIVOT,
        effects=Effects.EXTERNAL,
        reacts_to="stock.reserved.v1",
        emits=("payment.captured.v1",),
        ends=False,
        refuses=("payment.declined.v1",),
        undoing=Undoing.NEVER,
        timeout_ms=30_000,
        calls="gateway",
    )


def test_code_and_its_own_plan_do_not_differ() -> None:
    plan = checkout_plan()
    assert [check_service(definition, plan) for definition in resolve_all(checkout.SERVICES)] == [()] * 4


def test_a_service_without_a_part_has_no_difference() -> None:
    assert check_service(resolve(Service("mail")), checkout_plan()) == ()


def test_steps_stand_after_their_causes_and_then_by_name() -> None:
    plan = plan_of(
        "b.late: step, x -> y", "z.first: step, s -> x", "a.last: step, y -> none", "c.side: step, s -> none"
    )
    assert [s.name for s in plan.steps] == ["c.side", "z.first", "b.late", "a.last"]


@given(sound_steps(), st.randoms(use_true_random=False))
def test_the_order_of_declarations_does_not_matter(steps: list[PlanStep], rng: random.Random) -> None:
    plan = plan_of(*steps)
    mixed = [replace(s, emits=s.emits[::-1], refuses=s.refuses[::-1]) for s in steps]
    rng.shuffle(mixed)
    parts = list(manifests(*mixed))
    rng.shuffle(parts)
    other = build_plan("checkout", 1, parts)
    assert other.hash == plan.hash
    assert [s.name for s in other.steps] == [s.name for s in plan.steps]
    assert plan_to_json(other) == plan_to_json(plan)


@given(sound_steps(), st.integers(1, 10**6))
def test_a_plan_file_holds_the_plan(steps: list[PlanStep], revision: int) -> None:
    plan = build_plan("checkout", 1, manifests(*steps), revision)
    body = plan_to_json(plan)
    assert plan_from_json(body) == plan
    assert plan_to_json(plan_from_json(body)) == body
    assert list(json.loads(body)) == sorted(json.loads(body))
    assert body.startswith(b'{\n  "flow": [')


@given(sound_steps())
def test_a_manifest_file_holds_the_manifest(steps: list[PlanStep]) -> None:
    for manifest in manifests(*steps):
        assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_manifests_of_real_services_survive_their_files() -> None:
    for manifest in checkout_manifests():
        assert manifest_from_json(manifest_to_json(manifest)) == manifest


OTHER_STEP: dict[str, Any] = {
    "name": "payment.catch",
    "kind": StepKind.STEP,
    "effects": Effects.LOCAL,
    "reacts_to": "stock.reserved.v2",
    "emits": ("payment.captured.v2",),
    "ends": True,
    "refuses": ("payment.declined.v2",),
    "undoing": Undoing.NOTHING,
    "timeout_ms": 30_001,
    "joins": (PlanInput(event="a.v1"), PlanInput(event="b.v1", takes=Takes.EVERY)),
    "fan_out": "payment.captured.v1",
    "delay_ms": 1,
    "within_ms": 1,
    "child": "trip.v1",
}
BESIDE_STEP = {"calls": "gateway"}
OTHER_PLAN: dict[str, Any] = {
    "saga": "checkin",
    "version": 2,
    "start": "shop.start",
    "start_event": "order.placed.v2",
    "timeout_ms": 300_001,
    "forward_window_ms": 1,
    "steps": (),
}


def test_every_field_has_another_value_below() -> None:
    assert set(OTHER_STEP) | set(BESIDE_STEP) == {field.name for field in fields(PlanStep)}
    assert set(OTHER_PLAN) == {field.name for field in fields(Plan)} - {"hash", "revision", "attempts"}


def test_the_hash_does_not_see_what_may_differ_between_replicas() -> None:
    plan = checkout_plan()
    first, capture, last = plan.steps
    other = replace(plan, steps=(first, replace(capture, calls="bank"), last))
    assert other != plan
    assert plan_hash(other) == plan.hash


@pytest.mark.parametrize("name", OTHER_STEP)
def test_the_hash_sees_every_field_of_a_step(name: str) -> None:
    plan = checkout_plan()
    first, capture, last = plan.steps
    other = replace(plan, steps=(first, replace(capture, **{name: OTHER_STEP[name]}), last))
    assert plan_hash(other) != plan.hash


@pytest.mark.parametrize("name", OTHER_PLAN)
def test_the_hash_sees_every_field_of_a_plan(name: str) -> None:
    plan = checkout_plan()
    assert plan_hash(replace(plan, **{name: OTHER_PLAN[name]})) != plan.hash


def test_the_hash_does_not_see_the_revision() -> None:
    assert build_plan("checkout", 1, checkout_manifests(), 7).hash == checkout_plan().hash


def test_the_hash_never_changes_by_itself() -> None:
    # A new version of this package must not make running services park everybody's sagas.
    assert checkout_plan().hash == "a01802c13933b0af3297eb741a3ce1da4c28c4d24d060a28ec5bbc3e546d05fc"


def test_forks_alternatives_and_ends_are_told_line_by_line() -> None:
    plan = plan_of(
        "a.one: step, s -> x | y | none",
        "b.two: step, x -> z",
        "c.three: step, z -> none",
        "c.four: step, s -> none",
        "d.five: step, z -> none",
    )
    assert flow_lines(plan) == (
        "o.start -> a.one",
        "a.one -> if x: b.two",
        "b.two -> c.three",
        "b.two -> d.five",
        "a.one -> if y: end",
        "a.one -> if nothing: end",
        "o.start -> c.four",
    )


def test_a_step_that_two_ways_lead_to_is_followed_once() -> None:
    plan = plan_of(
        "a.one: step, s -> x | y",
        "b.left: step, x -> z",
        "c.right: step, y -> z",
        "d.both: step, z -> w",
        "e.last: step, w -> none",
    )
    assert flow_lines(plan) == (
        "o.start -> a.one",
        "a.one -> if x: b.left -> d.both -> e.last",
        "a.one -> if y: c.right -> d.both",
    )


def test_step_timeouts_longer_than_the_saga_are_warned_of() -> None:
    assert plan_warnings(checkout_plan()) == ()
    steps = [step("a.one: step, s -> x", timeout_ms=150_000), step("b.two: step, x -> none", timeout_ms=150_000)]
    side = step("c.side: step, s -> none", timeout_ms=200_000)
    assert plan_warnings(plan_of(*steps, side)) == ()
    (warning,) = plan_warnings(plan_of(steps[0], replace(steps[1], timeout_ms=150_001), side))
    assert "a.one -> b.two add up to 300001 ms" in warning
    assert "300000 ms" in warning


def body_of(plan: Plan) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(plan_to_json(plan))
    return body


def unreadable(body: Any) -> str:
    with pytest.raises(PlanError) as raised:
        plan_from_json(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert raised.value.problems
    return str(raised.value)


def test_a_plan_that_is_not_json_is_refused() -> None:
    assert "the plan is not JSON" in unreadable(b"{")
    assert "not an object" in unreadable(b"[]")


@pytest.mark.parametrize("key", sorted(body_of(checkout_plan())))
def test_a_plan_file_without_a_key_is_refused(key: str) -> None:
    body = body_of(checkout_plan())
    del body[key]
    assert f"{key} missing" in unreadable(body)


@pytest.mark.parametrize("key", sorted(body_of(checkout_plan())))
def test_a_plan_file_with_another_type_is_refused(key: str) -> None:
    assert f"{key} is 1.5" in unreadable({**body_of(checkout_plan()), key: 1.5})


@pytest.mark.parametrize("key", sorted(body_of(checkout_plan())["steps"][0]))
def test_a_step_in_a_file_is_read_strictly(key: str) -> None:
    body = body_of(checkout_plan())
    first = dict(body["steps"][0])
    body["steps"][0] = {**first, key: 1.5}
    assert f"{key} is 1.5" in unreadable(body)
    del first[key]
    body["steps"][0] = first
    assert f"{key} missing" in unreadable(body)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "reserve", "`service.function`"),
        ("kind", "join", "kind is 'join'; it must be one of step, pivot, retriable"),
        ("effects", "remote", "effects is 'remote'"),
        ("undoing", "maybe", "undoing is 'maybe'"),
        ("emits", [1], "not a list of strings"),
        ("refuses", ["a", "a"], "names something twice"),
        ("timeout_ms", 0, "at least 1"),
        ("timeout_ms", True, "not a whole number"),
    ],
)
def test_a_step_in_a_file_must_make_sense(key: str, value: object, words: str) -> None:
    body = body_of(checkout_plan())
    body["steps"][0][key] = value
    assert words in unreadable(body)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"later": 1}, "later not known to this version of saga"),
        ({"version": 0}, "version is 0"),
        ({"revision": 0}, "revision is 0"),
        ({"timeout_ms": 0}, "timeout_ms is 0"),
        ({"forward_window_ms": -1}, "forward_window_ms is -1"),
        ({"start": "orders.begin"}, "`service.start`"),
        ({"timeout_ms": 300_001}, "its hash is not that of its content"),
        ({"hash": "0" * 64}, "its hash is not that of its content"),
        ({"steps": []}, "no service declares a step"),
    ],
)
def test_a_plan_file_edited_by_hand_is_refused(change: dict[str, Any], words: str) -> None:
    assert words in unreadable({**body_of(checkout_plan()), **change})


def test_a_plan_file_with_a_cycle_is_refused_before_anybody_walks_it() -> None:
    body = body_of(plan_of("a.one: step, s -> x", "b.two: step, x -> y"))
    body["steps"][0]["reacts_to"] = "y"
    assert "is a cycle" in unreadable(body)


def test_the_flow_is_for_people_and_not_read() -> None:
    assert plan_from_json(json.dumps({**body_of(checkout_plan()), "flow": ["x"]}).encode()) == checkout_plan()


def test_a_new_revision_of_the_same_file_is_read() -> None:
    body = {**body_of(checkout_plan()), "revision": 2}
    assert plan_from_json(json.dumps(body).encode()).revision == 2


@pytest.mark.parametrize("name", sorted(set(OTHER_STEP) - {"name"}))
def test_every_difference_between_code_and_plan_is_named(name: str) -> None:
    plan = checkout_plan()
    first, capture, last = plan.steps
    other = replace(plan, steps=(first, replace(capture, **{name: OTHER_STEP[name]}), last))
    (problem,) = check_service(definition_of("payment"), other)
    assert problem.startswith(f"payment.capture (checkout v1): {name} is ")
    assert "run `saga plan`" in problem


def test_the_order_of_alternatives_is_no_difference() -> None:
    service = Service("a")

    @service.step(Saga("checkout", version=1), compensation=NOTHING)
    async def one(order: OrderPlaced, run: Run) -> StockReserved | Shipped:
        raise NotImplementedError

    definition = resolve(service)
    coded = manifest_of(definition).sagas[0].steps[0]
    plan = replace(checkout_plan(), steps=(replace(coded, emits=coded.emits[::-1]),))
    assert check_service(replace(definition, sagas=()), plan) == ()


def test_missing_and_extra_steps_are_named() -> None:
    plan = checkout_plan()
    first, capture, last = plan.steps
    renamed = replace(plan, steps=(first, replace(capture, name="payment.catch"), last))
    missing, extra = check_service(definition_of("payment"), renamed)
    assert missing.startswith("payment.catch (checkout v1): is in the plan, but not in this code")
    assert extra.startswith("payment.capture (checkout v1): is in this code, but not in the plan")


@pytest.mark.parametrize(
    ("service", "change", "words"),
    [
        ("orders", {"start_event": "order.placed.v2"}, "order.placed.v1 in this code and order.placed.v2 in the plan"),
        ("orders", {"start": "shop.start"}, "order.placed.v1 in this code and missing in the plan"),
        ("payment", {"start": "payment.start"}, "missing in this code and order.placed.v1 in the plan"),
        ("payment", {"timeout_ms": 1}, "timeout_ms is 300000 in this code and 1 in the plan"),
        ("payment", {"forward_window_ms": 1}, "forward_window_ms is 604800000 in this code and 1 in the plan"),
    ],
)
def test_another_start_or_time_is_a_difference(service: str, change: dict[str, Any], words: str) -> None:
    (problem,) = check_service(definition_of(service), replace(checkout_plan(), **change))
    assert words in problem


def test_a_manifest_has_all_versions_or_the_chosen_ones() -> None:
    service = Service("inventory")
    first, second = (Saga("checkout", version=version, timeout=timedelta(minutes=version)) for version in (1, 2))
    for saga in (second, first):

        @service.step(saga, calls=Dependency("shop"), compensation=NOTHING)
        async def reserve(order: OrderPlaced, run: Run) -> StockReserved:
            raise NotImplementedError

    definition = resolve(service)
    assert [part.version for part in manifest_of(definition).sagas] == [1, 2]
    assert [part.timeout_ms for part in manifest_of(definition, [second]).sagas] == [120_000]
    assert manifest_of(definition, [Saga("other", version=1)]).sagas == ()
