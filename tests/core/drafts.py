"""Write plans down in one line a step, and make random ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from saga._core.manifest import Manifest, SagaManifest
from saga._core.plan import PlanInput, PlanStep, Undoing
from saga._core.schemas import EventNeeds, EventSchema
from saga._core.words import Effects, StepKind, Takes

KINDS = {kind.value: kind for kind in StepKind}


def step(text: str, **changes: Any) -> PlanStep:
    """Read `a.one: step, s -> x | y` or `a.one: step never, s -> x | none`.

    Undoing is local for a step and never for a pivot and a retriable, unless said. `x*` is a list: `-> x*` fans out,
    `x* + y -> z` joins; `a.in: receive, -> m` comes from outside.
    """
    name, _, rest = text.partition(": ")
    words, _, way = rest.partition(", ")
    cause, _, results = way.partition(" -> ")
    kind, *undoing = words.split()
    emits = [event for event in results.split(" | ") if event]
    fan_out = "".join(event.removesuffix("*") for event in emits if event.endswith("*"))
    emits = [event.removesuffix("*") for event in emits]
    taken = [
        PlanInput(event=event.removesuffix("*"), takes=Takes.EVERY if event.endswith("*") else Takes.ONE)
        for event in cause.split(" + ")
    ]
    joined = len(taken) > 1 or taken[0].takes is Takes.EVERY
    usual = {"step": Undoing.LOCAL, "receive": Undoing.NOTHING}.get(kind, Undoing.NEVER)
    made = PlanStep(
        name=name,
        kind=KINDS[kind],
        effects=Effects.LOCAL,
        reacts_to="" if joined else cause,
        joins=tuple(sorted(taken, key=lambda each: each.event)) if joined else (),
        fan_out=fan_out,
        emits=tuple(sorted(event for event in emits if event != "none")),
        ends="none" in emits,
        refuses=(),
        undoing=Undoing(undoing[0]) if undoing else usual,
        timeout_ms=1000,
    )
    return replace(made, **changes)


def manifests(
    *steps: PlanStep | str, starts: Iterable[tuple[str, str]] = (("o", "s"),), saga: str = "checkout", version: int = 1
) -> tuple[Manifest, ...]:
    """Spread steps over manifests of their services, with empty schemas."""
    read = [step(text) if isinstance(text, str) else text for text in steps]
    begins = dict(starts)
    return tuple(
        Manifest(
            service=service,
            sagas=(part([s for s in read if s.service == service], begins.get(service, ""), saga, version),),
        )
        for service in sorted({s.service for s in read} | begins.keys())
    )


def part(steps: Sequence[PlanStep], starts_with: str, saga: str = "checkout", version: int = 1) -> SagaManifest:
    """Return one service's part."""
    emitted = {event for s in steps for event in s.emits} | ({starts_with} - {""})
    return SagaManifest(
        saga=saga,
        version=version,
        timeout_ms=300_000,
        forward_window_ms=600_000,
        starts_with=starts_with,
        steps=tuple(steps),
        emits=tuple(EventSchema(type=event, schema="{}") for event in sorted(emitted)),
        needs=tuple(EventNeeds(type=event, fields=()) for event in sorted({i.event for s in steps for i in s.inputs})),
    )


@st.composite
def sound_steps(draw: st.DrawFn) -> list[PlanStep]:
    """Draw the steps of a tree without a pivot: each reacts to an event known so far and emits new ones."""
    known = ["s"]
    steps: list[PlanStep] = []
    for number in range(draw(st.integers(1, 8))):
        count = draw(st.integers(0, 3))
        made = PlanStep(
            name=f"{draw(st.sampled_from('abc'))}.step_{number}",
            kind=draw(st.sampled_from((StepKind.STEP, StepKind.RETRIABLE))),
            effects=draw(st.sampled_from([Effects.LOCAL, Effects.EXTERNAL])),
            reacts_to=draw(st.sampled_from(known)),
            emits=tuple(f"e{number}.{n}" for n in range(count)),
            ends=count == 0 or draw(st.booleans()),
            refuses=(),
            undoing=draw(st.sampled_from((Undoing.LOCAL, Undoing.EXTERNAL, Undoing.NOTHING))),
            timeout_ms=draw(st.integers(1, 10**6)),
        )
        if made.kind is StepKind.STEP:
            made = replace(made, refuses=tuple(sorted(draw(st.sets(st.sampled_from(("no", "never")))))))
        steps.append(made)
        known.extend(made.emits)
    return steps
