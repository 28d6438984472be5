"""Obey the coordinator at one service; mirrors saga._runtime.commands."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from saga._core.bodies import Close, Hold, Keep, Outcome, Release, SkipRun, Undo, kind_of
from saga._core.intake import Obey, Park
from saga._core.interventions import Intervention
from saga._core.participant import Compensate, Turn
from saga._core.rows import RunRow
from saga._core.words import Reason, RunKey, UndoStatus
from tests.simulation.books import Violation
from tests.simulation.chance import Fault
from tests.simulation.copying import replace
from tests.simulation.messages import Item

if TYPE_CHECKING:
    from tests.simulation.station import Station
    from tests.simulation.world import Task

PARKED = timedelta(seconds=5)
RETRY = timedelta(seconds=2)
UNDO_ATTEMPTS = 3


class Commands:
    """Handle the commands to one service, each in a transaction of its own under the exclusive lock."""

    def __init__(self, station: Station) -> None:
        """Work for `station`."""
        self._station = station
        self._world = station.world
        self._rules = station.world.rules
        self.obeys = self._obey
        self._seen: set[tuple[str, str]] = set()

    def _obey(self, item: Item) -> None:
        station = self._station
        task = (self.obeys, item)
        if station.fails_before(task):
            return
        out: list[Task] = []
        self.transact(item, out)
        station.committed([task], out)

    def transact(self, item: Item, out: list[Task]) -> None:
        """Decide and write, again when a row was taken over in between."""
        station, world, envelope = self._station, self._world, item.envelope
        verdict = station.events.sort(item)
        if isinstance(verdict, Park):
            station.events.put_aside(item, "", Reason.PARKED, station.clock + PARKED, 0)
            return
        if not isinstance(verdict, Obey):
            raise Violation(f"intake: a {envelope.kind} became {verdict}")
        if (envelope.saga_id, envelope.id) in self._seen:
            world.count("duplicate command")
        self._seen.add((envelope.saga_id, envelope.id))
        if world.chance.strikes(Fault.TAKEN_MEANWHILE) and station.caller.take_any(envelope.saga_id):
            world.count("revision conflict, decided again")
        turn = self._turn(item)
        if world.history is not None:
            said = ", ".join(type(report).__name__ for report in turn.reports) or "nothing yet"
            state = turn.gate.state.value if turn.gate else "as it was"
            world.say(f"{station.name}: {item.body} of {envelope.saga_id}: gate {state}, reports {said}")
        assert envelope.expires_at is not None
        station.write(envelope.saga_id, envelope.expires_at, turn, out)

    def _turn(self, item: Item) -> Turn:
        station, envelope, command = self._station, item.envelope, item.body
        saga_id, now = envelope.saga_id, station.clock
        rows = station.runs.get(saga_id, {})
        gate = station.gates.get(saga_id)
        assert envelope.expires_at is not None
        if isinstance(command, Close):
            if gate is None and not rows:
                self._world.count("close for a saga never heard of")
            turn = self._rules.close(
                station.topology_of(saga_id),
                station.name,
                saga_id,
                gate=gate,
                runs=rows.values(),
                expires_at=envelope.expires_at,
                now=now,
            )
            state = turn.gate.state.value if turn.gate else "as it was"
            self._world.count(f"close: {state}")
            return turn
        if not isinstance(command, Undo):
            assert not isinstance(command, Outcome | None)
            return self._intervene(command, envelope.saga_id, envelope.expires_at)
        key = RunKey(step=command.step, branch=command.branch)
        run = rows.get((key.step, key.branch))
        if run is None:
            self._world.count("undo for a run never heard of")
        decided = self._rules.undo(
            station.topology_of(saga_id),
            station.name,
            saga_id,
            key,
            gate=gate,
            run=run,
            expires_at=envelope.expires_at,
            now=now,
        )
        return self._compensate(decided) if isinstance(decided, Compensate) else decided

    def _intervene(self, command: Intervention, saga_id: str, expires_at: datetime) -> Turn:
        station, world = self._station, self._world
        rows = {row.key: row for row in station.runs.get(saga_id, {}).values()}
        gate = station.gates.get(saga_id)
        kind = kind_of(command)
        world.count(f"command: {kind}")
        if isinstance(command, Hold | Release) and gate is not None and command.number < gate.mark_number:
            world.count("an older hold or release is ignored")
        turn = self._rules.intervene(
            station.topology_of(saga_id),
            station.name,
            saga_id,
            command,
            gate=gate,
            runs=rows,
            expires_at=expires_at,
            now=station.clock,
        )
        if isinstance(command, Hold | Release | Keep) and not turn.reports:
            raise Violation(f"answered: {kind} is not answered")
        if isinstance(command, SkipRun) and turn.run is not None:
            self._skipped(turn.run)
        return turn

    def _skipped(self, run: RunRow) -> None:
        """Write down what a person has done by hand."""
        books = self._world.sagas[run.saga_id].books
        place = (run.step, run.branch)
        if run.undo is UndoStatus.DONE:
            books.undone_by_hand(place)
        else:
            known = self._station.causes_of(run)
            causes = known or tuple((cause.step, cause.branch) for cause in run.causes)
            books.happened(place, run.result_type, causes)

    def _compensate(self, decided: Compensate) -> Turn:
        run, world, now = decided.run, self._world, self._station.clock
        if self.raises(run.step):
            turn = self._rules.compensation_raised(run, "boom", attempts=self.attempts(run.step), retry_at=now + RETRY)
        else:
            world.sagas[run.saga_id].books.undone((run.step, run.branch), repeatable=False)
            world.count("compensated")
            turn = self._rules.compensated(run, now)
        return replace(turn, gate=decided.gate)

    def raises(self, step: str) -> bool:
        """Return whether a compensation raises this time."""
        world = self._world
        if not world.chance.strikes(Fault.COMPENSATION_RAISES) and not (
            world.safety and step in world.kit.sticks and world.random() < 0.7
        ):
            return False
        world.count("compensation raises")
        return True

    def attempts(self, step: str) -> int:
        """Return how often a compensation is tried."""
        return UNDO_ATTEMPTS if step in self._world.kit.sticks else 1_000
