"""Be the person who looks after sagas: holds and releases, cancels, retries, skips, resolves what is in doubt."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from saga._core.closure import demanded
from saga._core.instance import ENDED, Answer, Instance, UndoStep
from saga._core.verbs import (
    CancelSaga,
    HoldSaga,
    ReleaseSaga,
    ResolveStep,
    RetryStep,
    SkipStep,
    Verb,
)
from saga._core.words import Cause, Effects, Mark, RunKey, RunStatus, StepKind, Verdict
from tests.simulation.books import LIVE
from tests.simulation.chance import Fault

if TYPE_CHECKING:
    from tests.simulation.sagas import SagaUnderTest
    from tests.simulation.world import World

HOLDS = tuple(timedelta(seconds=seconds) for seconds in (1, 30, 300))


class Operator:
    """Speak verbs to the coordinator, at any time and when everything rests."""

    def __init__(self, world: World) -> None:
        """Look after `world`."""
        self._world = world
        self._insists = world.random() < 0.5

    # --- at any time -------------------------------------------------------------------------------------------

    def act(self, whim: Fault) -> None:
        """Do what a person might do at any moment."""
        world, saga = self._world, self._some()
        match whim:
            case Fault.HOLD:
                self._say(saga, HoldSaga())
                world.later(world.chance.pick(HOLDS), (self._release, saga))
            case Fault.CANCEL_VERB:
                self._say(saga, CancelSaga(reason="asked"))
            case Fault.RETRY:
                for key in self._waited_for(saga):
                    self._say(saga, RetryStep(key=key))
            case _:
                for key in self._waited_for(saga)[:1]:
                    self._skip_forward(saga, key)

    def _some(self) -> SagaUnderTest:
        return self._world.chance.pick(list(self._world.sagas.values()))

    def _release(self, saga: SagaUnderTest) -> None:
        self._say(saga, ReleaseSaga())

    def release_all(self) -> None:
        """Let go of everything that is held."""
        for saga in self._world.sagas.values():
            instance = self._world.desk.instance(saga.id)
            if instance is not None and instance.mark is Mark.HELD:
                self._say(saga, ReleaseSaga())

    def _waited_for(self, saga: SagaUnderTest) -> list[RunKey]:
        """Return the runs that the saga waits for, as the coordinator knows it."""
        instance = self._world.desk.instance(saga.id)
        if instance is None:
            return []
        topology = saga.topology
        return [
            key
            for fact in instance.runs.values()
            if fact.status is RunStatus.DONE
            for key in demanded(topology, fact)
            if key not in instance.runs and topology.steps[key.step].kind is not StepKind.RECEIVE
        ]

    def _skip_forward(self, saga: SagaUnderTest, key: RunKey) -> None:
        step = saga.topology.steps[key.step]
        if step.effects is not Effects.LOCAL:
            return  # a person would have to know that no call is under way
        allowed = [event for event in step.emits if event != step.fan_out] + [""] * (step.ends or not step.emits)
        if allowed:
            result = self._world.chance.pick(allowed)
            self._say(
                saga, SkipStep(key=key, reason="done by hand", result_type=result, result=b"{}" if result else b"")
            )

    def _say(self, saga: SagaUnderTest, verb: Verb) -> bool:
        self._world.say(f"a person says {verb} to {saga.id}")
        return self._world.desk.operate(saga.id, verb)

    # --- when everything rests ---------------------------------------------------------------------------------

    def moves(self) -> bool:
        """Get stuck sagas moving; return whether there was something to do."""
        acted = False
        for saga in self._world.sagas.values():
            instance = self._world.desk.instance(saga.id)
            if instance is not None and instance.stuck is not None and instance.phase not in ENDED:
                acted |= self._help(saga, instance)
        return acted

    def _help(self, saga: SagaUnderTest, instance: Instance) -> bool:
        verbs: list[Verb] = []
        match instance.stuck:
            case Cause.UNDO_FAILED:
                failed = [key for key, undo in instance.undos.items() if undo is UndoStep.FAILED]
                verbs += [
                    RetryStep(key=key) if self._insists else SkipStep(key=key, reason="undone by hand")
                    for key in failed
                ]
            case Cause.IN_DOUBT:
                verbs += [self._truth(saga, key) for key in instance.doubts]
            case Cause.TOO_LATE:
                late = [name for name, answer in instance.answers.items() if answer is Answer.ASKED]
                keys = [RunKey(step=name) for name in late]
                keys += [key for key, undo in instance.undos.items() if undo is UndoStep.ASKED]
                verbs += [SkipStep(key=key, reason="nothing is there") for key in keys[:1]]
            case _:
                return False
        # A list that was in doubt is more than a person can say: then the saga stays stuck.
        obeyed = [self._say(saga, verb) for verb in verbs]
        if any(obeyed):
            self._world.count(f"a person helps: {instance.stuck}")
        return any(obeyed)

    def _truth(self, saga: SagaUnderTest, key: RunKey) -> ResolveStep:
        """Look outside; by now nothing is under way any more."""
        mark = saga.books.marks.get((key.step, key.branch))
        if mark is None or mark.standing != LIVE:
            happened = mark is not None and bool(mark.emitted)
            verdict = Verdict.HAPPENED if happened else Verdict.NOT_HAPPENED
        else:
            verdict = Verdict.HAPPENED
        result = mark.emitted if mark is not None else ""
        payload = b"{}" if result else b""
        return ResolveStep(key=key, reason="looked it up", verdict=verdict, result_type=result, result=payload)
