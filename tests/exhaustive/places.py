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
from saga._core.bodies import Close, Command, Outcome, Report, RunReported, Undo
from saga._core.branches import EMPTY, branches_of
from saga._core.gathering import Received, run_branch
from saga._core.participant import Compensate, Meeting, Turn
from saga._core.plan import PlanStep
from saga._core.rows import GateRow, RunRow
from saga._core.words import Effects, Ending, GateState, RunKey, RunStatus, StepKind
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
    """Be an event on its way to one step, in its branch."""

    step: str
    type: str
    cause: RunKey
    branch: str = ""


@dataclass(frozen=True, slots=True)
class ChildCancel:
    """Be the request, on its way to a child saga, to undo it with its parent."""

    key: RunKey


@dataclass(frozen=True, slots=True)
class ChildTold:
    """Be the outcome of a child saga on its way to the run that has started it."""

    key: RunKey
    ending: Ending


@dataclass(frozen=True, slots=True)
class Order:
    """Be a command on its way to a service."""

    service: str
    command: Command


Message = Arrival | Order | ChildCancel | ChildTold | Report


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
    children: tuple[tuple[RunKey, Ending | None], ...] = ()
    told: tuple[tuple[RunKey, Ending], ...] = ()

    def run(self, key: RunKey) -> RunRow | None:
        """Return the row of a run."""
        return next((row for row in self.runs if row.key == key), None)

    def mark(self, key: RunKey) -> Mark | None:
        """Return what the books say of a run."""
        return next((mark for mark in self.marks if mark.key == key), None)

    def marked(self, mark: Mark) -> Place:
        """Return the place with one entry of the books replaced."""
        others = [other for other in self.marks if other.key != mark.key]
        return replace(self, marks=tuple(sorted([*others, mark], key=lambda other: other.key)))

    def stored(self, row: RunRow, attempts: int) -> Place:
        """Return the place with one row written; calls taken with the row before are stale from now on."""
        # The order in which a join has met its events is no difference.
        causes = tuple(sorted(row.causes))
        row = replace(row, revision=STORED, attempt=min(row.attempt, attempts - 1), generation=0, causes=causes)
        others = [other for other in self.runs if other.key != row.key]
        calls = {replace(call, fresh=False) if call.key == row.key else call for call in self.calls}
        return replace(
            self,
            runs=tuple(sorted([*others, row], key=lambda other: other.key)),
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
        return Place(runs=(started(plan.start, plan.start_event, plan.hash, self.scenario.parent),))

    # --- events ----------------------------------------------------------------------------------------------

    def arrive(self, place: Place, arrival: Arrival) -> Iterator[Move]:
        """Yield what may come of an event for a step; mirrors saga._runtime.steps."""
        step = self.topology.steps[arrival.step]
        run = place.run(RunKey(step=arrival.step, branch=run_branch(step, arrival.branch)))
        meeting = self.rules.meet(gate=place.gate, run=run, expires_at=EXPIRY, now=NOW)
        label = f"event {meeting.value}"
        match meeting:
            case Meeting.DUPLICATE | Meeting.TURNED_AWAY | Meeting.EXPIRED | Meeting.DELAYED:
                yield Move(label=label, place=place)
            case Meeting.HELD:
                held = tuple(sorted({*place.held, arrival}, key=repr))
                yield Move(label=label, place=replace(place, held=held))
            case Meeting.RUN:
                yield from self._begin(place, arrival, run)

    def _begin(self, place: Place, arrival: Arrival, known: RunRow | None) -> Iterator[Move]:
        step = self.topology.steps[arrival.step]
        row = self._new_run(arrival, known)
        if row.status is RunStatus.WAITING:
            yield Move(label="join waits", place=place.stored(row, self.scenario.call_attempts))
            return
        if step.effects is Effects.CHILD:
            waiting = place.stored(replace(row, called_at=NOW), self.scenario.call_attempts)
            yield Move(label="child started", place=replace(waiting, children=((row.key, None),)))
            return
        if step.effects is Effects.EXTERNAL:
            intent = replace(row, attempt=0, pending_at=NOW)
            yield Move(label="intent", place=place.stored(intent, self.scenario.call_attempts))
            return
        for emitted in outcomes(step, self.scenario.counts):
            ended = self.rules.concluded(row, emitted, NOW)
            if place.mark(row.key) is not None:
                raise Violation(f"{step.name} took effect twice")
            yield self._ended("run done", place.marked(live(row, emitted)), ended)
        for refusal in step.refuses:
            ended = self.rules.concluded(row, Refused(type=refusal, payload=b"{}"), NOW)
            yield self._ended("run refused", place, ended)
        if step.name in self.scenario.fails and step.kind is not StepKind.RETRIABLE:
            yield self._ended("run failed", place, self.rules.failed(row, "boom"))

    def _new_run(self, arrival: Arrival, known: RunRow | None) -> RunRow:
        step = self.topology.steps[arrival.step]
        fresh = RunRow(
            saga_id=SAGA_ID,
            step=arrival.step,
            branch=run_branch(step, arrival.branch),
            plan=self.topology.plan.hash,
            status=RunStatus.INTENT,
            causes=() if step.joins else (arrival.cause,),
            input_type=arrival.type,
            attempt=1,
            expires_at=EXPIRY,
            created_at=NOW,
        )
        if not step.joins:
            return fresh
        received = Received(type=arrival.type, branch=arrival.branch, payload=b"{}", cause=arrival.cause)
        row = self.rules.gather(self.topology, step, known or fresh, received)
        complete = self.rules.is_gathered(step, row)
        return replace(row, status=RunStatus.INTENT if complete else RunStatus.WAITING, attempt=1)

    def _ended(self, label: str, place: Place, row: RunRow) -> Move:
        stored = place.stored(row, self.scenario.call_attempts)
        return Move(label=label, place=stored, sent=self.published(row))

    def published(self, row: RunRow) -> tuple[Message, ...]:
        """Return the record of an ended run and its event, one copy for each step; mirrors emit.ended_run."""
        record = RunReported(fact=self.rules.fact_of(row))
        if row.status is not RunStatus.DONE or not row.result_type:
            return (record,)
        branches = (row.branch,) if row.fan_out is None else branches_of(row.fan_out) or (EMPTY,)
        arrivals = [
            Arrival(step.name, row.result_type, row.key, branch)
            for branch in branches
            for step in self.rules.takers(self.topology, row.result_type, branch)
        ]
        return (record, *arrivals)

    # --- children ----------------------------------------------------------------------------------------------

    def grow(self, place: Place) -> Iterator[Move]:
        """Yield how child sagas end by themselves: completed, or undone because a step of theirs has refused."""
        for key, ending in place.children:
            row = place.run(key)
            assert row is not None
            if ending is None:
                (emitted,) = outcomes(self.topology.steps[key.step], self.scenario.counts)
                done = replace(place.marked(live(row, emitted)), children=((key, Ending.COMPLETED),))
                yield Move(label="child completed", place=done, sent=(ChildTold(key, Ending.COMPLETED),))
                undone = replace(place, children=((key, Ending.COMPENSATED),))
                yield Move(label="child undone", place=undone, sent=(ChildTold(key, Ending.COMPENSATED),))

    def cancel_child(self, place: Place, key: RunKey) -> Iterator[Move]:
        """Yield what comes of the request to undo a child: it is undone, also when it has completed."""
        ending = dict(place.children).get(key)
        if ending is Ending.COMPENSATED:
            yield Move(label="child cancelled again", place=place)
            return
        row = place.run(key)
        assert row is not None
        undone = place if ending is None else self.undone(place, row)
        undone = replace(undone, children=((key, Ending.COMPENSATED),))
        yield Move(label="child cancelled", place=undone, sent=(ChildTold(key, Ending.COMPENSATED),))

    def child_told(self, place: Place, told: ChildTold) -> Iterator[Move]:
        """Yield what a child's outcome does to its parent's run; mirrors saga._runtime.ending and children."""
        before = dict(place.told).get(told.key)
        if before is Ending.COMPENSATED or before is told.ending:
            yield Move(label="child told before", place=place)
            return
        run = place.run(told.key)
        (emitted,) = outcomes(self.topology.steps[told.key.step], self.scenario.counts)
        turn = self.rules.child_ended(run, Outcome(ending=told.ending, at=NOW), emitted, NOW)
        yield self.turned(f"child told {told.ending.value}", replace(place, told=((told.key, told.ending),)), turn)

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
            case _:
                raise Violation(f"{type(command).__name__} was sent, and nobody has asked for it")

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
        mark = place.mark(run.key)
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
        if turn.cancel_child is not None:
            sent.append(ChildCancel(turn.cancel_child))
        if turn.gate is not None:
            place = replace(place, gate=turn.gate)
        if turn.release:
            sent += place.held
            place = replace(place, held=())
        return Move(label=label, place=place, sent=tuple(sent))


def outcomes(step: PlanStep, counts: tuple[int, ...]) -> tuple[Emitted, ...]:
    """Return what a step that succeeds may emit; a fan-out any of the counts of elements."""
    found: list[Emitted] = []
    for event in step.emits:
        if event == step.fan_out:
            found += [Emitted(type=event, payload=b"", fan_out=count) for count in counts]
        else:
            found.append(Emitted(type=event, payload=b""))
    if step.ends:
        found.append(Emitted(type="", payload=b""))
    return tuple(found)


def live(row: RunRow, emitted: Emitted) -> Mark:
    """Return the entry of a run that has taken effect."""
    return Mark(
        key=row.key,
        standing=Standing.LIVE,
        emitted=emitted.type,
        causes=tuple(sorted(row.causes)),
        fan_out=emitted.fan_out,
    )


def started(start: str, event: str, plan: str, causes: tuple[RunKey, ...] = ()) -> RunRow:
    """Return the row of the start; with causes it is that of a child saga."""
    return RunRow(
        saga_id=SAGA_ID,
        step=start,
        plan=plan,
        status=RunStatus.DONE,
        causes=causes,
        result_type=event,
        result=b"{}",
        expires_at=EXPIRY,
        created_at=NOW,
        done_at=NOW,
        revision=STORED,
    )
