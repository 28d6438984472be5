from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from tests.exhaustive.explore import Explored, explore
from tests.exhaustive.rules import PRODUCTION
from tests.exhaustive.scenarios import EVERY_BUILD, FULL, SCENARIOS, Bounds, Scenario
from tests.exhaustive.summary import report

pytestmark = pytest.mark.timeout(600)

WANTED_FULL = "SAGA_EXHAUSTIVE"

HAPPENS = frozenset(
    {
        "answer emitted",
        "answer raised",
        "answer refused",
        "answer stale",
        "call: happened",
        "call: happened, answer lost",
        "call: never arrived",
        "call: not undone",
        "call: refused",
        "call: refused, answer lost",
        "call: same answer",
        "call: same answer lost",
        "call: undone",
        "call: undone, answer lost",
        "cancel: running -> asking",
        "cancel: running -> closing",
        "close: closed",
        "close: closed, comes again",
        "close: closing",
        "close: open",
        "answer nothappened",
        "answer unproven",
        "probe: no answer",
        "probe: nothing found",
        "closed",
        "closed: asking -> closing",
        "closed: closing -> compensated",
        "closed: closing -> completed",
        "committed: asking -> committed",
        "committed: asking -> completed",
        "compensation done",
        "compensation raised",
        "due: running -> asking",
        "due: running -> closing",
        "event duplicate",
        "event held",
        "event turned_away",
        "intent",
        "run done",
        "run failed",
        "run refused",
        "runreported: asking -> committed",
        "runreported: asking -> completed",
        "runreported: closing -> completed",
        "runreported: committed -> completed",
        "runreported: running -> asking",
        "runreported: running -> closing",
        "runreported: running -> committed",
        "runreported: running -> completed",
        "take over",
        "take: act",
        "take: compensate",
        "take: resolve",
        "undo",
        "undo: compensated",
        "undo: compensated, comes again",
        "undo: failed",
        "undofailed",
        "undone",
        "undone: closing -> compensated",
    }
)


def _cases(every: tuple[Bounds, ...]) -> list[tuple[Scenario, Bounds]]:
    return [
        (scenario, bounds)
        for scenario in SCENARIOS
        for bounds in every
        if (scenario.external or not bounds.takeovers) and (scenario.parent or not bounds.settles)
    ]


def _name(value: object) -> str:
    return value.name if isinstance(value, Scenario) else "-".join(str(count) for count in value)  # type: ignore[attr-defined]


@cache
def _explored(scenario: Scenario, bounds: Bounds) -> Explored:
    return explore(scenario, bounds, PRODUCTION)


def _check(explored: Explored, record_property: Callable[[str, object], None]) -> None:
    report(str(explored))
    record_property("states", explored.states)
    record_property("transitions", explored.transitions)
    assert not explored.violation, str(explored)
    assert explored.states > 100
    assert explored.transitions > explored.states
    assert explored.ends > 1


@pytest.mark.parametrize(("scenario", "bounds"), _cases(EVERY_BUILD), ids=_name)
def test_every_interleaving_keeps_the_promises(
    scenario: Scenario, bounds: Bounds, record_property: Callable[[str, object], None]
) -> None:
    _check(_explored(scenario, bounds), record_property)


def test_everything_the_protocol_knows_has_happened_somewhere() -> None:
    seen = Counter[str]()
    for scenario, bounds in _cases(EVERY_BUILD):
        seen.update(_explored(scenario, bounds).seen)
    assert seen.keys() >= HAPPENS, HAPPENS - seen.keys()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get(WANTED_FULL), reason=f"set {WANTED_FULL}=1 for the full exploration")
@pytest.mark.parametrize(("scenario", "bounds"), _cases(FULL), ids=_name)
def test_wider_bounds_keep_the_promises(
    scenario: Scenario, bounds: Bounds, record_property: Callable[[str, object], None]
) -> None:
    _check(explore(scenario, bounds, PRODUCTION), record_property)
