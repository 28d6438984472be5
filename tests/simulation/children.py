"""Start child sagas, end the steps that wait for them, and hold both against each other.

Mirrors saga._runtime (children, ending). A child is a saga in the same world, with a plan of its own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from saga._core.bodies import CancelRequested, Outcome
from saga._core.children import PARENT_TYPE, parent_input, waits_for_child
from saga._core.instance import ENDED, Instance, Phase
from saga._core.rows import RunRow
from saga._core.words import Ending, Reason, RunKey, RunStatus, UndoStatus
from tests.simulation.books import LIVE, Place, Violation
from tests.simulation.chance import Fault
from tests.simulation.copying import replace
from tests.simulation.growing import START_EVENT
from tests.simulation.messages import Item
from tests.simulation.sagas import SagaUnderTest

if TYPE_CHECKING:
    from tests.simulation.station import Station
    from tests.simulation.world import Task, World

RETRY = timedelta(seconds=2)


def child_id(saga_id: str, place: Place) -> str:
    """Return the ID of the saga that a run starts."""
    return f"{saga_id}/{place[0]}/{place[1]}"


class Children:
    """Look after the sagas that the steps of one service start."""

    def __init__(self, station: Station) -> None:
        """Work for `station`."""
        self._station = station
        self._world = station.world

    def start(self, run: RunRow, now: datetime, out: list[Task]) -> None:
        """Start a child in the transaction of its parent's step."""
        station, world, place = self._station, self._world, (run.step, run.branch)
        shape = world.kit.child
        assert shape is not None
        plan = shape.plan
        expires_at = now + timedelta(milliseconds=plan.timeout_ms + plan.forward_window_ms)
        saga_id = child_id(run.saga_id, place)
        parent = (world.sagas[run.saga_id], place)
        if saga_id in world.sagas:
            raise Violation(f"effects once: {run.step} starts its child twice")
        world.begin_child(SagaUnderTest(saga_id, shape, world.rules.topology(plan), expires_at, parent))
        row = RunRow(
            saga_id=saga_id,
            step=plan.start,
            plan=plan.hash,
            status=RunStatus.DONE,
            causes=(run.key,),
            input_type=PARENT_TYPE,
            input=parent_input(run.saga_id, run.key),
            result_type=START_EVENT,
            result=b"{}",
            attempt=1,
            expires_at=expires_at,
            created_at=now,
            done_at=now,
        )
        station.store(row)
        station.emit(row, out)
        station.store(replace(run, status=RunStatus.INTENT, pending_at=None, called_at=now, first_called_at=now))
        world.count("child started")
        world.say(f"{station.name} starts {saga_id}")

    def cancel(self, saga_id: str, key: RunKey, out: list[Task]) -> None:
        """Ask the child's coordinator to undo it, if there is a child."""
        child = self._world.sagas.get(child_id(saga_id, (key.step, key.branch)))
        if child is not None:
            self._world.count("child called back")
            self._world.desk.send(child.id, child.expires_at, CancelRequested(reason="its parent is undone"), out)

    def ended(self, item: Item, outcome: Outcome, now: datetime, out: list[Task]) -> None:
        """Write the outcome of a child, and do with its parent's run what it says."""
        station, world = self._station, self._world
        child = world.sagas[item.envelope.saga_id]
        assert child.parent is not None
        parent, place = child.parent
        if not _is_news(child.outcome, outcome):
            return
        run = station.runs.get(parent.id, {}).get(place)
        emitted = None
        if waits_for_child(run) and outcome.ending is Ending.COMPLETED:
            if world.chance.strikes(Fault.HANDLER_RAISES):
                world.count("what takes a child's end raises")
                station.events.put_aside(item, "", Reason.RETRY, now + RETRY, item.attempt)
                return
            emitted = station.events.outcome(parent.topology.steps[place[0]])
        child.outcome = outcome.ending.value
        if run is None:
            return
        if run.undo is UndoStatus.WANTED:
            world.count(f"child is {outcome.ending.value} and its undo wanted")
        turn = world.rules.child_ended(run, outcome, emitted, now)
        if turn.emit is not None:
            ended = turn.emit
            world.count(f"child ends its step: {ended.status.value}")
            if ended.status is RunStatus.DONE:
                parent.books.happened(place, ended.result_type, station.causes_of(run), fan_out=ended.fan_out)
        if world.history is not None:
            said = f"{turn.run.status}/{turn.run.undo}" if turn.run else "as it was"
            world.say(f"{station.name} hears that {child.id} is {outcome.ending.value}: its step is {said}")
        station.write(parent.id, parent.expires_at, turn, out)


