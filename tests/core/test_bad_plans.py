"""Prove that what is no plan is refused, with every reason, and that nothing else is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from saga import NOTHING, DeclarationError, Event, Run, Saga, Service
from saga._core.manifest import Manifest, manifest_from_json, manifest_of, manifest_to_json
from saga._core.plan import PlanStep, Undoing
from saga._core.plan_check import MOST_STEPS
from saga._core.plan_graph import Coexistence, Draft
from saga._core.planning import build_plan
from saga._core.resolve import resolve
from saga._core.schemas import EventNeeds, EventSchema, needs_of, schema_of, unmet
from saga._core.schemas import Field as Needed
from saga._core.words import StepKind
from saga.errors import PlanError
from tests.core.checkout import OrderPlaced
from tests.core.drafts import manifests, part, sound_steps, step

SAGA = Saga("checkout", version=1)


def problems_of(*steps: PlanStep | str, starts: tuple[tuple[str, str], ...] = (("o", "s"),)) -> tuple[str, ...]:
    return problems_in(manifests(*steps, starts=starts))


def problems_in(given_manifests: tuple[Manifest, ...]) -> tuple[str, ...]:
    try:
        build_plan("checkout", 1, given_manifests)
    except PlanError as error:
        return error.problems
    return ()


SOUND: dict[str, tuple[str, ...]] = {
    "one step": ("a.one: step, s -> none",),
    "an event nobody reacts to": ("a.one: step, s -> x",),
    "nothing to undo": ("a.one: step nothing, s -> none",),
    "an external undo": ("a.one: step external, s -> none",),
    "a retriable that can be undone": ("a.one: retriable local, s -> none",),
    "a chain over a pivot": ("a.one: step, s -> x", "b.two: pivot, x -> y", "c.three: retriable, y -> none"),
    "a retriable before the pivot": ("a.one: retriable nothing, s -> x", "b.two: pivot, x -> y"),
    "beside the pivot": ("a.one: step, s -> x", "b.two: pivot, x -> none", "c.side: retriable local, x -> none"),
    "beside the pivot, nothing to undo": ("b.two: pivot, s -> none", "c.side: retriable nothing, s -> none"),
    "alternatives that meet": (
        "a.one: step, s -> x | y",
        "b.left: step, x -> z",
        "c.right: step, y -> z",
        "d.both: step, z -> none",
    ),
    "alternatives that meet far down": (
        "a.one: step, s -> x | y",
        "b.left: step, x -> p",
        "b.more: step, p -> z",
        "c.right: step, y -> z",
    ),
    "one way straight, one around": (
        "a.one: step, s -> x | y",
        "b.left: step, x -> y",
        "c.both: step, y -> none",
    ),
    "alternatives of a step after a fork": (
        "a.one: step, s -> x",
        "b.two: step, x -> p | q",
        "c.side: step, x -> none",
        "d.left: step, p -> z",
        "e.right: step, q -> z",
    ),
    "after the pivot on two ways": (
        "a.one: pivot, s -> x | y",
        "b.left: retriable, x -> z",
        "c.right: retriable, y -> z",
        "d.both: retriable, z -> none",
    ),
    "after the pivot and around it, but undoable": (
        "a.one: step, s -> x | y",
        "b.two: pivot, x -> y",
        "c.both: retriable local, y -> none",
    ),
}


@pytest.mark.parametrize("steps", SOUND.values(), ids=SOUND.keys())
def test_a_sound_plan_is_made(steps: tuple[str, ...]) -> None:
    assert problems_of(*steps) == ()


UNSOUND: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an event from nowhere": (
        ("a.one: step, s -> x", "b.two: step, q -> none"),
        ("b.two: reacts to q, which no step emits",),
    ),
    "a cycle beside the start": (
        ("a.one: step, s -> none", "b.two: step, x -> y", "c.three: step, y -> x"),
        ("c.three -(x)-> b.two -(y)-> c.three is a cycle",),
    ),
    "a cycle behind the start": (
        ("a.one: step, s -> x", "b.two: step, x -> y", "c.three: step, y -> x", "d.after: step, y -> none"),
        ("c.three -(x)-> b.two -(y)-> c.three is a cycle",),
    ),
    "a cycle through the pivot": (
        ("a.one: retriable local, s -> none", "b.two: pivot, x -> y", "c.three: retriable local, y -> x"),
        ("c.three -(x)-> b.two -(y)-> c.three is a cycle",),
    ),
    "two emitters at a time": (
        ("a.one: step, s -> x", "b.two: step, s -> x"),
        ("a.one and b.two both emit x and can both run",),
    ),
    "two emitters in one alternative": (
        ("a.one: step, s -> p | q", "b.two: step, p -> x", "c.three: step, p -> x"),
        ("b.two and c.three both emit x",),
    ),
    "an emitter before and one in an alternative": (
        ("a.one: step, s -> p | q", "b.two: step, p -> x", "c.three: step, s -> x"),
        ("b.two and c.three both emit x",),
    ),
    "emitters behind alternatives of two steps": (
        ("a.one: step, s -> p | q", "a.two: step, s -> u | v", "b.one: step, p -> x", "b.two: step, u -> x"),
        ("b.one and b.two both emit x",),
    ),
    "an emitter of the event that started it": (
        ("a.one: step, s -> none", "b.two: step, s -> s"),
        ("b.two -(s)-> b.two is a cycle",),
    ),
    "two pivots": (
        ("a.one: pivot, s -> x", "b.two: pivot, x -> none"),
        ("a.one and b.two are all pivots of checkout",),
    ),
    "two pivots in alternatives": (
        ("a.one: step, s -> x | y", "b.two: pivot, x -> none", "c.three: pivot, y -> none"),
        ("b.two and c.three are all pivots",),
    ),
    "no undo and no pivot": (
        ("a.one: step never, s -> none",),
        ("a.one: cannot be undone, and checkout has no pivot", "@one.compensation"),
    ),
    "a retriable without undo and without a pivot": (
        ("a.one: retriable, s -> none",),
        ("a.one: cannot be undone, and checkout has no pivot",),
    ),
    "no undo before the pivot": (
        ("a.one: step never, s -> x", "b.two: pivot, x -> none"),
        ("a.one: comes before the pivot b.two, so it may have to be undone",),
    ),
    "a retriable without undo before the pivot": (
        ("a.one: retriable, s -> x", "b.two: pivot, x -> none"),
        ("a.one: comes before the pivot b.two",),
    ),
    "no undo beside the pivot": (
        ("b.two: pivot, s -> none", "c.side: retriable, s -> none"),
        ("c.side: runs beside the pivot b.two", "compensation=NOTHING"),
    ),
    "a step after the pivot": (
        ("b.two: pivot, s -> x", "c.three: step, x -> none"),
        ("c.three: may run when the pivot b.two cannot be taken back any more", "@c.retriable"),
    ),
    "a step beside the pivot": (
        ("b.two: pivot, s -> none", "c.side: step, s -> none"),
        ("c.side: may run when the pivot b.two cannot be taken back any more",),
    ),
    "after the pivot and around it": (
        ("a.one: step, s -> x | y", "b.two: pivot, x -> y", "c.both: retriable, y -> none"),
        ("c.both: can run without the pivot b.two, as y is also emitted on a way around it",),
    ),
}


@pytest.mark.parametrize(("steps", "words"), UNSOUND.values(), ids=UNSOUND.keys())
def test_an_unsound_plan_is_refused_for_one_reason(steps: tuple[str, ...], words: tuple[str, ...]) -> None:
    (problem,) = problems_of(*steps)
    assert all(word in problem for word in words), problem


def test_steps_that_only_a_file_can_describe_are_refused() -> None:
    refusing = step("a.one: retriable local, s -> none", refuses=("no.v1",))
    assert "a.one: is retriable, must succeed" in problems_of(refusing)[0]
    undone = step("a.one: pivot local, s -> none")
    assert "a.one: is the pivot, which is never undone" in problems_of(undone)[0]
    assert "a.one: can neither emit an event nor end" in problems_of(step("a.one: step, s -> "))[0]
    twice = manifests()[0], Manifest(service="a", sagas=(part([step("a.one: step, s -> none")] * 2, ""),))
    assert problems_in(twice) == ("a.one (checkout v1): there are two steps of this name; rename one",)


def test_all_problems_are_found_at_once() -> None:
    found = problems_of(
        "a.one: step never, s -> x",
        "b.two: step, s -> x",
        "c.three: step, q -> none",
        starts=(("o", "s"), ("p", "s")),
    )
    subjects = [problem.split(" ", maxsplit=1)[0] for problem in found]
    assert subjects == ["checkout", "c.three:", "o.start", "a.one", "a.one:"]


def test_a_saga_nobody_knows_is_refused() -> None:
    with pytest.raises(PlanError, match="checkin v1: no manifest has a part in it"):
        build_plan("checkin", 1, manifests("a.one: step, s -> none"))
    with pytest.raises(PlanError, match="checkout v2: no manifest has a part in it"):
        build_plan("checkout", 2, manifests("a.one: step, s -> none"))


def test_a_saga_without_steps_is_refused() -> None:
    (problem,) = problems_of()
    assert "checkout v1: no service declares a step of it" in problem


def test_a_saga_needs_one_start() -> None:
    none = problems_of("a.one: step, s -> none", starts=())
    assert "checkout v1: no service starts it" in none[0]
    (two,) = problems_of("a.one: step, s -> none", starts=(("o", "s"), ("p", "t")))
    assert "started by o.start (with s) and p.start (with t)" in two


def test_a_service_has_one_manifest() -> None:
    made = manifests("a.one: step, s -> none")
    (problem,) = problems_in((*made, made[0]))
    assert "service a: there are 2 manifests of it" in problem


@pytest.mark.parametrize("what", ["timeout_ms", "forward_window_ms"])
def test_services_agree_on_times(what: str) -> None:
    first, second = manifests("a.one: step, s -> none")
    change: dict[str, Any] = {what: 7}
    changed = replace(first, sagas=(replace(first.sagas[0], **change),))
    (problem,) = problems_in((changed, second))
    assert f"disagree on {what} (7 at a, " in problem


def test_a_plan_has_a_size() -> None:
    def chain(length: int) -> list[PlanStep]:
        return [step(f"a.n{n}: step, {f'e{n - 1}' if n else 's'} -> e{n}") for n in range(length)]

    assert problems_of(*chain(MOST_STEPS)) == ()
    assert "201 steps; split it" in problems_of(*chain(MOST_STEPS + 1))[0]


def test_the_deepest_question_of_two_emitters_can_be_answered() -> None:
    half = MOST_STEPS // 2 - 1
    ways = [
        step(f"{side}.n{n}: step, {f'{side}{n - 1}' if n else start} -> {f'{side}{n}' if n < half - 1 else 'end'}")
        for side, start in (("l", "x"), ("r", "y"))
        for n in range(half)
    ]
    assert problems_of("a.one: step, s -> x | y", *ways) == ()


def worlds(draft: Draft) -> Iterator[frozenset[tuple[str, str]]]:
    """Yield the emissions of every saga that can happen: each step takes one alternative. The slow, obvious way."""
    choices = [[*s.emits, *([""] if s.ends else [])] for s in draft.steps]
    for chosen in itertools.product(*choices):
        choice = dict(zip((s.name for s in draft.steps), chosen, strict=True))
        emitted = set(draft.starts.items())
        for name in draft.order:
            happened = {event for _, event in emitted}
            if draft.by_name[name].reacts_to in happened and choice[name]:
                emitted.add((name, choice[name]))
        yield frozenset(emitted)


@st.composite
def tangled_drafts(draw: st.DrawFn) -> Draft:
    """Draw steps that emit what others emit, without cycles: a step reacts to nothing that a later one emits."""
    steps: list[PlanStep] = []
    for number in range(draw(st.integers(2, 6))):
        # Layer n reacts to layer n and emits layer n + 1 or later.
        layer = draw(st.integers(0, 2))
        cause = draw(st.sampled_from(["s"] if layer == 0 else [f"e{layer}a", f"e{layer}b", f"e{layer}c"]))
        events = [f"e{later}{letter}" for later in range(layer + 1, 4) for letter in "abc"]
        emits = draw(st.sets(st.sampled_from(events), min_size=1, max_size=3))
        steps.append(step(f"a.n{number}: step, {cause} -> {' | '.join(sorted(emits))}"))
    return Draft(saga="checkout", version=1, starts={"o.start": "s"}, steps=tuple(steps))


@given(tangled_drafts())
def test_two_emissions_coexist_exactly_when_some_saga_has_both(draft: Draft) -> None:
    assert len(draft.order) == len(draft.steps)
    happening = list(worlds(draft))
    possible = frozenset[tuple[str, str]]().union(*happening)
    coexistence = Coexistence(draft=draft)
    for one, other in itertools.combinations(sorted(possible), 2):
        expected = any({one, other} <= world for world in happening)
        assert coexistence.both(one, other) == expected, (one, other)
        assert coexistence.both(other, one) == expected, (other, one)


@given(sound_steps())
def test_trees_with_undo_everywhere_are_plans(steps: list[PlanStep]) -> None:
    assert problems_of(*steps) == ()


@given(sound_steps(), st.data())
def test_one_step_that_cannot_be_undone_spoils_a_plan_without_a_pivot(
    steps: list[PlanStep], data: st.DataObject
) -> None:
    spoiled = data.draw(st.integers(0, len(steps) - 1))
    steps[spoiled] = replace(steps[spoiled], undoing=Undoing.NEVER, kind=StepKind.STEP)
    (problem,) = problems_of(*steps)
    assert problem.startswith(f"{steps[spoiled].name}: cannot be undone")


class Line(BaseModel):
    """Be a nested value."""

    sku: str


class Sent(Event, name="thing.sent", version=1):
    """Be what a sender sends."""

    text: str
    whole: int
    broken: float
    money: Decimal
    maybe: str | None = None
    line: Line
    lines: list[Line]


def reader(**fields: Any) -> type[Event]:
    """Return another service's class for the same event."""
    return type("Read", (Event,), {"__annotations__": fields, "__module__": __name__}, name="thing.sent", version=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"text": str, "whole": int, "broken": float, "money": Decimal, "line": Line, "lines": list[Line]},
        {"whole": float},
        {"text": Any},
        {"maybe": str | None},
        {"line": dict[str, str]},
        {},
    ],
    ids=str,
)
def test_a_reader_that_can_do_with_what_is_sent_fits(fields: dict[str, Any]) -> None:
    assert unmet(needs_of(reader(**fields)), schema_of(Sent)) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"other": str}, "needs its field 'other', which is not always sent"),
        ({"text": int}, "takes its field 'text' as integer, but it is sent as string"),
        ({"broken": int}, "takes its field 'broken' as integer, but it is sent as number"),
        ({"maybe": str}, "takes its field 'maybe' as string, but it is sent as null"),
        ({"line": str}, "takes its field 'line' as string, but it is sent as object"),
        ({"lines": Line}, "takes its field 'lines' as object, but it is sent as array"),
    ],
    ids=str,
)
def test_a_reader_that_needs_more_does_not_fit(fields: dict[str, Any], words: str) -> None:
    assert unmet(needs_of(reader(**fields)), schema_of(Sent)) == [words]


