"""Be one service in the explored world: its rows, what lies in them, and the glue around the decisions.

The glue mirrors what the shells in saga/_runtime do with a decision, and only that: one method call here
is one transaction there. Times are one constant, a row's revision is one constant, and a call under way
knows whether the row it was taken with is still the row that is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from saga._core.answers import AnswerFromOutside, Emitted, Refused, Work
from saga._core.bodies import Close, Command, Report, RunReported, Undo
from saga._core.participant import Compensate, Meeting, Turn
from saga._core.plan import PlanStep
from saga._core.rows import GateRow, RunRow
from saga._core.words import Effects, GateState, RunKey, RunStatus, StepKind
from tests.exhaustive.ledger import Mark, Standing, Violation
from tests.exhaustive.rules import Rules
from tests.exhaustive.scenarios import FORWARD_WINDOW_MS, TIMEOUT_MS, Scenario

SAGA_ID = "saga"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TIMEOUT = NOW + timedelta(milliseconds=TIMEOUT_MS)
EXPIRY = TIMEOUT + timedelta(milliseconds=FORWARD_WINDOW_MS)
STORED = 10


@dataclass(frozen=True, slots=True)
class Arrival:
    """Be an event on its way to one step."""

    step: str
    type: str
    cause: RunKey


@dataclass(frozen=True, slots=True)
class Order:
    """Be a command on its way to a service."""

    service: str
    command: Command


Message = Arrival | Order | Report


@dataclass(frozen=True, slots=True)
class OutsideCall:
    """Be a call or a probe under way; `answer` is None until the gateway has dealt with it."""

    key: RunKey
    work: Work
    fresh: bool
    answer: AnswerFromOutside | None
    probe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Be all that one service knows of the saga, and the gateway's books of its external steps."""

    gate: GateRow | None = None
    runs: tuple[RunRow, ...] = ()
    held: tuple[Arrival, ...] = ()
    calls: tuple[OutsideCall, ...] = ()
    marks: tuple[Mark, ...] = ()

    def run(self, key: RunKey) -> RunRow | None:
        """Return the row of a run."""
        return next((row for row in self.runs if row.key == key), None)

    def mark(self, step: str) -> Mark | None:
        """Return what the books say of a step."""
        return next((mark for mark in self.marks if mark.step == step), None)

    def marked(self, mark: Mark) -> Place:
        """Return the place with one entry of the books replaced."""
        others = [other for other in self.marks if other.step != mark.step]
        return replace(self, marks=tuple(sorted([*others, mark], key=lambda other: other.step)))

    def stored(self, row: RunRow, attempts: int) -> Place:
        """Return the place with one row written; calls taken with the row before are stale from now on."""
        row = replace(row, revision=STORED, attempt=min(row.attempt, attempts - 1), generation=0)
        others = [other for other in self.runs if other.key != row.key]
        calls = {replace(call, fresh=False) if call.key == row.key else call for call in self.calls}
        return replace(
            self,
            runs=tuple(sorted([*others, row], key=lambda other: other.step)),
            calls=sorted_calls(calls),
        )


