"""Fold what was read about one saga into its instance, check it, and send what follows.

Mirrors saga._runtime.folding.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, assert_never

from saga._core import topics
from saga._core.bodies import Close, Command, Hold, Keep, Outcome, Report, RunReported, Settled, Undo, kind_of
from saga._core.closure import is_complete
from saga._core.coordinator import Due, Input
from saga._core.effects import Effect, Send, SendClose, SendUndo, SettleChild, Tell
from saga._core.instance import ENDED, Instance, Phase, kept_until
from saga._core.participant import fact_of
from saga._core.verbs import Verb
from saga._core.words import Cause, Kind, Mark, RunKey, RunStatus, StepKind
from tests.simulation.books import Violation
from tests.simulation.chance import Fault
from tests.simulation.checks import check_decision, described
from tests.simulation.children import child_id
from tests.simulation.copying import replace
from tests.simulation.messages import message_of

if TYPE_CHECKING:
    from tests.simulation.desk import Desk
    from tests.simulation.world import Task, World

REPEATED = (Close, Undo, Hold, Keep)
"""What is sent again until it is answered."""


class Folder:
    """Decide about one saga at a time."""

    def __init__(self, world: World, desk: Desk) -> None:
        """Decide by the clock of `desk`."""
        self._world = world
        self._desk = desk
        self._rules = world.rules
        self._expiries: dict[str, datetime] = {}

    def prime(self, saga_id: str, expires_at: datetime, report: Report) -> None:
        """Know when a saga expires: an event from outside that came before the start has only guessed it."""
        step = (
            self._world.sagas[saga_id].topology.steps.get(report.fact.step) if isinstance(report, RunReported) else None
        )
        inside = isinstance(report, RunReported) and (step is None or step.kind is not StepKind.RECEIVE)
        if inside or saga_id not in self._expiries:
            self._expiries[saga_id] = expires_at

    def fold(
        self, name: str, saga_id: str, stored: Instance | None, inputs: list[Input], out: list[Task]
    ) -> Instance | None:
        """Return the instance to write, None when there is none, and add what is to be sent."""
        world, now = self._world, self._desk.clock
        expires_at = self._expiries[saga_id]
        if stored is None and all(isinstance(received, Settled) for received in inputs):
            return None
        if stored is None and now >= expires_at:
            world.count("a record of an unknown saga after its expiry")
            return None
        before = stored or Instance(saga_id=saga_id, expires_at=expires_at)
        if before.expires_at != expires_at:
            before = replace(before, expires_at=expires_at)
        reports = [received for received in inputs if not isinstance(received, Due | Verb)]
        if reports and world.chance.strikes(Fault.COORDINATOR_UNPLANNED):
            world.count("coordinator does not know the plan")
            world.say(f"{name} does not know the plan and learns {reports}")
            return self._rules.learn_unplanned(before, reports, "another")
        instance = before
        for received in inputs:
            topology = world.sagas[saga_id].topology
            decision = self._rules.decide(topology, instance, received, now)
            if self._rules.short is not None and isinstance(received, RunReported):
                short = self._rules.short(topology, instance, (received.fact,), now)
                if short and (short.instance, short.effects) != (decision.instance, decision.effects):
                    raise Violation(f"the short way comes to something else: {short} is not {decision}")
            check_decision(instance, decision, world.counts)
            self._check(instance, decision.instance, received, now)
            if world.history is not None:
                world.say(f"{name} {described(instance, decision, received)}")
            instance = decision.instance
            for effect in decision.effects:
                self._send(instance, effect, out)
        return instance

    # --- checks --------------------------------------------------------------------------------------------------

    def _check(self, before: Instance, after: Instance, received: Input, now: datetime) -> None:
        if after.phase is Phase.RUNNING:
            self._check_due(after)
        if isinstance(received, Due):
            self._check_time(before, after, now)
        if after.undos and not before.undos:
            self._check_first_undo(after)

    def _check_due(self, after: Instance) -> None:
        """Check that a saga that goes forward is looked at when its timeout passes."""
        if after.stuck is not None or after.mark is Mark.HELD or after.due_at is None:
            return
        plan = self._world.sagas[after.saga_id].topology.plan
        timeout = after.expires_at + after.paused - timedelta(milliseconds=plan.forward_window_ms)
        if after.due_at > timeout and RunKey(step=plan.start) in after.runs:
            raise Violation(f"always due: {after.saga_id} is due at {after.due_at}, its timeout at {timeout}")

    def _check_time(self, before: Instance, after: Instance, now: datetime) -> None:
        """Check what only time decides: an open saga is kept, and one that has not started has no deadline."""
        if after.phase not in ENDED and now >= after.expires_at and kept_until(after) <= now:
            raise Violation(f"kept: {after.saga_id} is open after its expiry and its rows are not kept")
        closes = before.cause is None and after.cause is Cause.DEADLINE
        if closes and after.runs and all(".receive_" in key.step for key in after.runs):
            raise Violation(f"deadline: {after.saga_id} has not started")

    def _check_first_undo(self, after: Instance) -> None:
        """Check that a deadline does not undo what has finished."""
        if after.cause is not Cause.DEADLINE or any(fact.status is not RunStatus.DONE for fact in after.runs.values()):
            return  # what was in doubt in a list may have ended since, and is undone all the same
        saga = self._world.sagas[after.saga_id]
        if RunKey(step=saga.topology.plan.start) not in after.runs:
            return  # without the start's record nobody knows what was asked for
        runs = [
            fact_of(row)
            for station in self._world.stations.values()
            for row in station.runs.get(after.saga_id, {}).values()
        ]
        seen = replace(after, runs={fact.key: fact for fact in runs})
        if is_complete(saga.shape, seen):
            raise Violation(f"deadlines ask: {after.saga_id} has finished and is undone because of its deadline")

    # --- effects -------------------------------------------------------------------------------------------------

    def _send(self, instance: Instance, effect: Effect, out: list[Task]) -> None:
        world, plan = self._world, self._world.sagas[instance.saga_id].topology.plan
        body: Command | Outcome
        match effect:
            case SendClose(service=service):
                body = Close()
            case SendUndo(key=key):
                service, body = key.service, Undo(step=key.step, branch=key.branch)
            case Send(service=service, command=command):
                body = command
            case Tell(outcome=outcome):
                service, body = plan.starter, outcome
            case SettleChild(key=key):
                child = child_id(instance.saga_id, (key.step, key.branch))
                self._desk.send(child, kept_until(instance), Settled(), out)
                return
            case _:
                assert_never(effect)
        tells = isinstance(body, Outcome)
        kind = Kind.OUTCOME if isinstance(body, Outcome) else kind_of(body)
        topic = topics.OUTCOMES if tells else topics.commands_topic(service)
        item = message_of(
            kind,
            body,
            topic,
            saga_id=instance.saga_id,
            plan=plan.hash,
            now=self._desk.clock,
            expires_at=kept_until(instance),
        )
        if isinstance(body, REPEATED) and world.chance.strikes(Fault.COMMAND_LOST):
            world.count("command lost")
            return
        station = world.stations[service]
        out.append((station.events.receives if tells else station.commands.obeys, item))
