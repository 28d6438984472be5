from __future__ import annotations

import pytest

from saga._core import participant
from tests.exhaustive.explore import Explored, explore
from tests.exhaustive.mutant import Mutant
from tests.exhaustive.mutants import EQUIVALENT, MUTANTS
from tests.exhaustive.rules import PRODUCTION, PatchDoesNotApply, mutated
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
