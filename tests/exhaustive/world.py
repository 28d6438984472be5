"""Be the explored world: services, coordinator and messages in flight, each interned into a small number.

A state is `(instance, places, messages, budgets)`. What one component does with one input depends on
nothing else, so it is decided once and remembered; an explored transition is then a few lookups.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from saga._core.instance import ENDED, Instance, Phase
from saga._core.rows import InstanceRow
from saga._core.stored_instance import instance_of
from saga._core.words import Cause
from tests.exhaustive.calls import Caller
from tests.exhaustive.desk import Decided, Desk, settled_for_ever
from tests.exhaustive.ledger import Ledger, Violation, check_change, check_end
from tests.exhaustive.places import Arrival, ChildCancel, ChildTold, Message, Move, Order, Place, Service
from tests.exhaustive.rules import Rules
from tests.exhaustive.scenarios import Bounds, Scenario

Thing = TypeVar("Thing", bound=Hashable)


class State(NamedTuple):
    """Be one state of the world, in numbers given out by `Interned`; `budgets` is what may still happen."""

    instance: int
    places: tuple[int, ...]
    flying: tuple[int, ...]
    budgets: Bounds


class Step(NamedTuple):
    """Be a remembered move of a service or of the coordinator."""

    label: str
    to: int
    sent: tuple[int, ...]
    takeover: bool


class Next(NamedTuple):
    """Be one transition; `optional` ones need not ever happen."""

    label: str
    state: State
    optional: bool


class Interned(Generic[Thing]):
    """Give equal things one number."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.things: list[Thing] = []
        self._numbers: dict[Thing, int] = {}

    def number(self, thing: Thing) -> int:
        """Return the number of a thing."""
        number = self._numbers.get(thing)
        if number is None:
            number = self._numbers[thing] = len(self.things)
            self.things.append(thing)
        return number


def _moves(service: Service, before: Place, message: Message) -> Iterator[Move]:
    match message:
        case Arrival():
            return service.arrive(before, message)
        case Order(command=command):
            return service.obey(before, command)
        case ChildCancel(key=key):
            return service.cancel_child(before, key)
        case ChildTold():
            return service.child_told(before, message)
        case _:
            return iter(())


