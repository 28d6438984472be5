"""Make one example message of every kind; as a script, write the golden files and the docs' examples."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from saga._core import ids
from saga._core.bodies import (
    CancelRequested,
    Close,
    Closed,
    Command,
    Committed,
    Hold,
    InDoubt,
    Keep,
    Obeyed,
    Outcome,
    RefusalData,
    Release,
    Report,
    ResolveRun,
    RetryRun,
    RunFact,
    RunReported,
    Settled,
    SkipRun,
    TooLate,
    Undo,
    UndoFailed,
    Undone,
    command_id,
    kind_of,
    report_id,
)
from saga._core.cloudevents import message, source_of
from saga._core.commands import encode_command
from saga._core.envelope import Envelope, Message
from saga._core.events import Event
from saga._core.inbox import published_id
from saga._core.plain import plain_row
from saga._core.plan import Plan, PlanStep, Undoing
from saga._core.planning import plan_hash, plan_to_json
from saga._core.records import encode_outcome, encode_report
from saga._core.relay import messages_of
from saga._core.words import (
    Cause,
    Effects,
    Ending,
    Kind,
    Part,
    Priority,
    RunKey,
    RunStatus,
    Standing,
    StepKind,
    UndoStatus,
    Verdict,
)

GOLDEN = Path(__file__).parent / "golden"
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"

START = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)
EXPIRY = START + timedelta(days=7, minutes=5)
SAGA_ID = ids.saga_id_of("checkout", "", "order-1001")
PLAN = "9f2c" * 16
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

STARTED = RunKey(step="orders.start")
RESERVED = RunFact(
    step="inventory.reserve_stock",
    status=RunStatus.DONE,
    causes=(STARTED,),
    emits=("stock.reserved.v1",),
    at=START + timedelta(milliseconds=41),
)
OUT = RefusalData(type="stock.out.v1", data=b'{"sku":"A-1"}')
REFUSED = RunFact(
    step="inventory.reserve_stock",
    status=RunStatus.REFUSED,
    causes=(STARTED,),
    at=START + timedelta(milliseconds=41),
    refusal=OUT,
)
FAILED = RunFact(
    step="payment.capture",
    status=RunStatus.FAILED,
    causes=(RESERVED.key,),
    at=START + timedelta(seconds=20),
    attempts=5,
    error="TimeoutError: no answer from gateway",
)
FANNED = RunFact(
    step="shipping.pack",
    branch="2of5",
    status=RunStatus.DONE,
    causes=(RunKey(step="orders.split"),),
    emits=("parcel.packed.v1",),
    at=START + timedelta(seconds=1),
    undo=UndoStatus.DONE,
)

BEGUN = RunFact(step="orders.start", status=RunStatus.DONE, emits=("order.placed.v1",), at=START)
SPLIT = RunFact(
    step="orders.split",
    status=RunStatus.DONE,
    causes=(STARTED,),
    emits=("parcel.wanted.v1",),
    fan_out=5,
    at=START + timedelta(milliseconds=80),
)

REPORTS: dict[str, tuple[str, Report]] = {
    "run-start": ("orders", RunReported(fact=BEGUN)),
    "run": ("inventory", RunReported(fact=RESERVED)),
    "run-fan-out": ("orders", RunReported(fact=SPLIT)),
    "run-refused": ("inventory", RunReported(fact=REFUSED)),
    "run-failed": ("payment", RunReported(fact=FAILED)),
    "closed": ("shipping", Closed(service="shipping", runs=(FANNED,))),
    "committed": ("payment", Committed(service="payment", runs=())),
    "undone": ("inventory", Undone(step="inventory.reserve_stock")),
    "undo-failed": (
        "inventory",
        UndoFailed(step="inventory.reserve_stock", reason="LookupError: no such sku"),
    ),
    "too-late": ("inventory", TooLate(service="inventory", reason="no run row after the expiry")),
    "cancel": ("orders", CancelRequested(reason="the customer called")),
    "in-doubt": ("payment", InDoubt(step="payment.capture", reason="nobody has answered for 24 hours")),
    "obeyed": ("inventory", Obeyed(service="inventory", command=Kind.HOLD, number=1)),
    "settled": ("saga-coordinator", Settled()),
}
COMMANDS: dict[str, tuple[str, Command]] = {
    "close": ("inventory", Close()),
    "undo": ("shipping", Undo(step="shipping.pack", branch="2of5")),
    "hold": ("inventory", Hold(number=1)),
    "release": ("inventory", Release(number=2)),
    "keep": ("inventory", Keep(until=EXPIRY + timedelta(days=3))),
    "retry": ("inventory", RetryRun(step="inventory.reserve_stock")),
    "skip": (
        "inventory",
        SkipRun(
            step="inventory.reserve_stock",
            part=Part.ACTION,
            reason="reserved by telephone",
            result_type="stock.reserved.v1",
            result=b'{"sku":"A-1","quantity":2}',
            causes=(STARTED,),
        ),
    ),
    "resolve": (
        "payment",
        ResolveRun(step="payment.capture", reason="the bank says so", verdict=Verdict.NOT_HAPPENED),
    ),
}
OUTCOMES: dict[str, Outcome] = {
    "outcome-completed": Outcome(ending=Ending.COMPLETED, at=START + timedelta(seconds=3)),
    "outcome-compensated": Outcome(
        ending=Ending.COMPENSATED,
        cause=Cause.REFUSED,
        refusal=OUT,
        detail="inventory.reserve_stock",
        at=START + timedelta(seconds=3),
    ),
    "outcome-stuck": Outcome(
        ending=Ending.STUCK,
        cause=Cause.UNDO_FAILED,
        detail="inventory.reserve_stock: its undo has failed",
        at=START + timedelta(seconds=3),
    ),
    "outcome-provisional": Outcome(
        ending=Ending.COMPLETED, standing=Standing.PROVISIONAL, at=START + timedelta(seconds=3)
    ),
}


class StockCounted(Event, name="stock.counted", version=1):
    sku: str
    free: int


def messages() -> dict[str, Message]:
    """Return the examples by the names of their golden files."""
    made = {"event-start": _start_event(), "event": _event(), "event-urgent": _urgent_event()}
    made |= {"event-of-a-list": _element(), "event-of-an-empty-list": _no_element(), "plain-event": _plain_event()}
    for name, (service, report) in REPORTS.items():
        made[name] = _report(service, report)
    for name, (service, command) in COMMANDS.items():
        made[name] = _command(service, command)
    for name, outcome in OUTCOMES.items():
        made[name] = _outcome(outcome)
    return made


def _event() -> Message:
    return message(_reserved(), "inventory.events", SAGA_ID)


def _start_event() -> Message:
    begun = replace(
        _reserved(),
        id=ids.event_id(SAGA_ID, STARTED.step),
        source=source_of("orders"),
        type="order.placed.v1",
        time=START,
        step=STARTED.step,
        causation_id="",
    )
    return message(begun, "orders.events", SAGA_ID)


def _element() -> Message:
    element = replace(
        _reserved(),
        id=ids.event_id(SAGA_ID, SPLIT.step, "2of5"),
        source=source_of("orders"),
        type="parcel.wanted.v1",
        time=SPLIT.at,
        payload=b'{"number":2}',
        step=SPLIT.step,
        branch="2of5",
    )
    return message(element, "orders.events", SAGA_ID)


def _no_element() -> Message:
    nothing = replace(
        _reserved(),
        id=ids.event_id(SAGA_ID, SPLIT.step, "0of0"),
        source=source_of("orders"),
        type="parcel.wanted.v1",
        time=SPLIT.at,
        payload=b"{}",
        step=SPLIT.step,
        branch="0of0",
    )
    return message(nothing, "orders.events", SAGA_ID)


def _urgent_event() -> Message:
    return message(replace(_reserved(), lane=Priority.URGENT), "inventory.events.urgent", SAGA_ID)


def _reserved() -> Envelope:
    return Envelope(
        id=ids.event_id(SAGA_ID, RESERVED.step),
        source=source_of("inventory"),
        type="stock.reserved.v1",
        kind=Kind.EVENT,
        time=RESERVED.at,
        payload=b'{"sku":"A-1","quantity":2}',
        saga_id=SAGA_ID,
        plan=PLAN,
        step=RESERVED.step,
        causation_id=ids.event_id(SAGA_ID, STARTED.step),
        expires_at=EXPIRY,
        traceparent=TRACE,
    )


def _plain_event() -> Message:
    row = plain_row(
        StockCounted(sku="A-1", free=40),
        message_id=published_id(SAGA_ID, RESERVED.step, "", "step", 0),
        source_service="inventory",
        topic="inventory.events",
        key="A-1",
        tenant="acme",
        now=START,
        traceparent=TRACE,
        causation_id=ids.event_id(SAGA_ID, "orders.start"),
        correlation_id=SAGA_ID,
    )
    (sent,) = messages_of(replace(row, seq=4711))
    return sent


def _envelope(kind: Kind, ident: str, source: str, body: bytes, key: RunKey, causation: str) -> Envelope:
    return Envelope(
        id=ident,
        source=source_of(source),
        type=f"saga.{kind.value}",
        kind=kind,
        time=START + timedelta(seconds=2),
        payload=body,
        saga_id=SAGA_ID,
        plan=PLAN,
        step=key.step,
        branch=key.branch,
        causation_id=causation,
        expires_at=EXPIRY,
    )


def _about(body: Report | Command) -> RunKey:
    if isinstance(body, RunReported):
        return body.fact.key
    if isinstance(body, Undo | RetryRun | SkipRun | ResolveRun):
        return RunKey(step=body.step, branch=body.branch)
    return RunKey(step="")


def _report(service: str, report: Report) -> Message:
    key = _about(report)
    caused = isinstance(report, RunReported) and report.fact.causes
    causation = ids.event_id(SAGA_ID, STARTED.step) if caused else ""
    ident = report_id(SAGA_ID, report, service)
    envelope = _envelope(kind_of(report), ident, service, encode_report(report), key, causation)
    return message(envelope, "saga.runs", SAGA_ID)


def _command(service: str, command: Command) -> Message:
    ident = command_id(SAGA_ID, command, service)
    body = encode_command(command)
    envelope = _envelope(kind_of(command), ident, "saga-coordinator", body, _about(command), "")
    return message(envelope, f"{service}.commands", SAGA_ID)


def _outcome(outcome: Outcome) -> Message:
    ident = ids.outcome_id(SAGA_ID, outcome.ending)
    body = encode_outcome(outcome)
    envelope = _envelope(Kind.OUTCOME, ident, "saga-coordinator", body, RunKey(step=""), "")
    return message(envelope, "saga.outcomes", SAGA_ID)


# --- how they are written down -----------------------------------------------------------------------------


def golden(example: Message) -> str:
    """Return a golden file's text: names readable, key, header values and value as hexadecimal digits."""
    assert example.value is not None
    return (
        json.dumps(
            {
                "topic": example.topic,
                "key": example.key.hex(),
                "headers": [[name, value.hex()] for name, value in example.headers],
                "value": example.value.hex(),
            },
            indent=2,
        )
        + "\n"
    )


