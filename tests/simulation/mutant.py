"""Be the removal of one guard of the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mutant:
    """Be a guard: the production text that makes it (as `ast.unparse` writes it), and a text without it."""

    guard: str
    module: ModuleType
    old: str
    new: str


def mutant(guard: str, module: ModuleType, old: str, new: str) -> Mutant:
    """Return a mutant."""
    return Mutant(guard=guard, module=module, old=old, new=new)
