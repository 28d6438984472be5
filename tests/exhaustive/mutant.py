"""Be the removal of one guard of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from tests.exhaustive.scenarios import Scenario


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mutant:
    """Be a guard: the production text that makes it, a text without it, and the scenario that must notice."""

    guard: str
    module: ModuleType
    old: str
    new: str
    scenario: Scenario


def mutant(guard: str, module: ModuleType, old: str, new: str, scenario: Scenario) -> Mutant:
    """Return a mutant."""
    return Mutant(guard=guard, module=module, old=old, new=new, scenario=scenario)
