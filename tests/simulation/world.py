"""Be the simulated world: a bag of what may happen next, a clock, the services, the coordinators."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Any

from saga._core.instance import ENDED, Phase
from saga._core.plan import PlanStep
from saga._core.words import StepKind
from tests.simulation.books import Violation
from tests.simulation.chance import Chance, Fault
from tests.simulation.children import check_open, check_ready
from tests.simulation.desk import Desk
from tests.simulation.operator import Operator
from tests.simulation.plans import BRIEF, LONG, Kit
from tests.simulation.rules import Rules
from tests.simulation.sagas import SagaUnderTest
from tests.simulation.station import Station

MOST_HELP = 6
LONG_AFTER = timedelta(days=2)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
Task = tuple[Callable[[Any], None], Any]
MOST_TASKS = 4_000
"""A saga that takes more than this does not come to rest."""

JUMPS = tuple(timedelta(seconds=seconds) for seconds in (1, 20, 40, 400, 4_000))
STEPS = tuple(timedelta(hours=hours) for hours in (-1, 1))
NOTHING = timedelta()


class World:
    """Run one schedule from its seed."""

    def __init__(self, chance: Chance, rules: Rules, kit: Kit, *, sagas: int, history: list[str] | None = None) -> None:
        """Build services and coordinators for one plan."""
        self.chance = chance
        self.random = chance.random
        self.rules = rules
        self.kit = kit
        self.history = history
        self.now = BEGIN
        self.bag: list[Task] = []
        self.late: list[Task] = []
        self.archive: list[Task] = []
        self.counts: dict[str, int] = defaultdict(int)
        self.safety = True
        self._keeps = chance.random() < 0.15
        self.healed_at = BEGIN
        self._operator = Operator(self)
        self._timers: list[tuple[datetime, int, Task]] = []
        self.tasks = 0
        self._bias = (0.3, 1.0, 1.0, 3.0)[chance.below(4)]
        steps = (*kit.plan.steps, *(kit.child.plan.steps if kit.child is not None else ()))
        names = {step.service for step in steps} | {kit.plan.starter}
        self.stations = {name: Station(self, name) for name in sorted(names)}
        self.desk = Desk(self)
        lifetime = timedelta(milliseconds=kit.plan.timeout_ms + kit.plan.forward_window_ms)
        ids = [f"saga-{number}" for number in range(sagas)]
        its_own = rules.topology(kit.plan)
        self.sagas = {saga_id: SagaUnderTest(saga_id, kit.topology, its_own, BEGIN + lifetime) for saga_id in ids}

    # --- the loop --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the sagas and run until everything rests; raises Violation."""
        chance = self.chance
        chance.arm()
        starts = self.stations[self.kit.plan.starter].starts
        self.bag += [(starts, saga) for saga in self.sagas.values()]
        self._wait_for_outside(list(self.sagas.values()))
        for _ in range(10 + chance.below(150)):
            if not self._go_on():
                break
        self._heal()
        for _ in range(MOST_HELP):
            self._rest()
            if self.random() < 0.3 or not self._operator.moves():
                break
        else:
            raise Violation("liveness: a person cannot get it moving")
        self._check_rest()
        if self._keeps:
            self._live_on()

    def _live_on(self) -> None:
        """Let old messages come again long after the expiry, when rows are pruned: nothing may happen any more."""
        self.say("=== long after")
        latest = max(saga.expires_at for saga in self.sagas.values())
        kept = [gate.keep_until for station in self.stations.values() for gate in station.gates.values()]
        self.now = max(self.now, latest, *(until for until in kept if until is not None)) + LONG_AFTER
        ended = {saga.id for saga in self.sagas.values() if self.desk.has_ended(saga.id)}
        for station in self.stations.values():
            station.prune(ended)
        for task in self.archive:
            task[0](task[1])
            self.bag.clear()
        for saga in self.sagas.values():
            if saga.id in ended and saga.books.marks != saga.marks_at_rest:
                raise Violation(f"long after: something has happened to {saga.id}")

    def _rest(self) -> None:
        while self._go_on():
            if self.tasks > MOST_TASKS:
                raise Violation(f"liveness: no rest after {MOST_TASKS} tasks")

    def begin_child(self, child: SagaUnderTest) -> None:
        """Take a saga in that a step of another one starts."""
        self.sagas[child.id] = child
        self._wait_for_outside([child])

    def _wait_for_outside(self, sagas: list[SagaUnderTest]) -> None:
        for step in sagas[0].topology.plan.steps:
            if step.kind is StepKind.RECEIVE:
                for saga in sagas:
                    self._let_in(saga, step)

    def _let_in(self, saga: SagaUnderTest, step: PlanStep) -> None:
        """Let an event come from outside, at any time or never."""
        drawn = self.random()
        task = (self.stations[step.service].lets_in, (saga, step))
        if drawn < 0.4:
            self.bag.append(task)
        elif drawn < 0.6:
            self.late.append(task)
        elif drawn < 0.85:
            self.later(self.chance.pick(JUMPS), task)

    def _go_on(self) -> bool:
        """Let one thing happen; return False when nothing is left that could."""
        bag = self.bag
        if not bag and not self._wake():
            return False
        chance = self.chance
        whim = chance.whim()
        if whim is not None:
            self._have(whim)
        do, what = bag.pop(int(len(bag) * self.random() ** self._bias))
        self.tasks += 1
        do(what)
        return True

    def _have(self, whim: Fault) -> None:
        match whim:
            case Fault.TIME_PASSES:
                self.count("time passes")
                self._pass_to(self.now + self.chance.pick(JUMPS))
            case Fault.CLOCK_STEP:
                self._step_a_clock()
            case Fault.CANCEL:
                self._cancel()
            case _:
                self._operator.act(whim)

    def _wake(self) -> bool:
        """Bring on what was delayed, or else pass time until something is due."""
        while not self.bag:
            if self.late:
                self.bag.extend(self.late)
                self.late.clear()
                return True
            due = [station.next_due() for station in self.stations.values()]
            due.append(self.desk.next_due())
            if self._timers:
                due.append(self._timers[0][0])
            times = [time for time in due if time is not None]
            if not times:
                return False
            self.tasks += 1
            if self.tasks > MOST_TASKS:
                raise Violation(f"liveness: no rest after {MOST_TASKS} tasks")
            self._pass_to(max(self.now, min(times)))
        return True

    def _pass_to(self, time: datetime) -> None:
        self.now = time
        if self.history is not None:
            self.history.append(f"--- {(time - BEGIN).total_seconds():.1f} s")
        while self._timers and self._timers[0][0] <= time:
            self.bag.append(heappop(self._timers)[2])
        for station in self.stations.values():
            station.poll()
        self.desk.poll()

    def _heal(self) -> None:
        """Begin the phase in which nothing goes wrong any more: every saga must come to rest."""
        self.safety = False
        self.chance.disarm()
        self.say("=== nothing goes wrong from here on")
        for station in self.stations.values():
            station.come_up(None)
        self.desk.heal()
        self.healed_at = self.now
        self._operator.release_all()

    def _step_a_clock(self) -> None:
        self.count("clock step")
        which = len(self.stations) if self.kit.steady else self.chance.below(len(self.stations) + 1)
        step = self.chance.pick(STEPS)
        if which == len(self.stations):
            self.desk.skew = step if self.desk.skew == NOTHING else NOTHING
            self.say(f"the coordinator's clock is {self.desk.skew} off")
        else:
            station = list(self.stations.values())[which]
            station.skew = step if station.skew == NOTHING else NOTHING
            self.say(f"the clock of {station.name} is {station.skew} off")

    def _cancel(self) -> None:
        # A child is cancelled with its parent, or by a person: the request of a service is that of a parent.
        saga = self.chance.pick([saga for saga in self.sagas.values() if saga.parent is None])
        self.count("cancel")
        self.say(f"somebody asks for {saga.id} to be cancelled")
        self.desk.cancel(saga)

    # --- what everybody uses ---------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        """Count that something has happened in this schedule."""
        self.counts[what] += 1

    def say(self, line: str) -> None:
        """Tell what happens to whoever reads the history."""
        if self.history is not None:
            self.history.append(line)

    def later(self, pause: timedelta, task: Task) -> None:
        """Let something happen after a pause, whatever else does."""
        heappush(self._timers, (self.now + pause, self.tasks * 1000 + len(self._timers), task))

    def publish(self, rows: Iterable[Task]) -> None:
        """Put committed rows on their way: at once, late, twice."""
        strikes = self.chance.strikes
        for row in rows:
            if strikes(Fault.DELAY):
                self.count("delay")
                self.late.append(row)
            else:
                self.bag.append(row)
            if self._keeps and self.random() < 0.3:
                self.archive.append(row)
            if strikes(Fault.DUPLICATE):
                self.count("published twice")
                self.late.append(row)

    # --- the end ---------------------------------------------------------------------------------------------

    def _check_rest(self) -> None:
        for station in self.stations.values():
            station.check_rest()
        for saga in self.sagas.values():
            self._check_saga(saga)

    def _check_saga(self, saga: SagaUnderTest) -> None:
        instance = self.desk.instance(saga.id)
        if instance is None and self.kit.short:
            self.count("never heard of before its expiry")
        elif instance is None:
            raise Violation(f"liveness: the coordinator never heard of {saga.id}")
        elif instance.phase is Phase.READY and instance.stuck is None:
            check_ready(self, saga)
        elif instance.phase in ENDED:
            saga.books.check_end(instance.phase)
            saga.marks_at_rest = dict(saga.books.marks)
            self.count(f"ended {instance.phase.value}")
            if saga.outcome != instance.phase.value:
                raise Violation(f"outcome: {saga.id} is {instance.phase.value}, its starter knows {saga.outcome!r}")
        elif instance.stuck is None:
            check_open(self, instance)
        else:
            self._check_stuck(saga, instance.stuck.value, instance.phase)

    def _waits_for_outside(self, saga: SagaUnderTest, phase: Phase) -> bool:
        """Return whether a saga past its pivot waits for an event that never comes; before it the deadline helps."""
        return phase is Phase.COMMITTED and any(
            (step.name, "") not in self.stations[step.service].runs.get(saga.id, {})
            for step in saga.topology.plan.steps
            if step.kind is StepKind.RECEIVE
        )

    def _check_stuck(self, saga: SagaUnderTest, why: str, phase: Phase) -> None:
        self.count(f"stuck {why}")
        allowed = {
            "undo_failed": bool(self.counts["compensation failed for good"]),
            "overdue": self.kit.short or self._waits_for_outside(saga, phase),
            "too_late": self.kit.short,
            "in_doubt": self.kit.memory is BRIEF or self.now > BEGIN + LONG.key_ttl * 0.8,
            "plan_unknown": bool(self.counts["coordinator does not know the plan"]),
        }
        if not allowed.get(why):
            raise Violation(f"liveness: {saga.id} is stuck ({why}) without a reason")
        unheard = self.counts["coordinator does not know the plan"]  # then it is told with the next report
        # A child that is called back is known to have completed until it is undone.
        if not unheard and saga.outcome not in ("stuck", "completed" if saga.parent is not None else "stuck"):
            raise Violation(f"outcome: {saga.id} is stuck ({why}), its starter knows {saga.outcome!r}")
