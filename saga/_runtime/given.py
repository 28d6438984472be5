"""Check a result that a person gives against the class that stands for it: before it is sent, and at its service."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from saga._core.bodies import Command, ResolveRun, SkipRun
from saga._core.definition import ServiceDefinition
from saga._core.events import Event, Refusal
from saga._core.plan import Topology
from saga._core.upcasting import read_one_of
from saga._core.verbs import ResolveStep, SkipStep, Verb
from saga._runtime.context import ServiceContext
from saga._runtime.trouble import misfits_of
from saga.errors import Undecodable, VerbRefused

Class = type[Event | Refusal]


class Shapes:
    """Know classes of results and refusals, to check what a person gives before anything is sent."""

    def __init__(self, known: Iterable[Class]) -> None:
        """Go by these classes; several may stand for one type."""
        self._known: dict[str, set[Class]] = {}
        for each in known:
            self._known.setdefault(each.wire_type, set()).add(each)

    def check(self, verb: Verb) -> str:
        """Return what nobody here can know of a verb's result, as a part of a sentence; "" where it is known to fit.

        Raises VerbRefused when it does not.
        """
        if not isinstance(verb, SkipStep | ResolveStep) or not verb.result_type:
            return ""
        classes = self._known.get(verb.result_type, ())
        wrong = [why for each in classes if (why := _misfit(each, verb.result))]
        if wrong and len(wrong) == len(classes):
            raise VerbRefused(f"the result does not fit {verb.result_type}: {wrong[0]}")
        if classes:
            return ""
        service = verb.key.step.partition(".")[0]
        return f"whether the result fits {verb.result_type} is not known here: {service} checks it when it gets it"


def classes_of(definitions: Iterable[ServiceDefinition]) -> frozenset[Class]:
    """Return the classes of all that the steps of services emit and refuse with."""
    found: set[Class] = set()
    for step in (step for definition in definitions for step in definition.steps):
        found |= {*step.emits}
        found |= {*step.refuses}
    return frozenset(found)


def _misfit(known: Class, payload: bytes) -> str:
    try:
        known.model_validate_json(payload)
    except ValidationError as error:
        return misfits_of(error)
    return ""


def misfit_of(context: ServiceContext, topology: Topology, command: Command) -> str:
    """Return why the result of a command cannot be read here, without its values; "" when it can, or has none.

    Only the service has the class: a coordinator goes by the plan, which knows no more than the type's name.
    """
    if not isinstance(command, SkipRun | ResolveRun) or not command.result_type:
        return ""
    try:
        step = context.step(topology.plan.saga, topology.plan.version, command.step)
    except KeyError:  # other code than the plan's: there is nothing to go by
        return ""
    refusal = next((refusal for refusal in step.refuses if refusal.wire_type == command.result_type), None)
    try:
        if refusal is not None:
            refusal.model_validate_json(command.result)
        else:
            read_one_of(step.emits, command.result_type, command.result, step.upcasters)
    except (ValidationError, Undecodable) as error:
        why = misfits_of(error) if isinstance(error, ValidationError) else str(error)
        return f"the given result does not fit {command.result_type}: {why}"
    return ""