class World:
    """Yield what can happen next, and check what has."""

    def __init__(self, scenario: Scenario, rules: Rules) -> None:
        """Explore `scenario` under `rules`."""
        topology = scenario.topology
        self.scenario = scenario
        self._topology = topology
        names = sorted({*topology.services, topology.plan.starter})
        self._services = [Service(scenario, rules, name) for name in names]
        self._callers = [Caller(service) for service in self._services]
        self._index = {name: at for at, name in enumerate(names)}
        self._desk = Desk(scenario, rules)
        self._instances = Interned[InstanceRow]()
        self._known: dict[int, Instance] = {}
        self._places = Interned[tuple[int, Place]]()
        self._messages = Interned[Message]()
        self._delivered: dict[tuple[int, int], tuple[Step, ...]] = {}
        self._inside: dict[int, tuple[Step, ...]] = {}
        self._heard: dict[tuple[int, int], Step] = {}
        self._dull: dict[tuple[int, int], str] = {}
        self._timed: dict[tuple[int, bool], Step] = {}
        self._checked: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        self._ended: set[tuple[int, tuple[int, ...]]] = set()
        self.dropped: dict[str, int] = {}

    # --- states ----------------------------------------------------------------------------------------------

    def first(self, bounds: Bounds) -> State:
        """Return the world in which the start has been committed and nothing else has happened."""
        places = tuple(self._places.number((at, service.first())) for at, service in enumerate(self._services))
        starter = self._services[self._index[self._topology.plan.starter]]
        start = starter.first().runs[0]
        flying = [self._messages.number(message) for message in starter.published(start)]
        bounds = bounds._replace(deadlines=1) if self.scenario.late else bounds
        return State(self._instances.number(self._desk.first()), places, tuple(sorted(flying)), bounds)

    def has_ended(self, state: State) -> bool:
        """Return whether the saga has ended, or waits for a person because an undo has failed for good."""
        instance = self.instance(state.instance)
        if instance.phase is Phase.READY:
            return instance.cause is None
        return instance.phase in ENDED or (bool(self.scenario.sticks) and instance.stuck is Cause.UNDO_FAILED)

    def instance(self, number: int) -> Instance:
        """Return the instance a state has."""
        if number not in self._known:
            self._known[number] = instance_of(self._instances.things[number])
        return self._known[number]

    def following(self, state: State) -> Iterator[Next]:
        """Yield every transition out of a state; raises Violation when one breaks an invariant."""
        for flying in state.flying:
            rest = tuple(other for other in state.flying if other != flying)
            for step, at in self._deliver(state, flying):
                after = self._after(state, step, at, rest, state.budgets)
                yield Next(step.label, after, optional=False)
                if state.budgets.duplicates:
                    left = state.budgets._replace(duplicates=state.budgets.duplicates - 1)
                    twice = self._after(state, step, at, state.flying, left)
                    if flying in twice.flying:
                        yield Next(f"{step.label}, comes again", twice, optional=True)
        for at, place in enumerate(state.places):
            for step in self._go_on(place):
                if not step.takeover:
                    yield Next(step.label, self._after(state, step, at, state.flying, state.budgets), optional=False)
                elif state.budgets.takeovers:
                    left = state.budgets._replace(takeovers=state.budgets.takeovers - 1)
                    yield Next(step.label, self._after(state, step, at, state.flying, left), optional=True)
        yield from self._whims(state)

    def _whims(self, state: State) -> Iterator[Next]:
        budgets = state.budgets
        if budgets.deadlines:
            left = budgets._replace(deadlines=budgets.deadlines - 1)
            yield from self._whim(state, self._time(state.instance, cancel=False), left)
        if budgets.settles and self.instance(state.instance).phase is Phase.READY:
            left = budgets._replace(settles=0, cancels=0)
            yield from self._whim(state, self._settle(state.instance), left)
        if budgets.cancels:
            left = budgets._replace(cancels=budgets.cancels - 1)
            yield from self._whim(state, self._time(state.instance, cancel=True), left)

    def _whim(self, state: State, step: Step, budgets: Bounds) -> Iterator[Next]:
        if step.to != state.instance or step.sent:
            yield Next(step.label, self._after(state, step, -1, state.flying, budgets), optional=True)

    def _after(self, state: State, step: Step, at: int, flying: tuple[int, ...], budgets: Bounds) -> State:
        if at < 0:
            instance, places = step.to, state.places
        else:
            instance, places = state.instance, (*state.places[:at], step.to, *state.places[at + 1 :])
            if (state.places, places) not in self._checked:
                self._check(state.places, places)
        if (instance, places) not in self._ended:
            check_end(self._topology, self.instance(instance).phase, self._ledger(places))
            self._ended.add((instance, places))
        if step.sent:
            flying = tuple(sorted({*flying, *step.sent}))
        live = tuple([message for message in flying if not self._is_dull(instance, places, message)])
        return State(instance, places, live, budgets)

    # --- components --------------------------------------------------------------------------------------------

    def _at(self, message: Message) -> int:
        match message:
            case Arrival(step=step):
                return self._index[step.partition(".")[0]]
            case Order(service=service):
                return self._index[service]
            case ChildCancel(key=key) | ChildTold(key=key):
                return self._index[key.service]
            case _:
                return -1

    def _deliver(self, state: State, number: int) -> list[tuple[Step, int]]:
        at = self._at(self._messages.things[number])
        if at < 0:
            return [(self._hear(state.instance, number), at)]
        place = state.places[at]
        if (place, number) not in self._delivered:
            service, message = self._services[at], self._messages.things[number]
            before = self._places.things[place][1]
            self._delivered[place, number] = self._steps(at, _moves(service, before, message))
        return [(step, at) for step in self._delivered[place, number]]

    def _go_on(self, place: int) -> tuple[Step, ...]:
        if place not in self._inside:
            at, before = self._places.things[place]
            inside = [*self._callers[at].go_on(before), *self._services[at].grow(before)]
            self._inside[place] = self._steps(at, inside)
        return self._inside[place]

    def _steps(self, at: int, moves: Iterable[Move]) -> tuple[Step, ...]:
        return tuple(
            Step(
                move.label,
                self._places.number((at, move.place)),
                tuple(self._messages.number(message) for message in move.sent),
                move.takeover,
            )
            for move in moves
        )

    def _hear(self, instance: int, number: int) -> Step:
        if (instance, number) not in self._heard:
            report = self._messages.things[number]
            assert not isinstance(report, Arrival | Order | ChildCancel | ChildTold)
            self._heard[instance, number] = self._decided(self._desk.hear(self._instances.things[instance], report))
        return self._heard[instance, number]

    def _time(self, instance: int, *, cancel: bool) -> Step:
        if (instance, cancel) not in self._timed:
            row = self._instances.things[instance]
            self._timed[instance, cancel] = self._decided(self._desk.cancel(row) if cancel else self._desk.time(row))
        return self._timed[instance, cancel]

    def _settle(self, instance: int) -> Step:
        return self._decided(self._desk.settle(self._instances.things[instance]))

    def _decided(self, decided: Decided) -> Step:
        sent = tuple(self._messages.number(message) for message in decided.sent)
        return Step(decided.label, self._instances.number(decided.row), sent, takeover=False)

    # --- messages that can change nothing any more -----------------------------------------------------------

    def _is_dull(self, instance: int, places: tuple[int, ...], number: int) -> bool:
        """Return whether delivering the message, now or at any later time, changes nothing.

        Such a message is delivered at once. That is decided by the decisions themselves: what they let
        pass is not dull.
        """
        at = self._at(self._messages.things[number])
        component = instance if at < 0 else places[at]
        label = self._dull.get((component, number))
        if label is None:
            label = self._dull_label(instance, component, number)
            self._dull[component, number] = label
        if label:
            self.dropped[label] = self.dropped.get(label, 0) + 1
        return bool(label)

    def _dull_label(self, instance: int, component: int, number: int) -> str:
        message = self._messages.things[number]
        if isinstance(message, Order | ChildCancel | ChildTold):
            return ""
        if isinstance(message, Arrival):
            state = State(instance, (component,) * len(self._services), (), Bounds())
            steps = [step for step, _ in self._deliver(state, number)]
            dull = all(step.label in {"event duplicate", "event turned_away"} for step in steps)
            return steps[0].label if dull else ""
        step = self._hear(component, number)
        changes = step.to != component or step.sent
        dull = not changes and settled_for_ever(self.instance(component), message)
        return f"{step.label}, no news" if dull else ""

    # --- invariants --------------------------------------------------------------------------------------------

    def _ledger(self, places: tuple[int, ...]) -> Ledger:
        return {mark.key: mark for place in places for mark in self._places.things[place][1].marks}

    def _check(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        check_change(self._topology, self._ledger(before), self._ledger(after))
        self._checked.add((before, after))


__all__ = ["Next", "State", "Violation", "World"]
