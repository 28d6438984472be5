from __future__ import annotations

from types import FunctionType

import pytest

from saga._core import closure, coordinator, participant
from tests.exhaustive.explore import Explored, explore
from tests.exhaustive.mutant import Mutant
from tests.exhaustive.mutants import EQUIVALENT, MUTANTS
from tests.exhaustive.rules import MODULES, PRODUCTION, PatchDoesNotApply, mutated, recompiled
from tests.exhaustive.scenarios import EVERY_BUILD, PIVOT_IN_THE_MIDDLE
from tests.exhaustive.summary import report

pytestmark = pytest.mark.timeout(600)


def _name(mutant: Mutant) -> str:
    return mutant.guard


def _explored(mutant: Mutant) -> Explored:
    rules = mutated(mutant.module, mutant.old, mutant.new)
    return explore(mutant.scenario, EVERY_BUILD[0], rules)


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_without_this_guard_a_promise_is_broken(mutant: Mutant) -> None:
    explored = _explored(mutant)
    report(f"without '{mutant.guard}': {explored.violation or 'NOTHING FOUND'} ({explored.states:,} states)")
    assert explored.violation


@pytest.mark.parametrize("mutant", EQUIVALENT, ids=_name)
def test_this_guard_is_not_what_keeps_the_promises(mutant: Mutant) -> None:
    explored = _explored(mutant)
    assert not explored.violation, str(explored)


def test_a_mutant_of_text_that_is_gone_is_refused() -> None:
    with pytest.raises(PatchDoesNotApply, match="0 times"):
        mutated(participant, "no such text", "")


def test_recompiled_but_unchanged_rules_explore_the_same() -> None:
    same = mutated(participant, "return Meeting.HELD", "return Meeting.HELD")
    assert same.meet is not PRODUCTION.meet
    production = explore(PIVOT_IN_THE_MIDDLE, EVERY_BUILD[0], PRODUCTION)
    again = explore(PIVOT_IN_THE_MIDDLE, EVERY_BUILD[0], same)
    assert (again.states, again.transitions) == (production.states, production.transitions)


def test_no_recompiled_rule_calls_back_into_production() -> None:
    spaces = recompiled(participant, "return Meeting.HELD", "return Meeting.TURNED_AWAY")
    production = {
        value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, FunctionType) and value.__module__ in {each.__name__ for each in MODULES}
    }
    left = {
        name
        for space in spaces.values()
        for name, value in space.items()
        if isinstance(value, FunctionType) and value in production
    }
    assert production
    assert not left


def test_who_imports_from_a_mutated_module_uses_the_mutated_one() -> None:
    spaces = recompiled(closure, "pivot is not None and any(", "not any(")
    assert spaces[coordinator]["pivot_has_run"] is spaces[closure]["pivot_has_run"]
    assert spaces[coordinator]["decide"].__globals__ is spaces[coordinator]
    assert spaces[coordinator]["pivot_has_run"] is not closure.pivot_has_run
