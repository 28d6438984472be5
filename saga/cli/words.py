"""Tell a plan in words, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from saga._core.plan import Plan, PlanInput, PlanStep, Undoing
from saga._core.words import Effects, Takes

_UNDOING = {
    Undoing.LOCAL: "undone by its compensation",
    Undoing.EXTERNAL: "undone by an outside call",
    Undoing.CHILD: "undone by undoing its child saga",
    Undoing.NOTHING: "nothing to undo",
    Undoing.NEVER: "never undone",
}


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield a plan's steps and its times, a sentence each, after an empty line."""
    yield ""
    yield f"{plan.start} emits {plan.start_event}"
    for step in plan.steps:
        yield f"{step.name} ({step.kind.value}) {', '.join(_says(step))}"
    timeout, window = (timedelta(milliseconds=ms) for ms in (plan.timeout_ms, plan.forward_window_ms))
    yield f"the saga times out after {_told(timeout)}; past its pivot it may go on for {_told(window)} more"


def _says(step: PlanStep) -> Iterator[str]:
    if step.inputs:
        yield f"reacts to {' and '.join(_input(taken) for taken in step.inputs)}"
    else:
        yield "waits for what comes from outside"
    emits = [f"{event} for each element of a list" if event == step.fan_out else event for event in step.emits]
    yield f"emits {' or '.join([*emits, 'nothing'] if step.ends else emits)}"
    if step.refuses:
        yield f"refuses with {' or '.join(step.refuses)}"
    if step.effects is Effects.EXTERNAL:
        yield "calls outside"
    if step.child:
        yield f"starts {step.child} as a child"
    yield _UNDOING[step.undoing]
    if step.delay_ms:
        yield f"{_told(timedelta(milliseconds=step.delay_ms))} after its event"
    if step.inputs:
        yield f"an attempt within {_told(timedelta(milliseconds=step.timeout_ms))}"
    if step.within_ms:
        yield f"done {_told(timedelta(milliseconds=step.within_ms))} after its cause"


def _told(length: timedelta) -> str:
    """Tell a length of time; whole days without hours."""
    return str(length).removesuffix(", 0:00:00")


def _input(taken: PlanInput) -> str:
    return f"{taken.event} of every branch" if taken.takes is Takes.EVERY else taken.event
