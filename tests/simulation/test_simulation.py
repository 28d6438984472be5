from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.simulation.chance import Fault
from tests.simulation.fleet import run
from tests.simulation.killers import KILLERS
from tests.simulation.mutant import Mutant
from tests.simulation.mutant_list import EQUIVALENT, MUTANTS
from tests.simulation.mutants import MOST_SCHEDULES, hunt_all
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.rules import PatchDoesNotApply, Rules, mutated, production
from tests.simulation.schedule import shrunk, simulate
from tests.simulation.sometimes import SOMETIMES

SCHEDULES = 20_000


@pytest.mark.timeout(300)
def test_random_schedules_keep_the_promises(record_property: Callable[[str, object], None]) -> None:
    tally = run(seed=0, schedules=SCHEDULES)
    sys.stdout.writelines(f"{times:10} {what}\n" for what, times in sorted(tally.counts.items()))
    sys.stdout.write(f"{tally}\n")
    record_property("simulation", str(tally))
    assert not tally.violations, tally.violations
    assert tally.schedules == SCHEDULES
    never = [what for what in SOMETIMES if not tally.counts[what]]
    assert not never, f"never happened: {never}"


@pytest.mark.parametrize("seed", REGRESSIONS, ids=REGRESSIONS.get)
def test_what_was_found_once_stays_mended(seed: int) -> None:
    assert not simulate(seed, production()).violation


@pytest.mark.timeout(600)
def test_without_any_of_the_guards_a_promise_is_broken() -> None:
    found = list(hunt_all())
    sys.stdout.writelines(f"{killed}\n" for killed in found)
    assert not [killed.guard for killed in found if not killed.schedules], f"not killed in {MOST_SCHEDULES} schedules"


@pytest.mark.parametrize("mutant", EQUIVALENT, ids=lambda mutant: mutant.guard)
def test_this_guard_is_not_what_keeps_the_promises(mutant: Mutant) -> None:
    rules = mutated(mutant.module, mutant.old, mutant.new)
    found = {seed: ran.violation for seed in range(0, 6_400, 16) if (ran := simulate(seed, rules)).violation}
    assert not found


def test_a_seed_says_everything() -> None:
    first, again = list[str](), list[str]()
    one, other = simulate(4_711, production(), history=first), simulate(4_711, production(), history=again)
    assert first == again
    assert (one.struck, one.counts, one.tasks) == (other.struck, other.counts, other.tasks)
    assert len(first) > 5


def test_a_failing_schedule_is_made_smaller() -> None:
    from saga._core import participant

    rules = mutated(participant, "return Meeting.DUPLICATE", "return Meeting.RUN")
    seed = next(seed for seed in range(1_000) if len(set(simulate(seed, rules).struck)) > 4 and _fails(seed, rules))
    hidden = shrunk(seed, rules)
    ran = simulate(seed, rules, hidden=hidden)
    assert ran.invariant == simulate(seed, rules).invariant
    left = [fault for at, fault in enumerate(ran.struck) if at not in hidden]
    assert 1 <= len(left) <= 2, left
    assert len(hidden) > 2


def _fails(seed: int, rules: Rules) -> bool:
    return bool(simulate(seed, rules).violation)


def test_a_mutant_of_text_that_is_gone_is_refused() -> None:
    from saga._core import participant

    with pytest.raises(PatchDoesNotApply, match="0 times"):
        mutated(participant, "no such text", "")


def test_each_guard_has_a_name_of_its_own() -> None:
    guards = [mutant.guard for mutant in MUTANTS]
    assert len(guards) == len(set(guards))
    assert not KILLERS.keys() - set(guards), "write the table anew: python -m tests.simulation.mutants --keep"


def test_every_fault_is_hoped_for() -> None:
    assert len(SOMETIMES) >= len(Fault)
