"""Hold the production decisions under exploration, and make variants of them with one guard removed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any

from saga._core import coordinator, participant
from saga._core.bodies import RunFact
from saga._core.coordinator import Decision, Input
from saga._core.instance import Instance
from saga._core.participant import Compensate, Meeting, Turn, Work
from saga._core.plan import Topology
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


def _rules(coordinating: Mapping[str, Any], participating: Mapping[str, Any]) -> Rules:
    return Rules(
        decide=coordinating["decide"],
        meet=participating["meet"],
        close=participating["close"],
        undo=participating["undo"],
        answered=participating["answered"],
        compensated=participating["compensated"],
        compensation_raised=participating["compensation_raised"],
        concluded=participating["concluded"],
        failed=participating["failed"],
        fact_of=participating["fact_of"],
        is_stale=participating["is_stale"],
        work_of=participating["work_of"],
    )


PRODUCTION = _rules(vars(coordinator), vars(participant))


class PatchDoesNotApply(AssertionError):
    """Say that the production text a mutant changes is no longer there, or there more than once."""


def mutated(module: ModuleType, old: str, new: str) -> Rules:
    """Return the production rules with one piece of the text of `module` replaced.

    The text is compared as `ast.unparse` writes it, so that formatting does not matter. Only functions
    are compiled again: classes stay those of production.
    """
    text = ast.unparse(ast.parse(inspect.getsource(module)))
    if text.count(old) != 1:
        msg = f"{module.__name__} has this {text.count(old)} times, not once; write the mutant anew:\n{old}"
        raise PatchDoesNotApply(msg)
    tree = ast.parse(text.replace(old, new))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    space: dict[str, Any] = dict(vars(module))
    # Annotations stay text, as in the module itself.
    flags = compile("from __future__ import annotations", "<flags>", "exec").co_flags
    exec(compile(tree, f"<mutant of {module.__name__}>", "exec", flags=flags), space)
    if module is coordinator:
        return _rules(space, vars(participant))
    return _rules(vars(coordinator), space)
