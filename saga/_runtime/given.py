"""Check a result that a person has given against the class of the service that stands for it."""

from __future__ import annotations

from pydantic import ValidationError

from saga._core.bodies import Command, ResolveRun, SkipRun
from saga._core.plan import Topology
from saga._core.upcasting import read_one_of
from saga._runtime.context import ServiceContext
from saga._runtime.trouble import misfits_of
from saga.errors import Undecodable


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
