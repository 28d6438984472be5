"""Tell a plan in words, for people at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from saga._core.flow import flow_lines
from saga._core.plan import Plan, PlanStep, Undoing
from saga._core.words import Effects

_UNDOING = {
    Undoing.LOCAL: "undone by its compensation",
    Undoing.EXTERNAL: "undone by an outside call",
    Undoing.NOTHING: "nothing to undo",
    Undoing.NEVER: "never undone",
}


def plan_lines(plan: Plan) -> Iterator[str]:
    """Yield a plan's heading, its flow, its times and its steps."""
    yield f"{plan.saga} v{plan.version}, revision {plan.revision}"
    yield from (f"  {line}" for line in flow_lines(plan))
    yield ""
    yield f"{plan.start} emits {plan.start_event}"
    for step in plan.steps:
        yield f"{step.name} ({step.kind.value}) {', '.join(_says(step))}"
    timeout, window = (timedelta(milliseconds=ms) for ms in (plan.timeout_ms, plan.forward_window_ms))
    yield f"the saga times out after {timeout}; past its pivot it may go on for {window} more"


def _says(step: PlanStep) -> Iterator[str]:
    yield f"reacts to {step.reacts_to}"
    emits = [*step.emits, "nothing"] if step.ends else step.emits
    yield f"emits {' or '.join(emits)}"
    if step.refuses:
        yield f"refuses with {' or '.join(step.refuses)}"
    if step.effects is Effects.EXTERNAL:
        yield "calls outside"
    yield _UNDOING[step.undoing]
    yield f"within {timedelta(milliseconds=step.timeout_ms)}"
