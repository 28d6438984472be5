"""Hold the production decisions under exploration, and make variants of them with one guard removed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import FunctionType, ModuleType
from typing import Any

from saga._core import (
    answers,
    children,
    closure,
    coordinator,
    deadlines,
    doubt,
    gathering,
    interventions,
    learning,
    participant,
    verbs,
)
from saga._core.answers import AnswerFromOutside, Work
from saga._core.bodies import RunFact
from saga._core.coordinator import Decision, Input
from saga._core.doubt import Question
from saga._core.instance import Instance
from saga._core.participant import Compensate, Meeting, Turn
from saga._core.plan import PlanStep, Topology
from saga._core.rows import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Be the decision functions the shells call; nothing of them is written again here."""

    decide: Callable[[Topology, Instance, Input, datetime], Decision]
    meet: Callable[..., Meeting]
    close: Callable[..., Turn]
    undo: Callable[..., Turn | Compensate]
    answered: Callable[..., Turn]
    compensated: Callable[[RunRow, datetime], Turn]
    compensation_raised: Callable[..., Turn]
    concluded: Callable[..., RunRow]
    failed: Callable[[RunRow, str], RunRow]
    fact_of: Callable[[RunRow], RunFact]
    is_stale: Callable[[RunRow, RunRow | None], bool]
    work_of: Callable[[RunRow], Work]
    question: Callable[..., Question]
    nothing_found: Callable[..., AnswerFromOutside]
    gather: Callable[..., RunRow]
    is_gathered: Callable[[PlanStep, RunRow], bool]
    takers: Callable[[Topology, str, str], tuple[PlanStep, ...]]
    child_ended: Callable[..., Turn]


MODULES = (
    gathering,
    closure,
    deadlines,
    learning,
    verbs,
    coordinator,
    participant,
    answers,
    doubt,
    children,
    interventions,
)
"""The modules that make the decisions, each after those it imports from."""

Space = dict[str, Any]


def _rules(spaces: Mapping[ModuleType, Space]) -> Rules:
    participating, answering = spaces[participant], spaces[answers]
    return Rules(
        decide=spaces[coordinator]["decide"],
        meet=participating["meet"],
        close=participating["close"],
        undo=participating["undo"],
        compensated=participating["compensated"],
        compensation_raised=participating["compensation_raised"],
        fact_of=participating["fact_of"],
        answered=answering["answered"],
        concluded=answering["concluded"],
        failed=answering["failed"],
        is_stale=answering["is_stale"],
        work_of=answering["work_of"],
        question=spaces[doubt]["question"],
        nothing_found=spaces[doubt]["nothing_found"],
        gather=spaces[gathering]["gather"],
        is_gathered=spaces[gathering]["is_gathered"],
        takers=spaces[closure]["takers"],
        child_ended=spaces[children]["child_ended"],
    )


PRODUCTION = _rules({module: vars(module) for module in MODULES})


class PatchDoesNotApply(AssertionError):
    """Say that the production text a mutant changes is no longer there, or there more than once."""


def mutated(module: ModuleType, old: str, new: str) -> Rules:
    """Return the production rules with one piece of the text of `module` replaced.

    The text is compared as `ast.unparse` writes it, so that formatting does not matter.
    """
    return _rules(recompiled(module, old, new))


def recompiled(module: ModuleType, old: str, new: str) -> dict[ModuleType, Space]:
    """Return the names of all modules of decisions, compiled again with one piece of `module` replaced.

    What one of them imports from another is the function compiled here, so that the replacement is seen
    by whoever calls it. Only functions are compiled again: classes stay those of production.
    """
    spaces: dict[ModuleType, Space] = {}
    for each in MODULES:
        text = ast.unparse(ast.parse(inspect.getsource(each)))
        spaces[each] = _compiled(each, _replaced(each, text, old, new) if each is module else text, spaces)
    return spaces


def _replaced(module: ModuleType, text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        msg = f"{module.__name__} has this {text.count(old)} times, not once; write the mutant anew:\n{old}"
        raise PatchDoesNotApply(msg)
    return text.replace(old, new)


def _compiled(module: ModuleType, text: str, spaces: Mapping[ModuleType, Space]) -> Space:
    compiled = {each.__name__: space for each, space in spaces.items()}
    space: Space = dict(vars(module))
    for name, value in vars(module).items():
        if isinstance(value, FunctionType) and value.__module__ in compiled:
            space[name] = compiled[value.__module__][value.__name__]
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    # Annotations stay text, as in the module itself.
    flags = compile("from __future__ import annotations", "<flags>", "exec").co_flags
    exec(compile(tree, f"<mutant of {module.__name__}>", "exec", flags=flags), space)
    return space
