# pyright: reportPrivateUsage=false
"""Hold the short way to write an ended run against the one that every other run goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from saga._core import emit
from saga._core.emit import ended_run
from saga._core.plan import Plan
from saga._core.rows import RunRow
from saga._core.words import Priority, RunKey, RunStatus, UndoStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLAN = Plan(
    saga="s",
    version=1,
    revision=1,
    start="a.start",
    start_event="e.v1",
    timeout_ms=1000,
    forward_window_ms=1000,
    steps=(),
    hash="h" * 64,
)
names = st.sampled_from(["a.f", "b-c.g", "a.start"])
branches = st.sampled_from(["", "1of1", "2of5"])
runs = st.builds(
    RunRow,
    saga_id=st.text("abc-0123", min_size=1, max_size=8),
    step=names,
    branch=branches,
    plan=st.just("h" * 64),
    tenant=st.sampled_from(["", "t", "é"]),
    status=st.just(RunStatus.DONE),
    undo=st.sampled_from([*UndoStatus, *[UndoStatus.NONE] * 9]),
    causes=st.lists(st.builds(RunKey, step=names, branch=branches), max_size=3).map(tuple),
    result_type=st.sampled_from(["e.v1", "f.v2"]),
    result=st.none() | st.binary(max_size=8),
    attempt=st.integers(0, 9),
    error=st.sampled_from(["", "", "", "it went wrong"]),
    lane=st.sampled_from(Priority),
    expires_at=st.just(NOW + timedelta(minutes=5)),
    created_at=st.just(NOW),
    done_at=st.none() | st.just(NOW + timedelta(microseconds=7)),
)


@given(run=runs, traceparent=st.sampled_from(["", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"]))
def test_a_run_that_has_emitted_one_event_is_written_like_any_other(run: RunRow, traceparent: str) -> None:
    assert ended_run(run, PLAN, NOW, traceparent) == emit._rows_of(run, PLAN, NOW, traceparent)


def test_only_such_a_run_goes_the_short_way() -> None:
    run = RunRow(
        saga_id="S", step="a.f", plan="h", status=RunStatus.REFUSED, result_type="no.v1", expires_at=NOW, created_at=NOW
    )
    (row,) = ended_run(run, PLAN, NOW, "")
    assert (row.payload, row.headers) == (None, ())
    assert dict(row.record_headers)["ce_sagakind"] == b"run"


def test_a_fan_out_has_a_row_for_each_element() -> None:
    run = RunRow(
        saga_id="S",
        step="a.f",
        plan="h",
        status=RunStatus.DONE,
        result_type="e.v1",
        result=b'["{}","{}"]',
        fan_out=2,
        expires_at=NOW,
        created_at=NOW,
    )
    assert [row.id for row in ended_run(run, PLAN, NOW, "")] == ["S/a.f/1of2", "S/a.f/2of2"]
