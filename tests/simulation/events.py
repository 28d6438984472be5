"""Bring events to the steps of one service; mirrors saga._runtime (sorting, steps, ending)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, assert_never

from saga._core.answers import Emitted, Refused
from saga._core.bodies import Outcome
from saga._core.fitting import FIT, Fitness
from saga._core.gathering import Received
from saga._core.intake import Park, React, Settle, Skip, Verdict
from saga._core.participant import Meeting
from saga._core.plan import PlanStep, Topology
from saga._core.rows import RunRow
from saga._core.words import Effects, Ending, GateState, Mark, Reason, RunStatus, StepKind
from tests.simulation.books import Violation
from tests.simulation.chance import Fault
from tests.simulation.copying import replace
from tests.simulation.messages import Item

if TYPE_CHECKING:
    from tests.simulation.station import Station
    from tests.simulation.world import Task

PARKED = timedelta(seconds=5)
RETRY = timedelta(seconds=2)
LEASE = timedelta(seconds=30)


class Events:
    """Handle the events and outcomes of one service."""

    def __init__(self, station: Station) -> None:
        """Work for `station`."""
        self._station = station
        self._world = station.world
        self._rules = station.world.rules
        # A bound method is made once: the bag is searched for it.
        self.receives = self._receive
        self.resumes = self._resume

    def _receive(self, item: Item) -> None:
        """Handle an event, maybe in one batch with others that wait."""
        station, world = self._station, self._world
        task = (self.receives, item)
        if station.fails_before(task):
            return
        tasks: list[Task] = [task]
        if world.random() < 0.2:
            others = [other for other in world.bag if other[0] is self.receives][:4]
            if others:
                world.bag[:] = [other for other in world.bag if other not in others]
                world.count("batch")
                tasks += others
        now, out = station.clock, list["Task"]()
        for _, each in tasks:
            self._one(each, now, out)
        station.committed(tasks, out)

    def _resume(self, key: tuple[str, str, str, bool]) -> None:
        """Handle an event out of its row; a row that is gone has been finished by somebody else."""
        station = self._station
        now = station.clock
        item = station.waiting.get(key)
        if item is None or item.due_at is None or item.due_at > now:
            return
        if station.fails_before((self.resumes, key)):
            item.due_at = now + LEASE
            return
        out: list[Task] = []
        del station.waiting[key]
        if item.body is None or isinstance(item.body, Outcome):
            self._one(item, now, out)
        else:
            station.commands.transact(item, out)
        station.committed([], out)

    def sort(self, item: Item) -> Verdict:
        """Return what an item means here; a replica may not know its plan, or have other code."""
        station, world = self._station, self._world
        its_own = station.topology_of(item.envelope.saga_id)
        topology: Topology | None = its_own
        fitness = FIT
        if world.chance.strikes(Fault.PLAN_UNKNOWN):
            if world.random() < 0.4:
                world.count("plan not known")
                topology = None
            else:
                world.count("plan known, code differs")
                mine = [step.name for step in its_own.plan.steps if step.service == station.name]
                fitness = Fitness(steps={name: "the code differs" for name in mine if world.random() < 0.7})
        return self._rules.sort_message(
            item.envelope, item.topic, service=station.name, topology=topology, fitness=fitness
        )

    def _one(self, item: Item, now: datetime, out: list[Task]) -> None:
        verdict = self.sort(item)
        if isinstance(verdict, React):
            for name in verdict.steps:
                if item.step in ("", name):
                    self._meet(item, name, now, out)
            for park in verdict.parked:
                self.park(item, park, now)
        elif isinstance(verdict, Park):
            self.park(item, verdict, now)
        elif isinstance(verdict, Settle):
            self._settle(item, now, out)
        elif not isinstance(verdict, Skip):
            raise Violation(f"intake: {item.envelope.type} from {item.topic} became {verdict}")

    def park(self, item: Item, park: Park, now: datetime) -> None:
        """Keep an item for a replica that can handle it, a row for each step."""
        for name in park.steps:
            if item.step in ("", name) or not name:
                self.put_aside(item, item.step or name, Reason.PARKED, now + PARKED, item.attempt)

    def put_aside(self, item: Item, step: str, reason: Reason, due_at: datetime | None, attempt: int) -> None:
        """Keep an item as a row; one that waits for an attempt or a gate meets the row of its step."""
        row = item.aside(step, reason, due_at, attempt)
        self._station.waiting[row.key] = row
        self._world.count(f"kept as a row: {reason.value}")

    def _settle(self, item: Item, now: datetime, out: list[Task]) -> None:
        outcome = item.body
        assert isinstance(outcome, Outcome)
        saga = self._world.sagas[item.envelope.saga_id]
        if saga.parent is not None:
            self._station.children.ended(item, outcome, now, out)
        elif saga.outcome in ("", Ending.STUCK.value):
            saga.outcome = outcome.ending.value
        elif outcome.ending is not Ending.STUCK and outcome.ending.value != saga.outcome:
            raise Violation(f"final: {saga.id} was {saga.outcome} and is now {outcome.ending.value}")

    def _meet(self, item: Item, name: str, now: datetime, out: list[Task]) -> None:
        """Do with an event what its run row and its gate say."""
        envelope, station, world = item.envelope, self._station, self._world
        saga_id, step = envelope.saga_id, station.topology_of(envelope.saga_id).steps[name]
        assert envelope.expires_at is not None
        run = station.runs.setdefault(saga_id, {}).get((name, self._rules.run_branch(step, envelope.branch)))
        gate = station.gates.get(saga_id)
        not_before = envelope.time + timedelta(milliseconds=step.delay_ms) if step.delay_ms else None
        meeting = self._rules.meet(gate=gate, run=run, expires_at=envelope.expires_at, now=now, not_before=not_before)
        world.counts[meeting] += 1
        if world.history is not None:
            world.say(f"{station.name}: {envelope.type} of {saga_id} for {name}: {meeting.value}")
        if meeting is Meeting.EXPIRED and gate is not None and gate.keep_until and now < gate.keep_until:
            raise Violation(f"kept: {name} is turned away though its saga is kept")
        match meeting:
            case Meeting.DUPLICATE | Meeting.TURNED_AWAY | Meeting.EXPIRED:
                return
            case Meeting.HELD:
                self.put_aside(item, name, Reason.HELD, None, item.attempt)
            case Meeting.DELAYED:
                self.put_aside(item, name, Reason.DELAYED, not_before, item.attempt)
            case Meeting.RUN:
                if gate is not None and (gate.mark is Mark.HELD or gate.state is GateState.CLOSED):
                    raise Violation(f"held is held: {name} runs at a gate that is {gate.state} and {gate.mark}")
                if not_before is not None and now < not_before:
                    raise Violation(f"delay: {name} runs before its time")
                self._begin(item, step, run, now, out)
            case _:
                assert_never(meeting)

    def _begin(self, item: Item, step: PlanStep, known: RunRow | None, now: datetime, out: list[Task]) -> None:
        envelope, rules = item.envelope, self._rules
        topology = self._station.topology_of(envelope.saga_id)
        place = (step.name, rules.run_branch(step, envelope.branch))
        self._station.causes.setdefault((envelope.saga_id, place), {})[item.cause] = None
        cause = rules.cause_of(topology, envelope.step, envelope.branch, envelope.type)
        row = RunRow(
            saga_id=envelope.saga_id,
            step=step.name,
            branch=place[1],
            plan=envelope.plan,
            status=RunStatus.INTENT,
            causes=(cause,),
            input_type=envelope.type,
            attempt=item.attempt + 1,
            expires_at=envelope.expires_at or now,
            created_at=now,
        )
        if step.joins:
            received = Received(type=envelope.type, branch=envelope.branch, payload=b"{}", cause=cause)
            gathered = rules.gather(topology, step, known or replace(row, causes=()), received)
            if not rules.is_gathered(step, gathered):
                self._world.count("a join waits for more")
                self._station.store(replace(gathered, status=RunStatus.WAITING))
                return
            self._world.count("a join has all")
            row = replace(gathered, status=RunStatus.INTENT, attempt=item.attempt + 1)
        if step.effects is Effects.EXTERNAL:
            self._station.caller.intend(row, now)
            return
        ended = self._run(item, step, row, now, out)
        if ended is not None:
            self._station.store(ended)
            self._station.emit(ended, out)

    def _run(self, item: Item, step: PlanStep, row: RunRow, now: datetime, out: list[Task]) -> RunRow | None:
        """Call the handler and return the row of the run that has ended, None when it is tried again or waits."""
        world = self._world
        if self._raises(step):
            world.count("handler raises")
            certain = step.kind is StepKind.RETRIABLE
            if row.attempt < world.kit.attempts or certain:
                self.put_aside(item, step.name, Reason.RETRY, now + RETRY, row.attempt)
                if certain:
                    world.count("a certain step fails and is tried again")
                return None
            world.count("run failed")
            return self._rules.failed(row, "boom")
        if step.effects is Effects.CHILD:
            self._station.children.start(row, now, out)
            return None
        if step.refuses and world.random() < 0.3:
            world.count("run refused")
            return self._rules.concluded(row, Refused(type=step.refuses[0], payload=b"{}"), now)
        answer = self.outcome(step)
        books = world.sagas[row.saga_id].books
        causes = self._station.causes_of(row)
        books.happened((row.step, row.branch), answer.type, causes, fan_out=answer.fan_out)
        return self._rules.concluded(row, answer, now)

    def _raises(self, step: PlanStep) -> bool:
        world = self._world
        if world.chance.strikes(Fault.HANDLER_RAISES):
            return True
        return world.safety and step.name in world.kit.fails and world.random() < 0.3

    def outcome(self, step: PlanStep) -> Emitted:
        """Return what a step that succeeds emits this time."""
        world, emits = self._world, step.emits
        if step.ends and (not emits or world.random() < 0.3):
            return Emitted(type="", payload=b"")
        event = emits[0] if len(emits) == 1 else world.chance.pick(emits)
        if event != step.fan_out:
            return Emitted(type=event, payload=b"")
        count = world.chance.below(4)
        world.count(f"fan-out over {count}")
        return Emitted(type=event, payload=b"", fan_out=count)