def test_a_field_with_a_default_at_the_reader_is_not_needed() -> None:
    class Read(Event, name="thing.sent", version=1):
        other: int = 3
        text: str = Field(default="")

    assert needs_of(Read).fields == ()


def test_a_field_that_is_left_out_is_not_sent() -> None:
    class Shy(Event, name="thing.sent", version=1):
        text: str = Field(exclude=True)

    (problem,) = unmet(needs_of(reader(text=str)), schema_of(Shy))
    assert "not always sent" in problem


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": True}, "required": ["a"]},
        {"required": ["a"]},
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"], "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {
            "properties": {"a": {"$ref": "#/$defs/A"}},
            "required": ["a"],
            "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}},
        },
    ],
    ids=str,
)
def test_a_sender_that_does_not_simply_say_a_type_is_trusted(schema: dict[str, Any]) -> None:
    sent = EventSchema(type="thing.sent.v1", schema=json.dumps(schema))
    needs = EventNeeds(type="thing.sent.v1", fields=(Needed(name="a", types=("string",)),))
    assert unmet(needs, sent) == []


def test_a_class_that_holds_itself_has_fields_too() -> None:
    assert [field.name for field in needs_of(Tree).fields] == ["leaves", "name"]
    assert unmet(needs_of(Tree), schema_of(Tree)) == []


