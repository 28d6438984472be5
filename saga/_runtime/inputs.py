"""Read what a stored run gives its handlers: its events, in whatever version they came, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from saga._core.branches import EMPTY
from saga._core.definition import Binding, InputDefinition, StepDefinition
from saga._core.events import Event
from saga._core.gathering import Payloads, elements_of, gathered_of
from saga._core.rows import RunRow
from saga._core.sealing import misread
from saga._core.upcasting import read_one_of, read_payload
from saga._core.versions import version_of
from saga._core.words import Takes
from saga._runtime.trouble import HandlerTrouble
from saga.errors import Undecodable

Values = dict[Binding | int, Any]
"""What each binding of a handler stands for."""

Result = Event | list[Event] | None


def input_class(step: StepDefinition, wire_type: str) -> type[Event]:
    """Return the class in which a step takes events of a wire type's name."""
    name, _ = version_of(wire_type)
    return next((taken.event for taken in step.inputs if taken.event.wire_name == name), step.input)


def read_input(step: StepDefinition, wire_type: str, branch: str, payload: bytes) -> Event | None:
    """Return the event of a delivery, None for the one that says that a fan-out had nothing to go on with.

    Raises Undecodable, pydantic's ValidationError.
    """
    if branch == EMPTY:
        return None
    return read_payload(input_class(step, wire_type), wire_type, payload, step.upcasters)


def inputs_of_run(step: StepDefinition, run: RunRow) -> Values:
    """Return the stored events of a run by binding; raises HandlerTrouble where they do not fit the code."""
    try:
        if not step.is_join:
            event = read_payload(step.input, run.input_type, run.input or b"{}", step.upcasters)
            return {Binding.INPUT: event}
        gathered = gathered_of(run)
        return {number: _joined(step, taken, gathered) for number, taken in enumerate(step.inputs)}
    except (ValidationError, Undecodable) as error:
        raise HandlerTrouble(misread(error, run.input)) from error


def _joined(step: StepDefinition, taken: InputDefinition, gathered: Mapping[str, Payloads]) -> Event | list[Event]:
    found: Payloads = ()
    for event, payloads in gathered.items():
        if version_of(event)[0] == taken.event.wire_name:
            found = payloads
    events = [read_payload(taken.event, wire_type, payload, step.upcasters) for wire_type, payload in found]
    if taken.takes is Takes.EVERY:
        return events
    if not events:
        msg = f"{step.name} has gathered no {taken.event.wire_type}; the plan it began under joins other events"
        raise Undecodable(msg)
    return events[0]


def result_of_run(step: StepDefinition, run: RunRow) -> Result:
    """Return the stored result of a run; raises HandlerTrouble where it does not fit the code."""
    if not run.result_type:
        return None
    payload = run.result or b"{}"
    try:
        if run.fan_out is None:
            return read_one_of(step.emits, run.result_type, payload, step.upcasters)
        return [read_one_of(step.emits, run.result_type, element, step.upcasters) for element in elements_of(payload)]
    except (ValidationError, Undecodable) as error:
        raise HandlerTrouble(misread(error, payload)) from error
