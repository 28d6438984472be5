"""Write a plan in the language of Graphviz, for whoever lays out their own pictures."""

from __future__ import annotations

from saga._core.mermaid import emissions, notes
from saga._core.plan import Plan, Undoing, topology_of
from saga._core.words import StepKind, Takes


def dot(plan: Plan) -> str:
    """Return the plan as a directed graph in DOT, ending with a newline; the same plan makes the same text.

    Every step is a node, a bold one is the pivot, a broken border can be undone; every event is an arrow.
    """
    reacting = topology_of(plan).reacting
    lines = [f"digraph {_quoted(f'{plan.saga}.v{plan.version}')} {{", "  node [shape=box];"]
    lines.append(f"  {_quoted(plan.start)} [shape=oval];")
    for step in plan.steps:
        label = "\n".join((step.name, *notes(step)))
        styles = ["bold"] if step.kind is StepKind.PIVOT else []
        styles += ["dashed"] if step.undoing not in (Undoing.NOTHING, Undoing.NEVER) else []
        style = f', style="{",".join(styles)}"' if styles else ""
        lines.append(f"  {_quoted(step.name)} [label={_quoted(label)}{style}];")
    ends = 0
    for name, event, fan_out in emissions(plan):
        said = f"{event}, one each" if fan_out else event
        takers = reacting.get(event, ())
        for taker in takers:
            every = any(taken.event == event and taken.takes is Takes.EVERY for taken in taker.inputs)
            label = f"{said}, all" if every else said
            lines.append(f"  {_quoted(name)} -> {_quoted(taker.name)} [label={_quoted(label)}];")
        if not takers:
            ends += 1
            lines.append(f'  "end {ends}" [shape=point];')
            lines.append(f'  {_quoted(name)} -> "end {ends}" [label={_quoted(said)}];')
    return "\n".join((*lines, "}")) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