class Tree(Event, name="tree.grown", version=1):
    """Refer to itself, so that its schema is a reference."""

    name: str
    leaves: list[Tree]


def test_a_schema_has_no_wording_and_no_order() -> None:
    class One(Event, name="thing.sent", version=1):
        """Say this."""

        title: str
        description: int = Field(description="that")
        choice: Annotated[int, Field(title="wording")] | None

    class Other(Event, name="thing.sent", version=1):
        """Say something else."""

        choice: int | None
        description: int
        title: str

    assert schema_of(One) == schema_of(Other)
    assert json.loads(schema_of(One).schema)["properties"].keys() == {"title", "description", "choice"}


def test_an_event_that_json_cannot_carry_is_refused() -> None:
    class Odd(Event, name="thing.odd", version=1, arbitrary_types_allowed=True):
        thing: ValueError

    with pytest.raises(DeclarationError, match=r"Odd \(thing\.odd\.v1\) has no JSON schema"):
        schema_of(Odd)


def test_readers_and_senders_of_different_services_are_compared() -> None:
    class Read(Event, name="thing.sent", version=1):
        other: str

    sender, receiver = Service("sender"), Service("receiver")
    sender.starts(SAGA, OrderPlaced)

    @sender.step(SAGA, compensation=NOTHING)
    async def send(order: OrderPlaced, run: Run) -> Sent:
        raise NotImplementedError

    @receiver.step(SAGA, compensation=NOTHING)
    async def receive(sent: Read, run: Run) -> None: ...

    made = manifest_of(resolve(sender)), manifest_of(resolve(receiver))
    (problem,) = problems_in(made)
    assert problem.startswith(
        "receiver.receive: needs its field 'other', which is not always sent by sender in thing.sent.v1"
    )
    assert problems_in((*made[:1], manifest_of(resolve(Service("receiver"))))) == ()


