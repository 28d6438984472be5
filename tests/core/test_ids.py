"""Pin identifiers: they stand in rows and logs for years, and other languages compute them too."""

from __future__ import annotations

import hashlib
import json
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga._core import ids
from saga._core.bodies import TooLate, command_id, report_id
from saga._core.words import Ending, Kind, RunStatus
from tests.core.wire_examples import COMMANDS, REPORTS
from tests.core.wire_strategies import BRANCHES, STEPS

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


def test_the_namespace_is_derived_as_documented() -> None:
    assert uuid5(NAMESPACE_URL, "urn:saga:saga-id") == ids.SAGA_NAMESPACE


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("checkout", "", "order-1001"), "51bf654b-18ef-595f-a406-5eeba5f2293d"),
        (("checkout", "acme", 'a"b\\c\n\u00fc'), "e2e98d28-7d1e-5381-b5ec-d34c909374e8"),
    ],
)
def test_saga_ids_are_pinned(parts: tuple[str, str, str], expected: str) -> None:
    assert ids.saga_id_of(*parts) == expected


@given(saga=TEXTS, tenant=TEXTS, key=TEXTS)
def test_a_saga_id_is_what_another_json_writer_makes_of_it(saga: str, tenant: str, key: str) -> None:
    array = json.dumps([saga, tenant, key], ensure_ascii=False, separators=(",", ":"))
    assert ids.saga_id_of(saga, tenant, key) == str(uuid5(ids.SAGA_NAMESPACE, array))


@given(one=st.tuples(TEXTS, TEXTS, TEXTS), other=st.tuples(TEXTS, TEXTS, TEXTS))
def test_parts_cannot_be_shifted_into_each_other(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (ids.saga_id_of(*one) == ids.saga_id_of(*other)) == (one == other)


def test_message_ids_are_pinned() -> None:
    assert ids.event_id("S", "a.b") == "S/a.b"
    assert ids.event_id("S", "a.b", "2of5") == "S/a.b/2of5"
    assert ids.record_id("S", "a.b", "2of5", RunStatus.DONE) == "S/a.b/2of5#run-done"
    assert ids.service_message_id("S", "a", Kind.CLOSE) == "S/a#close"
    assert ids.run_message_id("S", "a.b", "", Kind.UNDO) == "S/a.b#undo"
    assert ids.outcome_id("S", Ending.STUCK) == "S#outcome-stuck"


def test_reports_and_commands_have_ids_of_their_own() -> None:
    made = [report_id("S", report, service) for service, report in REPORTS.values()]
    made += [command_id("S", command, service) for service, command in COMMANDS.values()]
    made.append(report_id("S", TooLate(service="a", step="a.b", reason=""), "a"))
    assert len(set(made)) == len(made)
    assert "S/inventory.reserve_stock#undone" in made
    assert "S/a.b#too_late" in made
    assert "S/orders#cancel" in made


@given(step=STEPS, branch=BRANCHES, generation=st.integers(0, 9), undo=st.booleans())
def test_idempotency_keys_are_stable_and_short(step: str, branch: str, generation: int, undo: bool) -> None:
    key = ids.idempotency_key("S", step, branch, generation, compensation=undo)
    array = json.dumps(["S", step, branch, generation, undo], separators=(",", ":"))
    assert key == hashlib.sha256(array.encode()).hexdigest()[:32]


def test_action_compensation_branch_and_generation_have_different_keys() -> None:
    keys = {
        ids.idempotency_key("S", "a.b", branch, generation, compensation=undo)
        for branch in ("", "1of2", "2of2")
        for generation in (0, 1)
        for undo in (False, True)
    }
    assert len(keys) == 12