def block(example: Message) -> str:
    """Return an example as it stands in docs/protocol.md."""
    assert example.value is not None
    lines = [f"topic: {example.topic}", f"key: {example.key.decode()}"]
    lines += [f"{name}: {value.decode()}" for name, value in example.headers]
    return "```text\n" + "\n".join([*lines, "", example.value.decode()]) + "\n```\n"


def examples_section() -> str:
    """Return the section of docs/protocol.md that shows every example."""
    parts = [f"### `{name}`\n\n{block(example)}" for name, example in messages().items()]
    return "\n".join(parts)


def plan_section() -> str:
    """Return the plan that docs/protocol.md shows."""
    step = PlanStep(
        name="inventory.reserve_stock",
        kind=StepKind.STEP,
        effects=Effects.LOCAL,
        reacts_to="order.placed.v1",
        emits=("stock.reserved.v1",),
        ends=False,
        refuses=("stock.out.v1",),
        undoing=Undoing.LOCAL,
        timeout_ms=30_000,
    )
    capture = replace(
        step,
        name="payment.capture",
        kind=StepKind.PIVOT,
        effects=Effects.EXTERNAL,
        reacts_to="stock.reserved.v1",
        emits=(),
        ends=True,
        refuses=(),
        undoing=Undoing.NEVER,
        calls="gateway",
    )
    plan = Plan(
        saga="checkout",
        version=1,
        revision=3,
        start="orders.start",
        start_event="order.placed.v1",
        timeout_ms=300_000,
        forward_window_ms=604_800_000,
        steps=(step, capture),
        hash="",
    )
    return f"```json\n{plan_to_json(replace(plan, hash=plan_hash(plan))).decode()}```\n"


def write() -> None:
    """Write the golden files and replace the examples in docs/protocol.md."""
    for name, example in messages().items():
        (GOLDEN / f"{name}.json").write_text(golden(example))
    head, mark, _ = PROTOCOL.read_text().partition("<!-- examples -->\n")
    before, begin, rest = head.partition("<!-- plan -->\n")
    after = rest.partition("<!-- /plan -->\n")[2]
    head = f"{before}{begin}{plan_section()}<!-- /plan -->\n{after}"
    PROTOCOL.write_text(f"{head}{mark}\n{examples_section()}")


if __name__ == "__main__":
    write()