def test_senders_of_one_event_agree_on_its_schema() -> None:
    a, b, c, o = manifests("a.one: step, s -> x | y", "b.two: step, x -> z", "c.three: step, y -> z")
    schema = replace(c.sagas[0].emits[0], schema='{"type":"object"}')
    changed = replace(c, sagas=(replace(c.sagas[0], emits=(schema,)),))
    (problem,) = problems_in((o, a, b, changed))
    assert problem.startswith("b and c both emit z, but with different schemas")


def manifest_body() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(manifest_to_json(manifests("a.one: step, s -> x")[0]))
    return body


def unreadable(body: Any) -> str:
    with pytest.raises(PlanError) as raised:
        manifest_from_json(json.dumps(body).encode())
    return str(raised.value)


@pytest.mark.parametrize("key", ["service", "sagas"])
def test_a_manifest_is_read_strictly(key: str) -> None:
    body = manifest_body()
    assert f"{key} is 1.5" in unreadable({**body, key: 1.5})
    assert "later not known" in unreadable({**body, "later": 1})
    del body[key]
    assert f"{key} missing" in unreadable(body)


@pytest.mark.parametrize("key", sorted(manifest_body()["sagas"][0]))
def test_a_part_of_a_manifest_is_read_strictly(key: str) -> None:
    body = manifest_body()
    body["sagas"][0][key] = 1.5
    assert f"{key} is 1.5" in unreadable(body)
    del body["sagas"][0][key]
    assert f"{key} missing" in unreadable(body)