def sorted_calls(calls: set[OutsideCall]) -> tuple[OutsideCall, ...]:
    """Return calls in one order, so that equal places are equal."""
    return tuple(sorted(calls, key=repr))


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Be one transaction: what it was, what it left, what it sent."""

    label: str
    place: Place
    sent: tuple[Message, ...] = ()
    takeover: bool = False


class Service:
    """Move one service on; every public method yields all that may come of one input."""

    def __init__(self, scenario: Scenario, rules: Rules, name: str) -> None:
        """Explore `name` under `rules`."""
        self.name = name
        self.scenario = scenario
        self.rules = rules
        self.topology = scenario.topology

    def first(self) -> Place:
        """Return the service before anything has happened, apart from the start if it starts the saga."""
        plan = self.topology.plan
        if plan.starter != self.name:
            return Place()
        return Place(runs=(started(plan.start, plan.start_event, plan.hash),))

    # --- events ----------------------------------------------------------------------------------------------

    def arrive(self, place: Place, arrival: Arrival) -> Iterator[Move]:
        """Yield what may come of an event for a step; mirrors saga._runtime.steps."""
        run = place.run(RunKey(step=arrival.step))
        meeting = self.rules.meet(gate=place.gate, run=run, expires_at=EXPIRY, now=NOW)
        label = f"event {meeting.value}"
        match meeting:
            case Meeting.DUPLICATE | Meeting.TURNED_AWAY | Meeting.EXPIRED:
                yield Move(label=label, place=place)
            case Meeting.HELD:
                held = tuple(sorted({*place.held, arrival}, key=repr))
                yield Move(label=label, place=replace(place, held=held))
            case Meeting.RUN:
                yield from self._begin(place, arrival)

    def _begin(self, place: Place, arrival: Arrival) -> Iterator[Move]:
        step = self.topology.steps[arrival.step]
        row = self._new_run(arrival)
        if step.effects is Effects.EXTERNAL:
            intent = replace(row, attempt=0, pending_at=NOW)
            yield Move(label="intent", place=place.stored(intent, self.scenario.call_attempts))
            return
        for emitted in outcomes(step):
            ended = self.rules.concluded(row, Emitted(type=emitted, payload=b""), NOW)
            if place.mark(step.name) is not None:
                raise Violation(f"{step.name} took effect twice")
            mark = Mark(step=step.name, standing=Standing.LIVE, emitted=emitted, cause=arrival.cause.step)
            yield self._ended("run done", place.marked(mark), ended)
        for refusal in step.refuses:
            ended = self.rules.concluded(row, Refused(type=refusal, payload=b"{}"), NOW)
            yield self._ended("run refused", place, ended)
        if step.name in self.scenario.fails and step.kind is not StepKind.RETRIABLE:
            yield self._ended("run failed", place, self.rules.failed(row, "boom"))

    def _new_run(self, arrival: Arrival) -> RunRow:
        return RunRow(
            saga_id=SAGA_ID,
            step=arrival.step,
            plan=self.topology.plan.hash,
            status=RunStatus.INTENT,
            causes=(arrival.cause,),
            input_type=arrival.type,
            attempt=1,
            expires_at=EXPIRY,
            created_at=NOW,
        )

    def _ended(self, label: str, place: Place, row: RunRow) -> Move:
        stored = place.stored(row, self.scenario.call_attempts)
        return Move(label=label, place=stored, sent=self.published(row))

    def published(self, row: RunRow) -> tuple[Message, ...]:
        """Return the record of an ended run and its event, one copy for each step; mirrors emit.ended_run."""
        record = RunReported(fact=self.rules.fact_of(row))
        if row.status is not RunStatus.DONE or not row.result_type:
            return (record,)
        reacting = self.topology.reacting.get(row.result_type, ())
        return (record, *(Arrival(step.name, row.result_type, row.key) for step in reacting))

    # --- commands --------------------------------------------------------------------------------------------

    def obey(self, place: Place, command: Command) -> Iterator[Move]:
        """Yield what may come of a command; mirrors saga._runtime.commands."""
        match command:
            case Close():
                turn = self.rules.close(
                    self.topology, self.name, SAGA_ID, gate=place.gate, runs=place.runs, expires_at=EXPIRY, now=NOW
                )
                gate = turn.gate or place.gate
                state = gate.state if gate is not None else GateState.OPEN
                yield self.turned(f"close: {state.value}", place, turn)
            case Undo(step=step, branch=branch):
                key = RunKey(step=step, branch=branch)
                decided = self.rules.undo(
                    self.topology,
                    self.name,
                    SAGA_ID,
                    key,
                    gate=place.gate,
                    run=place.run(key),
                    expires_at=EXPIRY,
                    now=NOW,
                )
                if isinstance(decided, Compensate):
                    yield from self._compensate(place, decided)
                else:
                    yield self.turned("undo", place, decided)

    def _compensate(self, place: Place, decided: Compensate) -> Iterator[Move]:
        run = decided.run
        turn = replace(self.rules.compensated(run, NOW), gate=decided.gate)
        yield self.turned("undo: compensated", self.undone(place, run), turn)
        if run.step in self.scenario.sticks:
            turn = self.rules.compensation_raised(run, "boom", attempts=1, retry_at=NOW)
            yield self.turned("undo: failed", place, replace(turn, gate=decided.gate))

    @staticmethod
    def undone(place: Place, run: RunRow, *, repeatable: bool = False) -> Place:
        """Return the place once a compensation of `run` has happened."""
        mark = place.mark(run.step)
        if mark is None or mark.standing is Standing.REFUSED:
            raise Violation(f"{run.step} was compensated without having taken effect")
        if mark.standing is Standing.UNDONE and not repeatable:
            raise Violation(f"{run.step} was compensated twice")
        return place.marked(replace(mark, standing=Standing.UNDONE))

    def turned(self, label: str, place: Place, turn: Turn) -> Move:
        """Return the move that writes a turn; mirrors saga._runtime.turns."""
        sent: list[Message] = []
        if turn.emit is not None:
            sent += self.published(turn.emit)
        sent += turn.reports
        if turn.run is not None:
            place = place.stored(turn.run, self.scenario.call_attempts)
        if turn.gate is not None:
            place = replace(place, gate=turn.gate)
        if turn.release:
            sent += place.held
            place = replace(place, held=())
        return Move(label=label, place=place, sent=tuple(sent))


def outcomes(step: PlanStep) -> tuple[str, ...]:
    """Return what a step that succeeds may emit."""
    return (*step.emits, "") if step.ends else step.emits


def started(start: str, event: str, plan: str) -> RunRow:
    """Return the row of the start."""
    return RunRow(
        saga_id=SAGA_ID,
        step=start,
        plan=plan,
        status=RunStatus.DONE,
        result_type=event,
        result=b"{}",
        expires_at=EXPIRY,
        created_at=NOW,
        done_at=NOW,
        revision=STORED,
    )
