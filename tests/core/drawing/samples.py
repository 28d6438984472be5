"""Make sagas to draw: one that was undone, one that is open, a large one, one that is stuck."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from saga._core.bodies import RefusalData, RunFact
from saga._core.drawing import Story, story_of
from saga._core.inspecting import SagaRows
from saga._core.instance import Answer, Instance, Phase, UndoStep
from saga._core.plan import Plan, PlanStep, Undoing
from saga._core.rows import RunRow
from saga._core.stored_instance import instance_row
from saga._core.words import Cause, Effects, RunKey, RunStatus, StepKind, UndoStatus
from tests.core.drafts import step

T0 = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)
SAGA = "51bf654b-18ef-595f-a406-5eeba5f2293d"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def plan_of(saga: str, start: str, event: str, *steps: PlanStep) -> Plan:
    return Plan(
        saga=saga,
        version=1,
        revision=1,
        start=start,
        start_event=event,
        timeout_ms=300_000,
        forward_window_ms=600_000,
        steps=steps,
        hash="9f2c" * 16,
    )


def checkout() -> Plan:
    return plan_of(
        "checkout",
        "orders.start",
        "order.placed.v1",
        step("inventory.reserve_stock: step, order.placed.v1 -> stock.reserved.v1", refuses=("stock.out.v1",)),
        step("crm.note_order: step, order.placed.v1 -> order.noted.v1"),
        step(
            "payment.capture: pivot, stock.reserved.v1 -> payment.captured.v1",
            effects=Effects.EXTERNAL,
            calls="gateway",
            refuses=("payment.declined.v1",),
        ),
        step("shipping.ship: retriable, payment.captured.v1 -> order.shipped.v1"),
    )


def parcels() -> Plan:
    """Return a plan with every shape: fan-out, alternatives, gather, join, a child, an event from outside."""
    return plan_of(
        "parcels",
        "shop.start",
        "order.made.v1",
        step("depot.split: step, order.made.v1 -> parcel.wanted.v1*"),
        step("scales.weigh: step, parcel.wanted.v1 -> parcel.weighed.v1", refuses=("parcel.too-heavy.v1",)),
        step("label.print: step, parcel.weighed.v1 -> parcel.labelled.v1"),
        step("depot.load: step, parcel.labelled.v1* -> truck.loaded.v1"),
        step("shop.pick: step, order.made.v1 -> way.express.v1 | way.standard.v1 | none"),
        step(
            "fleet.fly: step, way.express.v1 -> way.chosen.v1",
            child="trip.v1",
            effects=Effects.CHILD,
            undoing=Undoing.CHILD,
        ),
        step("fleet.drive: step, way.standard.v1 -> way.chosen.v1"),
        step("customs.cleared: receive,  -> customs.cleared.v1"),
        step(
            "truck.leave: pivot, customs.cleared.v1 + truck.loaded.v1 + way.chosen.v1 -> truck.left.v1",
            delay_ms=90_000,
            within_ms=600_000,
        ),
        step("mail.tell: retriable, truck.left.v1 -> none"),
    )


def wide(steps: int = 40) -> Plan:
    """Return a plan of many steps, in four strands."""
    made = [
        step(f"svc{n % 9}.do_number_{n}: step, {'s.v1' if n < 4 else f'e{n - 4}.v1'} -> e{n}.v1") for n in range(steps)
    ]
    return plan_of("wide", "svc0.start", "s.v1", *made)


def fact(path: str, seconds: float, *causes: str, emits: str = "", **others: object) -> RunFact:
    name, _, branch = path.partition("/")
    keys = tuple(RunKey(*cause.split("/")) for cause in causes)
    emitted = (emits,) if emits else ()
    made = RunFact(step=name, branch=branch, status=RunStatus.DONE, at=at(seconds), causes=keys, emits=emitted)
    return replace(made, **others)  # type: ignore[arg-type]


def story(plan: Plan, facts: list[RunFact], now: float, rows: SagaRows | None = None, **others: object) -> Story:
    made = Instance(saga_id=SAGA, expires_at=at(1e6), runs={f.key: f for f in facts})
    instance = replace(made, **others)  # type: ignore[arg-type]
    row = instance_row(
        instance,
        saga=plan.saga,
        version=plan.version,
        plan=plan.hash,
        tenant="",
        partition=0,
        revision=1,
        started_at=T0,
    )
    return story_of(row, plan, at(now), rows)


def undone_row(f: RunFact, seconds: float) -> RunRow:
    return RunRow(
        saga_id=SAGA,
        plan="9f2c" * 16,
        step=f.step,
        branch=f.branch,
        status=f.status,
        undo=UndoStatus.DONE,
        causes=f.causes,
        expires_at=at(1e6),
        created_at=f.at,
        done_at=f.at,
        undone_at=at(seconds),
    )


def compensated(recorded: bool = True) -> Story:
    start = fact("orders.start", 0, emits="order.placed.v1")
    reserve = fact("inventory.reserve_stock", 0.12, "orders.start", emits="stock.reserved.v1")
    note = fact("crm.note_order", 0.31, "orders.start", emits="order.noted.v1", attempts=3)
    capture = fact(
        "payment.capture",
        0.9,
        "inventory.reserve_stock",
        status=RunStatus.REFUSED,
        attempts=2,
        refusal=RefusalData(type="payment.declined.v1", data=b"{}"),
    )
    services = ("crm", "inventory", "payment", "shipping")
    rows = SagaRows(runs=(undone_row(reserve, 1.3), undone_row(note, 1.22))) if recorded else None
    return story(
        checkout(),
        [start, reserve, note, capture],
        60,
        rows,
        phase=Phase.COMPENSATED,
        ended_at=at(1.4),
        cause=Cause.REFUSED,
        detail="payment.capture",
        refusal=RefusalData(type="payment.declined.v1", data=b"{}"),
        answers=dict.fromkeys(services, Answer.CLOSED),
        undos={reserve.key: UndoStep.DONE, note.key: UndoStep.DONE},
    )


def waiting() -> Story:
    """Return an open saga that waited two hours for a truck and has a call under way."""
    facts = [
        fact("orders.start", 0, emits="order.placed.v1"),
        fact("inventory.reserve_stock", 7200.4, "orders.start", emits="stock.reserved.v1", attempts=5),
        fact("crm.note_order", 0.2, "orders.start", emits="order.noted.v1"),
    ]
    call = RunRow(
        saga_id=SAGA,
        plan="9f2c" * 16,
        step="payment.capture",
        status=RunStatus.INTENT,
        causes=(RunKey("inventory.reserve_stock"),),
        attempt=2,
        first_called_at=at(7200.7),
        called_at=at(7200.9),
        expires_at=at(1e6),
        created_at=at(7200.6),
    )
    return story(checkout(), facts, 7201.5, SagaRows(runs=(call,)))


def stuck() -> Story:
    done = compensated()
    reserve = fact("inventory.reserve_stock", 0.12, "orders.start", emits="stock.reserved.v1")
    failed = fact(
        "payment.capture",
        4,
        "inventory.reserve_stock",
        status=RunStatus.FAILED,
        attempts=5,
        error="TimeoutError: no answer from gateway",
    )
    return story(
        checkout(),
        [fact("orders.start", 0, emits="order.placed.v1"), reserve, failed],
        86_400 * 2,
        phase=Phase.CLOSING,
        cause=Cause.FAILED,
        stuck=Cause.UNDO_FAILED,
        stuck_detail="inventory.reserve_stock: its undo has failed",
        answers={**done.answers, "shipping": Answer.ASKED},
        undos={reserve.key: UndoStep.FAILED},
    )


def large(branches: int = 200) -> Story:
    """Return an open saga with two steps of so many branches, some of them in trouble."""
    facts = [
        fact("shop.start", 0, emits="order.made.v1"),
        fact("depot.split", 0.1, "shop.start", emits="parcel.wanted.v1", fan_out=branches),
        fact("shop.pick", 0.15, "shop.start", emits="way.standard.v1"),
        fact("fleet.drive", 0.3, "shop.pick", emits="way.chosen.v1"),
        fact("customs.cleared", 2.5, emits="customs.cleared.v1"),
    ]
    for n in range(1, branches + 1):
        branch = f"{n}of{branches}"
        facts.append(
            fact(
                f"scales.weigh/{branch}",
                0.2 + n * 0.01,
                "depot.split",
                emits="parcel.weighed.v1",
                attempts=4 if n % 70 == 0 else 1,
            )
        )
        if n % 40:
            facts.append(
                fact(f"label.print/{branch}", 0.3 + n * 0.012, f"scales.weigh/{branch}", emits="parcel.labelled.v1")
            )
    return story(parcels(), facts, 4)


def completed() -> Story:
    return story(
        checkout(),
        [
            fact("orders.start", 0, emits="order.placed.v1"),
            fact("inventory.reserve_stock", 0.041, "orders.start", emits="stock.reserved.v1"),
            fact("crm.note_order", 0.055, "orders.start", emits="order.noted.v1"),
            fact("payment.capture", 0.31, "inventory.reserve_stock", emits="payment.captured.v1"),
            fact("shipping.ship", 0.36, "payment.capture", emits="order.shipped.v1"),
        ],
        60,
        phase=Phase.COMPLETED,
        ended_at=at(0.37),
    )


__all__ = ["StepKind", "checkout", "compensated", "completed", "large", "parcels", "story", "stuck", "waiting", "wide"]
