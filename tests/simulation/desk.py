"""Be the coordinators: one topic of records, one database, two replicas that both may believe to own it.

Mirrors saga._runtime (coordinator, observing) and the coordinator's store.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from saga._core.bodies import CancelRequested, Closed, Committed, Obeyed, Report, UndoFailed, Undone
from saga._core.coordinator import Due, Input
from saga._core.instance import ENDED, Answer, Instance, Phase, UndoStep
from saga._core.rows import Cursor
from saga._core.verbs import Verb
from saga.errors import VerbRefused
from tests.simulation.chance import Fault
from tests.simulation.children import check_stored, waits_for_stuck_child
from tests.simulation.folder import Folder
from tests.simulation.replica import Changes, Conflict, Replica, Stored

if TYPE_CHECKING:
    from tests.simulation.sagas import SagaUnderTest
    from tests.simulation.world import Task, World

NO_SKEW = timedelta()
DOWN = timedelta(seconds=90)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)
MOST_RESENDS = 3
TICK = timedelta(seconds=0.2)
PAUSE = timedelta(seconds=30)
REPLIES = (Closed, Committed, Undone, UndoFailed, Obeyed)
"""What a command that is sent again is answered with again."""
Record = tuple[str, datetime, Report]


class Desk:
    """Read the records and decide about the sagas."""

    def __init__(self, world: World) -> None:
        """Begin with nothing read."""
        self._world = world
        self._folder = Folder(world, self)
        self.skew = NO_SKEW
        self._down = False
        self._parked: list[Task] = []
        self._log: list[Record] = []
        self._stored: dict[str, Stored] = {}
        self._cursor: Cursor | None = None
        self._replicas = (Replica("coordinator A"), Replica("coordinator B"))
        self._owner = self._replicas[0]
        self._appends = self._append
        self._folds = self._fold
        self._ticks = self._tick

    @property
    def clock(self) -> datetime:
        """Return the time of the coordinator's database."""
        return self._world.now + self.skew

    def has_ended(self, saga_id: str) -> bool:
        """Return whether nothing can happen to a saga any more."""
        instance = self.instance(saga_id)
        return instance is not None and instance.phase in ENDED

    def instance(self, saga_id: str) -> Instance | None:
        """Return what is stored of a saga."""
        stored = self._stored.get(saga_id)
        return stored.instance if stored is not None else None

    def operate(self, saga_id: str, verb: Verb) -> bool:
        """Let a person speak about a saga, in a transaction of its own; return whether it was not refused."""
        stored = self._stored.get(saga_id)
        if stored is None:
            return False
        changes = Changes([], (), [])
        try:
            self._decide_one(self._owner, saga_id, [verb], changes)
        except VerbRefused:
            self._world.count(f"refused: {type(verb).__name__}")
            return False
        self._world.count(f"verb: {type(verb).__name__}")
        self._write(self._owner, changes)
        self._world.publish(changes.out)
        return True

    # --- the topic ---------------------------------------------------------------------------------------------

    def send(self, saga_id: str, expires_at: datetime, report: Report, out: list[Task]) -> None:
        """Add a report to what a transaction sends."""
        if isinstance(report, REPLIES) and self._world.chance.strikes(Fault.REPLY_LOST):
            self._world.count("reply lost")
            return
        out.append((self._appends, (saga_id, expires_at, report)))

    def cancel(self, saga: SagaUnderTest) -> None:
        """Let a service ask for a saga to be cancelled."""
        self._append((saga.id, saga.expires_at, CancelRequested(reason="asked")))

    def _append(self, record: Record) -> None:
        self._log.append(record)
        if self._world.random() < 0.7:
            self._world.bag.append((self._folds, None))

    # --- reading -----------------------------------------------------------------------------------------------

    def _stands(self, task: Task) -> bool:
        """Return whether a coordinator is there to do it; it may go down now, or another one take over."""
        world = self._world
        if self._down:
            self._parked.append(task)
            return False
        if world.chance.strikes(Fault.COORDINATOR_DOWN):
            world.count("coordinator down")
            world.say("every coordinator goes down")
            self._down = True
            self._parked.append(task)
            world.later(DOWN, (self._come_up, None))
            return False
        return True

    def _come_up(self, _: None) -> None:
        if self._down:
            self._down = False
            self._world.say("a coordinator is up again")
            self._owner.begin_at(self._cursor)
            self._world.bag.extend(self._parked)
            self._parked.clear()

    def heal(self) -> None:
        """Let the coordinator stand from now on."""
        self._come_up(None)
        self._world.bag.append((self._folds, None))

    def _fold(self, _: None) -> None:
        """Read a batch of records, decide, write."""
        if not self._stands((self._folds, None)):
            return
        reader = self._owner
        end = min(len(self._log), reader.position + 1 + self._world.chance.below(6))
        if end == reader.position:
            return
        records = self._log[reader.position : end]
        reader.position = end
        if end < len(self._log):
            self._world.bag.append((self._folds, None))
        told: dict[str, list[Input]] = {}
        for saga_id, expires_at, report in records:
            told.setdefault(saga_id, []).append(report)
            self._folder.prime(saga_id, expires_at, report)
        self._transact(reader, told, {0: end})

    def _tick(self, _: None) -> None:
        """Learn up to when everything has been read, and let due times fire against that."""
        if not self._stands((self._ticks, None)):
            return
        reader = self._owner
        reader.observer.look(self.clock, {0: len(self._log)}, {0: reader.position})
        if reader.observer.news({0: reader.cursor}):
            self._transact(reader, {}, {})
        observed = self._cursor.observed_until if self._cursor else None
        if observed is None:
            return
        due: dict[str, list[Input]] = {
            saga_id: [Due()]
            for saga_id, stored in self._stored.items()
            if stored.instance.due_at is not None and stored.instance.due_at <= observed
        }
        if due:
            self._world.count("due")
            self._transact(reader, due, {})

    def next_due(self) -> datetime | None:
        """Return when something is due by the world's clock.

        A saga that waits for a person is asked to be kept, or its late commands are sent again, for ever: that is rest.
        """
        if self._down:
            return None
        due = [
            row.instance.due_at - self.skew
            for row in self._stored.values()
            if row.instance.due_at is not None and not self._rests(row.instance, row.instance.due_at)
        ]
        if self._owner.position < len(self._log):
            return self._world.now
        # A zombie may have put `observed_until` back: the next tick moves it on again.
        return max(min(due), self._world.now + TICK) if due else None

    def _rests(self, instance: Instance, due_at: datetime) -> bool:
        waits_for_parent = instance.phase is Phase.READY
        if instance.stuck is None and not waits_for_parent and not waits_for_stuck_child(self._world, instance):
            return False
        if due_at - self.clock > HOUR:
            return True
        if waits_for_parent:
            return False
        asked = Answer.ASKED in instance.answers.values() or UndoStep.ASKED in instance.undos.values()
        waits = asked or bool(instance.owed)
        world = self._world
        return not world.safety and (
            not waits or instance.resends >= MOST_RESENDS or world.now - world.healed_at > QUARTER
        )

    def poll(self) -> None:
        """Let the coordinator look at the clock and at its topic."""
        if self._down:
            return
        self._world.bag.append((self._ticks, None))
        if self._owner.position < len(self._log):
            self._world.bag.append((self._folds, None))

    # --- deciding ------------------------------------------------------------------------------------------------

    def _transact(self, reader: Replica, told: dict[str, list[Input]], positions: dict[int, int]) -> None:
        world = self._world
        strikes = world.chance.strikes
        changes = self._decide(reader, told, positions)
        if strikes(Fault.COORDINATOR_CRASH):
            world.count("coordinator dies mid-decision")
            world.say(f"{reader.name} dies before it has written")
            self._hand_over()
            return
        if strikes(Fault.COORDINATOR_ZOMBIE):
            world.count("coordinator pauses, another takes over")
            world.say(f"{reader.name} sleeps before it writes")
            self._hand_over()
            if world.random() < 0.5:
                world.later(PAUSE, (self._wake_up, (reader, changes)))
            else:
                world.late.append((self._wake_up, (reader, changes)))
            return
        try:
            self._write(reader, changes)
        except Conflict:
            world.count("two coordinators: this one starts over")
            reader.begin_at(self._cursor)
            world.bag.append((self._folds, None))
            return
        if strikes(Fault.COORDINATOR_UNKNOWN_COMMIT):
            world.count("coordinator: unknown commit")
            world.say(f"{reader.name} does not hear that its commit has succeeded")
            world.late.extend(changes.out)
            self._hand_over()
        else:
            world.publish(changes.out)

    def _hand_over(self) -> None:
        if self._world.random() < 0.7:
            self._owner = self._replicas[1] if self._owner is self._replicas[0] else self._replicas[0]
        self._owner.begin_at(self._cursor)
        self._world.bag.append((self._folds, None))

    def _wake_up(self, dream: tuple[Replica, Changes]) -> None:
        reader, changes = dream
        try:
            self._write(reader, changes)
        except Conflict:
            self._world.count("two coordinators: the late one is refused")
        else:
            self._world.publish(changes.out)
        if reader is self._owner:
            reader.begin_at(self._cursor)
            self._world.bag.append((self._folds, None))

    def _decide(self, reader: Replica, told: dict[str, list[Input]], positions: dict[int, int]) -> Changes:
        changes = Changes([], (), [])
        for saga_id, inputs in told.items():
            self._decide_one(reader, saga_id, inputs, changes)
        stored = {0: reader.cursor}
        changes.cursors = reader.observer.cursors(stored, positions, {0: reader.position})
        return changes

    def _decide_one(self, reader: Replica, saga_id: str, inputs: list[Input], changes: Changes) -> None:
        stored = self._stored.get(saga_id)
        before = stored.instance if stored is not None else None
        after = self._folder.fold(reader.name, saga_id, before, inputs, changes.out)
        if after is not None and after is not before:
            changes.instances.append((after, stored.revision if stored is not None else 0))

    def _write(self, reader: Replica, changes: Changes) -> None:
        """Write all or nothing: cursors by compare-and-set, instances by revision."""
        for before, _ in changes.cursors:
            if (before.position if before else None) != (self._cursor.position if self._cursor else None):
                raise Conflict
        for instance, revision in changes.instances:
            stored = self._stored.get(instance.saga_id)
            if (stored.revision if stored else 0) != revision:
                raise Conflict
        known = [self.instance(instance.saga_id) for instance, _ in changes.instances]
        for instance, revision in changes.instances:
            self._stored[instance.saga_id] = Stored(instance, revision + 1)
        for was, (instance, _) in zip(known, changes.instances, strict=True):
            check_stored(self._world, was, instance)
        for _, after in changes.cursors:
            reader.cursor = self._cursor = after
