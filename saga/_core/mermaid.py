"""Draw a plan as a Mermaid flowchart, for pull requests, wikis and docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from saga._core.plan import Plan, PlanStep, Undoing, topology_of
from saga._core.words import Effects, StepKind, Takes

_UNDO = {
    Undoing.LOCAL: "undo: compensation",
    Undoing.EXTERNAL: "undo: outside call",
    Undoing.CHILD: "undo: child saga",
    Undoing.NOTHING: "undo: nothing to do",
}
_CLASSES = (
    "classDef pivot stroke-width:4px",
    "classDef undone stroke-dasharray:4 3",
)


def mermaid(plan: Plan) -> str:
    """Return the plan as the text of a Mermaid flowchart, ending with a newline.

    Every step is a node: a hexagon is the pivot, a broken border can be undone, slanted is what comes from
    outside. Every event is an arrow from each step that emits it to each that takes it, or to an end.
    The same plan makes the same text.
    """
    ids = {plan.start: "n0"} | {step.name: f"n{number}" for number, step in enumerate(plan.steps, 1)}
    lines = ["flowchart TD", f"    {ids[plan.start]}([{_quoted(plan.start)}])"]
    lines += [f"    {ids[step.name]}{_node(step)}" for step in plan.steps]
    lines += [f"    {line}" for line in _arrows(plan, ids)]
    pivots = [ids[step.name] for step in plan.steps if step.kind is StepKind.PIVOT]
    undone = [ids[step.name] for step in plan.steps if step.undoing not in (Undoing.NOTHING, Undoing.NEVER)]
    lines += [f"    {line}" for line in _CLASSES]
    lines += [f"    class {','.join(nodes)} {name}" for nodes, name in ((pivots, "pivot"), (undone, "undone")) if nodes]
    return "\n".join(lines) + "\n"


def notes(step: PlanStep) -> Iterator[str]:
    """Yield what a drawing says of a step beside its name, a few words each."""
    if step.kind is not StepKind.STEP:
        yield step.kind.value
    if step.joins:
        yield "join"
    if step.effects is Effects.EXTERNAL:
        yield f"calls {step.calls}" if step.calls else "calls outside"
    if step.child:
        yield f"child saga {step.child}"
    if step.undoing in _UNDO:
        yield _UNDO[step.undoing]
    if step.refuses:
        yield f"may refuse: {' or '.join(step.refuses)}"


def _node(step: PlanStep) -> str:
    text = _quoted("<br/>".join((step.name, *notes(step))))
    if step.kind is StepKind.PIVOT:
        return f"{{{{{text}}}}}"
    return f"[/{text}/]" if not step.inputs else f"[{text}]"


def _arrows(plan: Plan, ids: Mapping[str, str]) -> Iterator[str]:
    reacting = topology_of(plan).reacting
    ends = 0
    for name, event, fan_out in emissions(plan):
        label = f"{event}, one each" if fan_out else event
        takers = reacting.get(event, ())
        for step in takers:
            every = any(taken.event == event and taken.takes is Takes.EVERY for taken in step.inputs)
            yield f"{ids[name]} -->|{_quoted(label + ', all' if every else label)}| {ids[step.name]}"
        if not takers:
            ends += 1
            yield f"{ids[name]} -->|{_quoted(label)}| e{ends}(( ))"
    for step in plan.steps:
        if step.ends:
            ends += 1
            yield f"{ids[step.name]} -->|{_quoted('nothing')}| e{ends}(( ))"


def emissions(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Yield (emitting step, event, the event again if there is one for each element of a list) of a whole plan."""
    yield plan.start, plan.start_event, ""
    for step in plan.steps:
        for event in step.emits:
            yield step.name, event, event if event == step.fan_out else ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'
