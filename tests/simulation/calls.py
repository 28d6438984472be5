"""Make the calls that leave a service: taken, made, stored; mirrors saga._runtime (pending, calls, asking)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from saga._core.answers import AnswerFromOutside, Emitted, NotHappened, Raised, Refused, Unanswerable, Unproven, Work
from saga._core.doubt import Question
from saga._core.participant import Turn
from saga._core.plan import Undoing
from saga._core.rows import RunRow, TakenRun
from saga._core.words import GateState, UndoStatus
from tests.simulation.books import Violation
from tests.simulation.chance import Fault
from tests.simulation.copying import replace
from tests.simulation.outside import answer_to_call, answer_to_probe, compensated_outside

if TYPE_CHECKING:
    from tests.simulation.station import Station
    from tests.simulation.world import Task

LEASE = timedelta(seconds=15)
RETRY = timedelta(seconds=2)
BUSY = (timedelta(), timedelta(seconds=4), timedelta(seconds=30))
SLEEPS = tuple(timedelta(seconds=seconds) for seconds in (5, 20, 50))
OK = Emitted(type="", payload=b"")


class Call:
    """Be a call under way, made with the row as it was taken; what a dead process has under way is lost.

    `heard` is None when a probe has found nothing.
    """

    __slots__ = ("asked", "heard", "lost", "since", "taken", "work")

    def __init__(self, taken: TakenRun, work: Work, asked: Question, since: datetime) -> None:
        """Begin."""
        self.taken = taken
        self.work = work
        self.asked = asked
        self.since = since
        self.heard: AnswerFromOutside | None = None
        self.lost = False


class Caller:
    """Move the outside work of one service on."""

    def __init__(self, station: Station) -> None:
        """Work for `station`."""
        self._station = station
        self._world = station.world
        self._rules = station.world.rules
        self._calls: list[Call] = []

    def forget(self) -> None:
        """Lose what was under way: the process is dead."""
        for call in self._calls:
            call.lost = True
        self._calls.clear()

    # --- taking work on ----------------------------------------------------------------------------------------

    def intend(self, row: RunRow, now: datetime) -> None:
        """Write the intent of a call; it is leased to this process, or free to take."""
        if self._world.random() < 0.7:
            intent = replace(row, attempt=0, pending_at=now + LEASE, owner="me", called_at=now, first_called_at=now)
            self._begin(TakenRun(run=self._station.store(intent)))
        else:
            # Its dependency is busy: it waits for somebody to take it.
            self._station.store(replace(row, attempt=0, pending_at=now + self._world.chance.pick(BUSY)))
            self.take_due()

    def take_due(self) -> None:
        """Look for rows whose outside work is due and nobody's."""
        now = self._station.clock
        for rows in self._station.runs.values():
            for place, row in rows.items():
                if row.pending_at is not None and row.pending_at <= now:
                    self._world.bag.append((self._take, (row.saga_id, place)))

    def take_any(self, saga_id: str) -> bool:
        """Take whatever is due of one saga, at once; return whether there was something."""
        now = self._station.clock
        due = [row for row in self._station.runs.get(saga_id, {}).values() if row.pending_at and row.pending_at <= now]
        for row in due:
            self._take((saga_id, (row.step, row.branch)))
        return bool(due)

    def _take(self, key: tuple[str, tuple[str, str]]) -> None:
        station = self._station
        row = station.runs[key[0]].get(key[1])
        now = station.clock
        if station.is_down or row is None or row.pending_at is None or row.pending_at > now:
            return
        if row.owner:
            self._world.count("taken over")
        taken = replace(
            row, pending_at=now + LEASE, owner="me", called_at=now, first_called_at=row.first_called_at or now
        )
        self._begin(TakenRun(run=station.store(taken), called_at=row.called_at, owner=row.owner))

    def _begin(self, taken: TakenRun) -> None:
        world, run = self._world, taken.run
        work = self._rules.work_of(run)
        asked = Question.CALL
        if work is not Work.COMPENSATE:
            asked = self._rules.question(taken, world.kit.memory, probed=run.step in world.kit.probed)
        call = Call(taken, work, asked, world.now)
        world.count(f"{work.value}: {asked.value}")
        self._calls.append(call)
        local = (
            work is Work.COMPENSATE and self._station.topology_of(run.saga_id).steps[run.step].undoing is Undoing.LOCAL
        )
        if local or asked is Question.NONE:
            call.heard = OK
            world.bag.append((self._store, call))
        else:
            world.bag.append((self._reach, call))

    # --- outside -------------------------------------------------------------------------------------------------

    def _reach(self, call: Call) -> None:
        """Let the call arrive outside, or not, or much too late."""
        world = self._world
        strikes = world.chance.strikes
        if call.lost:
            return
        if world.now > call.since + world.kit.memory.max_in_flight:
            world.count("stood still, so nothing is called")
            return
        if strikes(Fault.ZOMBIE_CALL):
            world.count("zombie makes its call late")
            world.later(world.chance.pick(SLEEPS), (self._reach, call))
            return
        if strikes(Fault.CRASH_BEFORE_CALL):
            world.count("crash before the call")
            return
        raised = Raised(error="boom", attempts=world.kit.attempts, retry_at=self._station.clock + RETRY)
        if strikes(Fault.CALL_LOST):
            world.count("call never arrives")
            call.heard = raised
        else:
            call.heard = self._arrive(call, raised)
        if strikes(Fault.ANSWER_LOST):
            world.count("answer lost")
            call.heard = raised
        if world.history is not None:
            heard = "nothing was found" if call.heard is None else str(call.heard)
            world.say(f"{self._station.name} calls to {call.work.value} ({call.asked}) {call.taken.run.step}: {heard}")
        if strikes(Fault.CRASH_AFTER_CALL):
            world.count("crash after the call")
            return
        if strikes(Fault.ZOMBIE_ANSWER):
            world.count("zombie stores its answer late")
            world.later(world.chance.pick(SLEEPS), (self._store, call))
            return
        world.bag.append((self._store, call))

    def _arrive(self, call: Call, raised: Raised) -> AnswerFromOutside | None:
        run = call.taken.run
        if call.work is Work.COMPENSATE:
            if self._station.commands.raises(run.step):
                return raised
            compensated_outside(self._world, run)
            return OK
        if call.asked is Question.PROBE:
            return answer_to_probe(self._world, run)
        return answer_to_call(self._world, self._station, run)

    # --- back home -----------------------------------------------------------------------------------------------

    def _store(self, call: Call) -> None:
        """Store an answer in a transaction, unless somebody has changed the row since the call was taken on."""
        station, world, taken = self._station, self._world, call.taken.run
        task = (self._store, call)
        if call.lost or station.fails_before(task):
            return
        if call in self._calls:
            self._calls.remove(call)
        rows = station.runs[taken.saga_id]
        current = rows.get((taken.step, taken.branch))
        if current is None or self._rules.is_stale(taken, current):
            world.count("stale answer dropped")
            if current is not None and current.undo is not UndoStatus.NONE:
                world.count("late answer after the undo has begun")
            return
        turn = self._turn(call, current)
        if world.history is not None:
            said = f"{turn.run.status}/{turn.run.undo}" if turn.run else "unchanged"
            world.say(f"{station.name} stores the answer for {taken.step} of {taken.saga_id}: {said}")
        out: list[Task] = []
        station.write(taken.saga_id, taken.expires_at, turn, out)
        station.committed([task], out)

    def _turn(self, call: Call, current: RunRow) -> Turn:
        if call.work is Work.COMPENSATE:
            return self._compensated(call, current)
        station, world = self._station, self._world
        now = station.clock
        gate = station.gates.get(current.saga_id)
        answer = self._meaning(call, now)
        if gate is not None and gate.state is GateState.CLOSING:
            settled = isinstance(answer, Emitted | Refused | NotHappened)
            world.count("the pivot's doubt ends" if settled else "the pivot stays in doubt")
        row = current if call.asked is Question.CALL else self._rules.as_before(call.taken, current)
        runs = station.runs[current.saga_id].values()
        return self._rules.answered(station.topology_of(current.saga_id), row, gate, runs, answer, now)

    def _meaning(self, call: Call, now: datetime) -> AnswerFromOutside:
        world, memory = self._world, self._world.kit.memory
        if call.asked is Question.NONE:
            answer: AnswerFromOutside = self._rules.forgotten(memory)
        elif call.heard is not None:
            return call.heard
        else:
            answer = self._rules.nothing_found(call.taken, memory, attempts=world.kit.attempts, now=now)
        match answer:
            case NotHappened():
                world.count("proof that a call has not happened")
            case Unproven():
                world.count("nothing found, and no proof")
            case Unanswerable():
                world.count("key may be forgotten")
            case _:
                raise Violation(f"proof: finding nothing became {answer}")
        return answer

    def _compensated(self, call: Call, current: RunRow) -> Turn:
        station, world, answer = self._station, self._world, call.heard
        now = station.clock
        local = station.topology_of(current.saga_id).steps[current.step].undoing is Undoing.LOCAL
        if isinstance(answer, Raised) or (local and station.commands.raises(current.step)):
            attempts = station.commands.attempts(current.step)
            turn = self._rules.compensation_raised(current, "boom", attempts=attempts, retry_at=now + RETRY)
            if turn.run is not None and turn.run.undo is UndoStatus.FAILED:
                world.count("compensation failed for good")
            return turn
        if local:
            world.sagas[current.saga_id].books.undone((current.step, current.branch), repeatable=False)
            world.count("compensated")
        return self._rules.compensated(current, now)
