"""Choose how rows are written: those that are alike share their values, since an array of each column costs the most.

Each statement here stores what its general one would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

from outbox.codec import Codec, Values, as_it_is, causes_text
from outbox.messages import outbox_values, packed
from outbox.postgres.parts import Part, columns
from saga._core.frozen import replace
from saga._core.rows import InstanceRow, OutboxRow, RunId, RunRow
from saga._core.words import RunStatus, UndoStatus

CODEC = Codec(as_it_is, as_it_is)

_shared_of_run = attrgetter(
    "step", "plan", "tenant", "input_type", "result_type", "attempt", "created_at", "done_at", "lane"
)
_rest_of_run = attrgetter(
    "status",
    "undo",
    "owner",
    "pending_at",
    "error",
    "outcome",
    "undone_at",
    "fan_out",
    "generation",
    "first_called_at",
    "called_at",
)
_DONE = (RunStatus.DONE, UndoStatus.NONE, "", None, "", None, None, None, 0, None, None)
_shared_of_message = attrgetter("aggregatetype", "type", "service", "shard")
_shared_of_instance = attrgetter("saga", "version", "plan", "tenant", "step", "error")


def inserted_runs(runs: Sequence[RunRow]) -> Part:
    """Return the part that inserts runs: where all are of one step and have simply been done, by what differs."""
    shared = _shared_of_run(runs[0])
    for run in runs:
        if _rest_of_run(run) != _DONE or _shared_of_run(run) != shared:
            return Part("insert_runs", columns([CODEC.run(each) for each in runs]))
    step, *others, lane = shared
    return Part(
        "insert_done_runs",
        (
            [run.saga_id for run in runs],
            [run.branch for run in runs],
            [causes_text(run.causes) for run in runs],
            [run.input for run in runs],
            [run.result for run in runs],
            [run.traceparent for run in runs],
            [run.expires_at for run in runs],
            step,
            runs[0].service,
            *others,
            lane.value,
        ),
    )


def updated_runs(runs: Sequence[RunRow], seen: Mapping[RunId, RunRow]) -> Part:
    """Return the part that updates runs: where all got an outcome since they were `seen` and nothing else, by that."""
    for run in runs:
        was = seen.get((run.saga_id, run.step, run.branch))
        if was is None or run.outcome is None or replace(was, outcome=run.outcome) != run:
            values: list[Values] = [(*CODEC.run(each), each.revision) for each in runs]
            return Part("update_runs", [*columns(values), len(values)])
    told: list[Values] = [(run.saga_id, run.step, run.branch, run.outcome, run.revision) for run in runs]
    return Part("update_outcomes", [*columns(told), len(told)])


def inserted_outbox(rows: Sequence[OutboxRow]) -> Part:
    """Return the part that stores outbox rows: where all go to one topic and are of one type, by what differs."""
    shared = _shared_of_message(rows[0])
    for row in rows:
        if row.shard is not None or _shared_of_message(row) != shared:
            return Part("insert_outbox", columns([outbox_values(each) for each in rows]))
    headers, record_headers = zip(*[packed(row) for row in rows], strict=True)
    return Part(
        "insert_alike_outbox",
        (
            [row.id for row in rows],
            [row.aggregateid for row in rows],
            [row.payload for row in rows],
            list(headers),
            [row.record for row in rows],
            list(record_headers),
            *shared[:3],
        ),
    )


def stored_instances(rows: Sequence[InstanceRow]) -> list[Part]:
    """Return the parts that insert and update instances: where all are of one plan without a fault, by the rest."""
    new = [row for row in rows if not row.revision]
    known = [row for row in rows if row.revision]
    parts: list[Part] = []
    if new:
        args = _alike(new)
        parts.append(
            Part("insert_alike_instances", args)
            if args
            else Part("insert_instances", columns([CODEC.instance(row) for row in new]))
        )
    if known:
        args, count = _alike(known), len(known)
        values: list[Values] = [] if args else [(*CODEC.instance(row), row.revision) for row in known]
        parts.append(
            Part("update_alike_instances", [*args, [row.revision for row in known], count])
            if args
            else Part("update_instances", [*columns(values), count])
        )
    return parts


def _alike(rows: Sequence[InstanceRow]) -> list[object]:
    """Return the columns of instances of one plan without a fault, then what they share; nothing for others."""
    shared = _shared_of_instance(rows[0])
    for row in rows:
        if row.step or row.error or _shared_of_instance(row) != shared:
            return []
    return [
        [row.saga_id for row in rows],
        [row.phase for row in rows],
        [row.partition for row in rows],
        [row.due_at for row in rows],
        [row.started_at for row in rows],
        [row.ended_at for row in rows],
        [row.state for row in rows],
        *shared[:4],
    ]
