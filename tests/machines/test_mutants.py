"""Take one guard after the other out of the SQL of a store: the machines must notice."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import Phase

from tests.machines.adapters import sqlite
from tests.machines.driving import Driven, drive
from tests.machines.profiles import SCALE, profile
from tests.machines.test_coordination_machine import CoordinationMachine
from tests.machines.test_store_machine import StoreMachine

PARTICIPANT = [
    ("update_run", "revision = ?29", "?29 > 0"),
    ("insert_delivery", "coalesce(saga_delivery.first_at, excluded.first_at)", "excluded.first_at"),
    ("update_delivery", "and reason <> 'dead'", ""),
    ("lease_delivery", "due_at = ?2", "due_at = min(due_at, ?2)"),
    ("lease_run", "revision = revision + 1", "revision = revision"),
    ("beat_run", "owner = ?5", "?5 <> ''"),
    ("sweep_lease", "saga_lease.until < ?3", "?3 > 0"),
    ("sweep_page", "seq not in (select value from json_each(?2))", "?2 <> ''"),
    ("prune_runs", "and r.pending_at is null", ""),
]
COORDINATOR = [
    ("update_instance", "revision = ?14", "?14 > 0"),
    ("update_cursor", "position = ?4", "?4 >= 0"),
    ("put_plan", "set body = excluded.body", "set body = saga_plan.body"),
]
SLOW_PARTICIPANT = [  # these take longer to be noticed
    ("insert_delivery", "max(saga_delivery.attempt, excluded.attempt)", "excluded.attempt"),
    ("release_delivery", ", 'held'", ""),
    ("release_delivery", "service = ?1", "?1 <> ''"),
    ("due_deliveries", "'parked'", "'parked', 'held'"),
    ("silent_runs", "owner not in ('', ?2)", "?2 <> ''"),
    ("prune_runs", "and (g.keep_until is null or g.keep_until < ?2)", ""),
    ("prune_runs", "and r.undo not in ('wanted', 'intent')", ""),
    ("prune_gates", "and (g.keep_until is null or g.keep_until < ?2)", ""),
]
SLOW_COORDINATOR = [("due_instances", "i.due_at <= c.observed_until", "i.due_at < c.observed_until")]


def check(machine: type[Driven], statement: str, guard: str, without: str) -> None:
    def changed(sql: Mapping[str, str]) -> Mapping[str, str]:
        assert guard in sql[statement], "the guard is written otherwise now"
        return {**sql, statement: sql[statement].replace(guard, without)}

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - an assertion, or an error of the driver
        drive(machine, sqlite(changed), profile(100, phases=[Phase.generate]))
    assert "written otherwise" not in str(caught.value)


@pytest.mark.parametrize(("statement", "guard", "without"), PARTICIPANT + SLOW_PARTICIPANT * (SCALE > 1))
def test_a_participants_guard_is_missed(statement: str, guard: str, without: str) -> None:
    check(StoreMachine, statement, guard, without)


@pytest.mark.parametrize(("statement", "guard", "without"), COORDINATOR + SLOW_COORDINATOR * (SCALE > 1))
def test_a_coordinators_guard_is_missed(statement: str, guard: str, without: str) -> None:
    check(CoordinationMachine, statement, guard, without)
