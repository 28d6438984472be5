"""List the guards that are taken out: those of the exhaustive exploration, and more."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from saga._core import answers, closure, coordinator, intake, learning, participant, plan
from tests.exhaustive.mutants import EQUIVALENT as EXPLORED_EQUIVALENT
from tests.exhaustive.mutants import MUTANTS as EXPLORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """Be a guard: the production text that makes it (as `ast.unparse` writes it), and a text without it."""

    guard: str
    module: ModuleType
    old: str
    new: str


def _mutant(guard: str, module: ModuleType, old: str, new: str) -> Mutant:
    return Mutant(guard=guard, module=module, old=old, new=new)


MORE = (
    _mutant(
        "an expired saga starts no run",
        participant,
        "return Meeting.EXPIRED if now >= max(until, expires_at) else Meeting.RUN",
        "return Meeting.RUN",
    ),
    _mutant(
        "a closed gate speaks for itself when the command is repeated",
        participant,
        "if gate is not None and gate.state is GateState.CLOSED:\n        return Turn(reports=(Closed(",
        "if gate is not None and gate.state is GateState.CLOSED:\n        return Turn()\n        return Turn(reports=(Closed(",
    ),
)

MUTANTS = (*(_mutant(each.guard, each.module, each.old, each.new) for each in EXPLORED), *MORE)

__all__ = ["EXPLORED_EQUIVALENT", "MUTANTS", "Mutant", "answers", "closure", "coordinator", "intake", "learning", "plan"]
