"""Make small plans, facts and rows for the tests of the protocol's decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from saga._core.bodies import Closed, Committed, RefusalData, RunFact, RunReported
from saga._core.coordinator import Decision, Input, decide
from saga._core.instance import Instance
from saga._core.plan import Plan, PlanStep, Topology, Undoing, topology_of
from saga._core.rows import GateRow, RunRow
from saga._core.words import Effects, GateState, RunKey, RunStatus, StepKind

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIMEOUT = timedelta(minutes=5)
FORWARD_WINDOW = timedelta(days=7)
TIMEOUT_AT = NOW + TIMEOUT
EXPIRES = TIMEOUT_AT + FORWARD_WINDOW
SAGA_ID = "S"


def a_step(
    name: str,
    reacts_to: str,
    *emits: str,
    kind: StepKind = StepKind.STEP,
    effects: Effects = Effects.LOCAL,
    undoing: Undoing = Undoing.LOCAL,
) -> PlanStep:
    return PlanStep(
        name=name,
        kind=kind,
        effects=effects,
        reacts_to=reacts_to,
        emits=emits,
        ends=not emits,
        refuses=(),
        undoing=undoing,
        timeout_ms=1_000,
    )


def a_topology(*steps: PlanStep) -> Topology:
    plan = Plan(
        saga="checkout",
        version=1,
        revision=1,
        start="orders.start",
        start_event="placed.v1",
        timeout_ms=int(TIMEOUT.total_seconds() * 1000),
        forward_window_ms=int(FORWARD_WINDOW.total_seconds() * 1000),
        steps=steps,
        hash="h" * 64,
    )
    return topology_of(plan)


PLAIN = a_topology(
    a_step("stock.reserve", "placed.v1", "reserved.v1"),
    a_step("ship.send", "reserved.v1"),
)

PIVOTAL = a_topology(
    a_step("stock.reserve", "placed.v1", "reserved.v1"),
    a_step("pay.capture", "reserved.v1", "captured.v1", kind=StepKind.PIVOT, undoing=Undoing.NEVER),
    a_step("ship.send", "captured.v1", kind=StepKind.RETRIABLE, undoing=Undoing.NEVER),
)

OUTSIDE = a_topology(
    a_step("pay.hold", "placed.v1", "held.v1", effects=Effects.EXTERNAL, undoing=Undoing.EXTERNAL),
    a_step(
        "pay.capture",
        "held.v1",
        kind=StepKind.PIVOT,
        effects=Effects.EXTERNAL,
        undoing=Undoing.NEVER,
    ),
)

REFUSAL = RefusalData(type="stock.out.v1", data=b'{"sku":"x"}')


def a_fact(
    step: str,
    status: RunStatus,
    *,
    emits: str = "",
    cause: str = "orders.start",
    branch: str = "",
    fan_out: int | None = None,
) -> RunFact:
    return RunFact(
        step=step,
        branch=branch,
        fan_out=fan_out,
        status=status,
        causes=(RunKey(step=cause),),
        emits=(emits,) if emits else (),
        at=NOW,
        refusal=REFUSAL if status is RunStatus.REFUSED else None,
        error="boom" if status is RunStatus.FAILED else "",
    )


START = RunFact(step="orders.start", status=RunStatus.DONE, emits=("placed.v1",), at=NOW)
RESERVED = a_fact("stock.reserve", RunStatus.DONE, emits="reserved.v1")
CAPTURED = a_fact("pay.capture", RunStatus.DONE, emits="captured.v1", cause="stock.reserve")
SENT_PLAIN = a_fact("ship.send", RunStatus.DONE, cause="stock.reserve")
SENT = a_fact("ship.send", RunStatus.DONE, cause="pay.capture")


def ran(fact: RunFact) -> RunReported:
    return RunReported(fact=fact)


def closed(service: str, *runs: RunFact) -> Closed:
    return Closed(service=service, runs=runs)


def committed(service: str, *runs: RunFact) -> Committed:
    return Committed(service=service, runs=runs)


def new_instance() -> Instance:
    return Instance(saga_id=SAGA_ID, expires_at=EXPIRES)


def told(topology: Topology, *inputs: Input, at: Instance | None = None, now: datetime = NOW) -> Decision:
    """Decide one input after another and return the last decision."""
    decision = Decision(instance=at or new_instance(), effects=())
    for received in inputs:
        decision = decide(topology, decision.instance, received, now)
    return decision


def a_run(step: str, status: RunStatus, **changes: Any) -> RunRow:
    row = RunRow(
        saga_id=SAGA_ID,
        step=step,
        plan="h" * 64,
        status=status,
        causes=(RunKey(step="orders.start"),),
        input_type="placed.v1",
        result_type="held.v1" if status is RunStatus.DONE else "",
        result=b"{}" if status is RunStatus.DONE else None,
        attempt=1,
        expires_at=EXPIRES,
        created_at=NOW,
        done_at=NOW if status is RunStatus.DONE else None,
        revision=1,
    )
    return replace(row, **changes)


def a_gate(state: GateState, service: str = "pay", **changes: Any) -> GateRow:
    row = GateRow(saga_id=SAGA_ID, service=service, plan="h" * 64, state=state, expires_at=EXPIRES)
    return replace(row, **changes)
