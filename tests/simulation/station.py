"""Be one simulated service: its tables, its transactions and where they can break.

Mirrors saga._runtime (batch, turns, writing) and the stores: one method call here for a transaction there.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from saga._core.bodies import Closed, Committed, RunReported
from saga._core.participant import Turn
from saga._core.plan import PlanStep, Topology
from saga._core.rows import GateRow, RunRow
from saga._core.words import GateState, Reason, RunStatus, UndoStatus
from tests.simulation.books import Place, Violation
from tests.simulation.calls import Caller
from tests.simulation.chance import Fault
from tests.simulation.checks import check_list
from tests.simulation.children import Children
from tests.simulation.commands import Commands
from tests.simulation.events import Events
from tests.simulation.growing import START_EVENT
from tests.simulation.messages import Item, events_of

if TYPE_CHECKING:
    from tests.simulation.sagas import SagaUnderTest
    from tests.simulation.world import Task, World

NOTHING = timedelta()
PARKED = timedelta(seconds=5)
DOWN = timedelta(seconds=20)

KNOWN = {
    RunStatus.WAITING: 0,
    RunStatus.INTENT: 1,
    RunStatus.FAILED: 2,
    RunStatus.REFUSED: 3,
    RunStatus.DONE: 3,
}
UNDOING = {
    UndoStatus.NONE: 0,
    UndoStatus.WANTED: 1,
    UndoStatus.INTENT: 2,
    UndoStatus.DONE: 3,
    UndoStatus.FAILED: 2,  # a person may have it tried again
}


class Station:
    """Serve one service."""

    def __init__(self, world: World, name: str) -> None:
        """Begin with empty tables."""
        self.world = world
        self.name = name
        self.runs: dict[str, dict[Place, RunRow]] = {}
        self.gates: dict[str, GateRow] = {}
        self.waiting: dict[tuple[str, str, str, bool], Item] = {}
        self.causes: dict[tuple[str, Place], dict[Place, None]] = {}
        self.skew = NOTHING
        self._down = False
        self._parked: list[Task] = []
        self.caller = Caller(self)
        self.events = Events(self)
        self.commands = Commands(self)
        self.children = Children(self)
        self.starts = self._start
        self.lets_in = self._receive_from_outside

    @property
    def is_down(self) -> bool:
        """Return whether nobody works here at the moment."""
        return self._down

    @property
    def clock(self) -> datetime:
        """Return the time of this service's database."""
        return self.world.now + self.skew

    def topology_of(self, saga_id: str) -> Topology:
        """Return the plan of a saga."""
        return self.world.sagas[saga_id].topology

    # --- transactions ----------------------------------------------------------------------------------------

    def fails_before(self, task: Task) -> bool:
        """Return whether the process is down, or dies before the transaction of a task is committed."""
        world = self.world
        if self._down:
            self._parked.append(task)
            return True
        strikes = world.chance.strikes
        if strikes(Fault.SERVICE_DOWN):
            world.count("service down")
            world.say(f"{self.name} goes down")
            self._down = True
            self.caller.forget()
            self._parked.append(task)
            world.later(DOWN, (self.come_up, None))
            return True
        if strikes(Fault.CRASH_BEFORE_COMMIT):
            world.count("crash before commit")
            world.say(f"{self.name} dies before the commit")
            self.caller.forget()
            world.bag.append(task)
            return True
        return False

    def come_up(self, _: None) -> None:
        """Be there again."""
        if self._down:
            self._down = False
            self.world.say(f"{self.name} is up again")
            self.world.bag.extend(self._parked)
            self._parked.clear()

    def committed(self, tasks: list[Task], out: list[Task]) -> None:
        """Send what a committed transaction has written; the process may die on the way."""
        world = self.world
        strikes = world.chance.strikes
        if strikes(Fault.CRASH_AFTER_COMMIT):
            world.count("crash after commit")
            world.say(f"{self.name} dies after the commit, before it publishes")
            self.caller.forget()
        elif strikes(Fault.UNKNOWN_COMMIT):
            world.count("unknown commit")
            world.say(f"{self.name} does not hear that its commit has succeeded")
        else:
            world.publish(out)
            if not strikes(Fault.CRASH_AFTER_PUBLISH):
                return
            world.count("crash after publish")
            world.say(f"{self.name} dies after it has published")
            self.caller.forget()
        # The sweep finds the rows, and the log hands the messages out again.
        world.late.extend(out)
        world.bag.extend(tasks)

    def _start(self, saga: SagaUnderTest) -> None:
        """Start a saga in the caller's transaction; a repeated start finds the first one."""
        task = (self.starts, saga)
        if self.fails_before(task):
            return
        out: list[Task] = []
        plan = saga.topology.plan
        key = (plan.start, "")
        if key in self.runs.setdefault(saga.id, {}):
            self.world.count("started twice")
        else:
            row = RunRow(
                saga_id=saga.id,
                step=key[0],
                plan=plan.hash,
                status=RunStatus.DONE,
                result_type=START_EVENT,
                result=b"{}",
                expires_at=saga.expires_at,
                created_at=self.clock,
                done_at=self.clock,
            )
            self.store(row)
            self.emit(row, out)
            self.world.say(f"{self.name} starts {saga.id}")
        self.committed([task], out)

    def _receive_from_outside(self, come: tuple[SagaUnderTest, PlanStep]) -> None:
        """Let an event come in from outside of the saga, maybe before it starts; again, it changes nothing."""
        saga, step = come
        task = (self.lets_in, come)
        if self.fails_before(task):
            return
        out: list[Task] = []
        if (step.name, "") in self.runs.setdefault(saga.id, {}):
            self.world.count("received twice")
        else:
            plan = saga.topology.plan
            lifetime = timedelta(milliseconds=plan.timeout_ms + plan.forward_window_ms)
            row = RunRow(
                saga_id=saga.id,
                step=step.name,
                plan=plan.hash,
                status=RunStatus.DONE,
                result_type=step.emits[0],
                result=b"{}",
                expires_at=self.clock + lifetime,
                created_at=self.clock,
                done_at=self.clock,
            )
            self.store(row)
            self.emit(row, out)
            self.world.count("received from outside")
            self.world.say(f"{self.name} receives {step.emits[0]} for {saga.id} from outside")
        self.committed([task], out)

    # --- rows ------------------------------------------------------------------------------------------------

    def store(self, row: RunRow) -> RunRow:
        """Write a run row and return it with its revision; what is known of it may only rise."""
        rows = self.runs.setdefault(row.saga_id, {})
        place = (row.step, row.branch)
        before = rows.get(place)
        if before is not None:
            if before.revision != row.revision:
                raise Violation(f"revision: {row.step} was written over one that was not read")
            lower = KNOWN[row.status] < KNOWN[before.status] or UNDOING[row.undo] < UNDOING[before.undo]
            changed = row.status is not before.status and KNOWN[before.status] == KNOWN[RunStatus.DONE]
            if lower or changed:
                was, now = f"{before.status}/{before.undo}", f"{row.status}/{row.undo}"
                raise Violation(f"knowledge rises: {row.step} went from {was} to {now}")
        elif row.revision:
            raise Violation(f"revision: {row.step} was written over a row that is not there")
        if row is before:
            return row
        # The row was made by the decision a moment ago and is nobody else's yet.
        object.__setattr__(row, "revision", row.revision + 1)
        rows[place] = row
        return row

    def emit(self, run: RunRow, out: list[Task]) -> None:
        """Add the record of an ended run and its event; mirrors emit.ended_run."""
        world, topology = self.world, self.topology_of(run.saga_id)
        world.desk.send(run.saga_id, run.expires_at, RunReported(fact=world.rules.fact_of(run)), out)
        if run.status is RunStatus.DONE and run.result_type:
            event = run.result_type
            steps = (*topology.reacting.get(event, ()), *topology.gathers.get(event, ()))
            names = dict.fromkeys([step.service for step in steps])
            for item in events_of(run):
                out.extend([(world.stations[name].events.receives, item) for name in names])

    def write(self, saga_id: str, expires_at: datetime, turn: Turn, out: list[Task]) -> None:
        """Write a decided turn; mirrors saga._runtime.turns."""
        if turn.emit is not None:
            self.emit(turn.emit, out)
        for report in turn.reports:
            if isinstance(report, Closed | Committed):
                check_list(report)
            self.world.desk.send(saga_id, expires_at, report, out)
        if turn.cancel_child is not None:
            self.children.cancel(saga_id, turn.cancel_child, out)
        if turn.run is not None:
            self.store(turn.run)
        if turn.gate is not None:
            before = self.gates.get(saga_id)
            if before is not None and before.state is GateState.CLOSED and turn.gate.state is not GateState.CLOSED:
                raise Violation(f"closed for ever: the gate of {self.name} was opened again")
            self.gates[saga_id] = turn.gate
        if turn.release:
            self._release(saga_id)
        if turn.kick:
            self.caller.take_due()

    def _release(self, saga_id: str) -> None:
        for item in self.waiting.values():
            if item.reason in (Reason.HELD, Reason.RETRY) and item.envelope.saga_id == saga_id:
                item.due_at = self.clock
                self.world.bag.append((self.events.resumes, item.key))
                self.world.count(f"released: {item.reason}")

    def causes_of(self, run: RunRow) -> tuple[Place, ...]:
        """Return the runs whose events have made a run, whatever its row says of them."""
        return tuple(self.causes.get((run.saga_id, (run.step, run.branch)), ()))

    # --- time ------------------------------------------------------------------------------------------------

    def next_due(self) -> datetime | None:
        """Return when something here is due by the world's clock."""
        if self._down:
            return None
        times = [item.due_at for item in self.waiting.values() if item.due_at is not None]
        times += [row.pending_at for rows in self.runs.values() for row in rows.values() if row.pending_at is not None]
        return min(times) - self.skew if times else None

    def poll(self) -> None:
        """Look for rows that are due."""
        if self._down:
            return
        now = self.clock
        for key, item in self.waiting.items():
            if item.due_at is not None and item.due_at <= now:
                self.world.bag.append((self.events.resumes, key))
        self.caller.take_due()

    def prune(self, ended: set[str]) -> None:
        """Forget the sagas that have ended, as the pruner does a day after their expiry."""
        for saga_id in ended:
            self.runs.pop(saga_id, None)
            self.gates.pop(saga_id, None)
        self.waiting = {key: item for key, item in self.waiting.items() if key[0] not in ended}

    def check_rest(self) -> None:
        """Raise Violation unless nothing waits here that nobody will look at; a stuck saga keeps what it has."""
        for key in self.waiting:
            instance = self.world.desk.instance(key[0])
            if instance is None or instance.stuck is None:
                raise Violation(f"liveness: a row is left waiting at {self.name}: {key}")