def _is_news(before: str, outcome: Outcome) -> bool:
    if before == Ending.COMPLETED.value:
        return outcome.ending is Ending.COMPENSATED
    return before == "" or (before == Ending.STUCK.value and outcome.ending is not Ending.STUCK)


def check_stored(world: World, before: Instance | None, after: Instance) -> None:
    """Raise Violation unless a saga may have come to its phase, by its own books and by those of its parent."""
    phase = before.phase if before is not None else Phase.RUNNING
    if after.phase is phase or after.phase not in (*ENDED, Phase.READY):
        return
    saga = world.sagas[after.saga_id]
    saga.books.check_end(Phase.COMPENSATED if after.phase is Phase.COMPENSATED else Phase.COMPLETED)
    if saga.parent is not None:
        _check_child(world, after, phase, *saga.parent)
    if after.phase in ENDED:
        for child in world.sagas.values():
            if child.parent is not None and child.parent[0] is saga:
                _check_parent(world, after.phase, child.id)


def _check_child(world: World, after: Instance, was: Phase, parent: SagaUnderTest, place: Place) -> None:
    its_end = world.desk.instance(parent.id)
    over = its_end is not None and its_end.phase is Phase.COMPLETED
    if after.phase is Phase.READY:
        world.count("child completed late" if was is not Phase.RUNNING else "child completed")
    elif after.phase is Phase.COMPLETED:
        if not over:
            raise Violation(f"final: {after.saga_id} has completed for good before its parent")
        world.count("child settled")
    else:
        if over:
            raise Violation(f"final: {after.saga_id} is undone though its parent has completed")
        world.count(f"child undone: {after.cause.value if after.cause else '-'}")
        mark = parent.books.marks.get(place)
        if mark is not None and mark.standing == LIVE:
            parent.books.undone(place, repeatable=False)
            world.count("child undone with its parent, after its step was done")


def _check_parent(world: World, phase: Phase, child: str) -> None:
    instance = world.desk.instance(child)
    found = instance.phase if instance is not None else None
    allowed = (Phase.COMPENSATED,) if phase is Phase.COMPENSATED else (Phase.READY, Phase.COMPLETED)
    if found not in allowed:
        raise Violation(f"with its parent: a saga is {phase.value} and {child} is {found}")


def check_ready(world: World, saga: SagaUnderTest) -> None:
    """Raise Violation unless a child that has completed waits, at the end, for a parent that is stuck."""
    assert saga.parent is not None
    world.count("child waits for its parent, which is stuck")
    if world.desk.has_ended(saga.parent[0].id):
        raise Violation(f"liveness: {saga.id} is not told that its parent has ended")


def check_open(world: World, instance: Instance) -> None:
    """Raise Violation unless a saga that is open at the end waits for a child that is stuck."""
    if not waits_for_stuck_child(world, instance):
        raise Violation(f"liveness: nothing is left to happen and {instance.saga_id} is {instance.phase.value}")
    world.count("parent waits for a child that is stuck")


def waits_for_stuck_child(world: World, instance: Instance) -> bool:
    """Return whether a person who looks after a child is what an open saga needs, too."""
    if world.kit.child is None or instance.phase in ENDED:
        return False
    parent = world.sagas[instance.saga_id]
    children = [saga.id for saga in world.sagas.values() if saga.parent is not None and saga.parent[0] is parent]
    found = [world.desk.instance(child) for child in children]
    return any(child is not None and child.stuck is not None for child in found)
