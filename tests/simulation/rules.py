"""Hold the production decisions under simulation, and make variants of them with one guard removed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from saga._core import (
    acting,
    adding,
    answers,
    branches,
    by_hand,
    children,
    closure,
    coordinator,
    deadlines,
    doubt,
    fitting,
    gathering,
    instance,
    intake,
    interventions,
    learning,
    participant,
    plan,
    versions,
)
from saga._core.plan import Plan, Topology
from tests.simulation.copying import replace

Space = dict[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])
Spaces = Mapping[ModuleType, Space]

MODULES: tuple[ModuleType, ...] = (
    plan,
    branches,
    versions,
    fitting,
    gathering,
    intake,
    instance,
    closure,
    deadlines,
    learning,
    by_hand,
    acting,
    coordinator,
    participant,
    answers,
    interventions,
    doubt,
    children,
)
"""The modules that make the decisions."""


class PatchDoesNotApply(AssertionError):
    """Say that the production text a mutant changes is no longer there, or there more than once."""


class Rules:
    """Be the decision functions the shells call; nothing of them is written again here."""

    def __init__(self, spaces: Spaces) -> None:
        """Take the functions out of the names of their modules."""
        self.short: Callable[..., coordinator.Decision | None] | None = None  # set where nothing is taken out
        self.topology_of: Callable[[Plan], Topology] = spaces[plan]["topology_of"]
        self.sort_message = _of(spaces, intake, intake.sort_message)
        self.decide = _of(spaces, coordinator, coordinator.decide)
        self.learn_unplanned = _of(spaces, learning, learning.learn_unplanned)
        self.meet = _of(spaces, participant, participant.meet)
        self.close = _of(spaces, participant, participant.close)
        self.undo = _of(spaces, participant, participant.undo)
        self.compensated = _of(spaces, participant, participant.compensated)
        self.compensation_raised = _of(spaces, participant, participant.compensation_raised)
        self.fact_of = _of(spaces, participant, participant.fact_of)
        self.answered = _of(spaces, answers, answers.answered)
        self.concluded = _of(spaces, answers, answers.concluded)
        self.failed = _of(spaces, answers, answers.failed)
        self.is_stale = _of(spaces, answers, answers.is_stale)
        self.work_of = _of(spaces, answers, answers.work_of)
        self.question = _of(spaces, doubt, doubt.question)
        self.nothing_found = _of(spaces, doubt, doubt.nothing_found)
        self.forgotten = _of(spaces, doubt, doubt.forgotten)
        self.as_before = _of(spaces, doubt, doubt.as_before)
        self.run_branch = _of(spaces, gathering, gathering.run_branch)
        self.cause_of = _of(spaces, gathering, gathering.cause_of)
        self.gather = _of(spaces, gathering, gathering.gather)
        self.is_gathered = _of(spaces, gathering, gathering.is_gathered)
        self.intervene = _of(spaces, interventions, interventions.intervene)
        self.child_ended = _of(spaces, children, children.child_ended)
        self.topologies: dict[str, Topology] = {}

    def topology(self, plan: Plan) -> Topology:
        """Return the index over a plan, made once."""
        found = self.topologies.get(plan.hash)
        if found is None:
            found = self.topologies[plan.hash] = self.topology_of(plan)
        return found


def _of(spaces: Spaces, module: ModuleType, function: Function) -> Function:
    found: Function = spaces[module][function.__name__]
    return found


def production() -> Rules:
    """Return the rules as they are, but for a faster `replace`."""
    rules = _rules({module: _text(module) for module in MODULES})
    rules.short = adding.added
    return rules


def mutated(module: ModuleType, old: str, new: str) -> Rules:
    """Return the production rules with one piece of the text of `module` replaced.

    The text is compared as `ast.unparse` writes it, so that formatting does not matter. What one module
    imports from another is the function compiled here, so that the replacement is seen by whoever calls it.
    """
    text = _text(module)
    if text.count(old) != 1:
        msg = f"{module.__name__} has this {text.count(old)} times, not once; write the mutant anew:\n{old}"
        raise PatchDoesNotApply(msg)
    return _rules({each: _text(each) for each in MODULES} | {module: text.replace(old, new)})


def _rules(texts: Mapping[ModuleType, str]) -> Rules:
    spaces: dict[ModuleType, Space] = {}
    for module in _in_order():
        spaces[module] = _compiled(module, texts[module], spaces)
    return Rules(spaces)


@cache
def _text(module: ModuleType) -> str:
    return ast.unparse(ast.parse(inspect.getsource(module)))


@cache
def _in_order() -> tuple[ModuleType, ...]:
    """Return the modules, each after those it takes functions from."""
    names = {module.__name__ for module in MODULES}
    found: list[ModuleType] = []
    while len(found) < len(MODULES):
        done = {module.__name__ for module in found}
        for module in MODULES:
            needs = {
                value.__module__
                for value in vars(module).values()
                if isinstance(value, FunctionType) and value.__module__ in names
            } - {module.__name__}
            if module not in found and needs <= done:
                found.append(module)
                break
        else:
            msg = "the modules of decisions import each other in a circle"
            raise AssertionError(msg)
    return tuple(found)


def _compiled(module: ModuleType, text: str, spaces: Spaces) -> Space:
    compiled = {each.__name__: space for each, space in spaces.items()}
    space: Space = dict(vars(module))
    if "replace" in space:
        space["replace"] = replace
    for name, value in vars(module).items():
        if isinstance(value, FunctionType) and value.__module__ in compiled:
            space[name] = compiled[value.__module__][value.__name__]
    tree = ast.parse(text)
    # Classes stay those of production: rows and reports are compared across the modules.
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    flags = compile("from __future__ import annotations", "<flags>", "exec").co_flags
    exec(compile(tree, f"<mutant of {module.__name__}>", "exec", flags=flags), space)
    return space
