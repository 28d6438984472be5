from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from saga._core.bodies import Report
from saga._core.coordinator import decide
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep
from saga._core.rows import InstanceRow
from saga._core.stored_instance import STUCK_PHASE, instance_of, instance_row
from saga._core.words import Cause, Ending
from tests.core import wire_strategies as wire
from tests.core.protocol_examples import PIVOTAL, new_instance


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    facts = draw(st.lists(wire.FACTS, max_size=4))
    phase = draw(st.sampled_from(Phase))
    return Instance(
        saga_id=draw(wire.NAMES),
        expires_at=draw(wire.TIMES),
        phase=phase,
        runs={fact.key: fact for fact in facts},
        answers=draw(st.dictionaries(wire.NAMES, st.sampled_from(Answer), max_size=3)),
        undos=draw(st.dictionaries(wire.RUN_KEYS, st.sampled_from(UndoStep), max_size=3)),
        cause=draw(st.none() | st.sampled_from(Cause)),
        detail=draw(wire.REASONS),
        refusal=draw(st.none() | wire.REFUSALS),
        stuck=draw(st.none() | st.sampled_from(Cause)),
        stuck_detail=draw(wire.REASONS),
        told=draw(st.none() | st.sampled_from(Ending)),
        sent_at=draw(st.none() | wire.TIMES),
        resends=draw(st.integers(min_value=0, max_value=1_000_000)),
        due_at=draw(st.none() | wire.TIMES),
        ended_at=draw(st.none() | wire.TIMES),
        traceparent=draw(wire.TRACEPARENTS),
        burst=draw(wire.TRACEPARENTS),
    )


def _row(instance: Instance) -> InstanceRow:
    return instance_row(
        instance, saga="checkout", version=2, plan="h", tenant="t", partition=3, revision=4, started_at=None
    )


@given(instances())
def test_an_instance_is_read_as_it_was_written(instance: Instance) -> None:
    row = _row(instance)
    assert instance_of(row) == instance
    assert (row.due_at, row.ended_at, row.revision, row.partition) == (instance.due_at, instance.ended_at, 4, 3)
    stuck = instance.stuck is not None and instance.phase not in ENDED
    assert row.phase == (STUCK_PHASE if stuck else instance.phase.value)


@given(st.lists(wire.REPORTS, max_size=8))
def test_deciding_is_total_and_survives_the_row(reports: list[Report]) -> None:
    instance = new_instance()
    for report in reports:
        decision = decide(PIVOTAL, instance, report, instance.expires_at - timedelta(days=7))
        assert instance_of(_row(decision.instance)) == decision.instance
        instance = decision.instance