EDITED: list[tuple[dict[str, Any], str]] = [
    ({"version": 0}, "version is 0"),
    ({"timeout_ms": 0}, "timeout_ms is 0"),
    ({"forward_window_ms": 0}, "forward_window_ms is 0"),
    ({"steps": [{}]}, "name, reacts_to, refuses, timeout_ms, undoing missing"),
    ({"emits": {}}, "emits and the steps do not name the same events (x)"),
    ({"emits": {"x": {}, "y": {}}}, "do not name the same events (y)"),
    ({"emits": {"x": 1}}, "emits: x is 1, which is not an object"),
    ({"emits": {"x": {"required": 5}}}, "emits: x is no JSON schema"),
    ({"emits": {"x": {"properties": [], "required": ["a"]}}}, "emits: x is no JSON schema"),
    ({"needs": {}}, "needs and the steps do not name the same events (s)"),
    ({"needs": {"s": {"field": "string"}}}, "field is 'string', which is not a list of strings"),
    ({"needs": {"s": []}}, "needs: s is [], which is not an object"),
    ({"starts_with": "q"}, "emits and the steps do not name the same events (q)"),
]


@pytest.mark.parametrize(("change", "words"), EDITED, ids=str)
def test_a_manifest_edited_by_hand_is_refused(change: dict[str, Any], words: str) -> None:
    body = manifest_body()
    body["sagas"][0].update(change)
    assert words in unreadable(body)


def test_a_manifest_speaks_for_its_own_service_once() -> None:
    body = manifest_body()
    assert "step a.one belongs to another service" in unreadable({**body, "service": "b"})
    assert "'a.b' is not a service's name" in unreadable({**body, "service": "a.b"})
    assert "has a saga version twice" in unreadable({**body, "sagas": body["sagas"] * 2})
