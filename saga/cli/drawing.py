"""Draw a plan in the terminal: the events as branches, the steps they lead to, pivot and undo marked."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text
from rich.tree import Tree

from saga._core.mermaid import notes
from saga._core.plan import Plan, PlanInput, PlanStep, topology_of
from saga._core.words import StepKind, Takes


def plan_trees(plan: Plan) -> tuple[Tree, ...]:
    """Return one tree from the start, and one from each step that takes nothing of this saga.

    A step that several ways lead to is drawn where the first does; the others point at it.
    """
    reacting = topology_of(plan).reacting
    drawn: set[str] = set()
    root = Tree(plan.start, guide_style="dim")
    _grow(root, plan.start_event, "", reacting, drawn)
    trees = [root]
    for step in plan.steps:
        if not step.inputs:
            tree = Tree(_label(step), guide_style="dim")
            _branches(tree, step, reacting, drawn)
            trees.append(tree)
    return tuple(trees)


def _branches(tree: Tree, step: PlanStep, reacting: Mapping[str, tuple[PlanStep, ...]], drawn: set[str]) -> None:
    drawn.add(step.name)
    for event in step.emits:
        _grow(tree, event, step.fan_out, reacting, drawn)
    if step.ends:
        tree.add("nothing")


def _grow(tree: Tree, event: str, fan_out: str, reacting: Mapping[str, tuple[PlanStep, ...]], drawn: set[str]) -> None:
    arrow = f"{event}, one each" if event == fan_out else event
    takers = reacting.get(event, ())
    if not takers:
        tree.add(Text.assemble((arrow, "dim")))
    for step in takers:
        every = PlanInput(event=event, takes=Takes.EVERY) in step.inputs
        way = Text.assemble((f"{arrow}, all" if every else arrow, "dim"), " -> ")
        if step.name in drawn:
            tree.add(way.append(f"{step.name}, drawn above"))
            continue
        _branches(tree.add(way.append_text(_label(step))), step, reacting, drawn)


def _label(step: PlanStep) -> Text:
    name = Text(step.name, style="bold yellow" if step.kind is StepKind.PIVOT else "bold")
    said = ", ".join(notes(step))
    return name.append(f" ({said})", style="not bold") if said else name
