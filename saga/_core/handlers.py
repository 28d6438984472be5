"""Check the signatures of handlers: what each parameter gets, and what a result means."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any

from saga._core.definition import Binding, Bindings, InputDefinition
from saga._core.events import Event, Refusal
from saga._core.function import Parameter, Signature
from saga._core.run import Ended, Run
from saga._core.start import is_event
from saga._core.step import Joining, NotFound
from saga._core.words import StepKind, Takes
from saga.errors import DeclarationError

_NOT_MANY = (Event, Refusal, str, bytes)
"""Classes that can be iterated and yet are no lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Be what a step may return; `stored` are all results that a compensation or `recorded` may meet.

    `fan_out` is the one of `emits` that is returned as a list.
    """

    emits: tuple[type[Event], ...]
    ends: bool
    refuses: tuple[type[Refusal], ...]
    fan_out: type[Event] | None = None

    @property
    def stored(self) -> tuple[Any, ...]:
        """Return the events, a list for the fan-out, and NoneType where the step may emit nothing."""
        emitted = tuple(listed(event) if event is self.fan_out else event for event in self.emits)
        return (*emitted, NoneType) if self.ends else emitted


def listed(event: type[Event]) -> Any:
    """Return the type `list[event]`."""
    return list[event]  # type: ignore[valid-type]


def element_of(option: Any) -> type[Event] | None:
    """Return the Event class of `list[Event]`, None for anything else."""
    if typing.get_origin(option) is not list:
        return None
    (element,) = typing.get_args(option) or (None,)
    return element if is_event(element) else None


def input_of(signature: Signature, where: str) -> type[Event]:
    """Return the event class a step reacts to; its parameters must be (event, run)."""
    _check_run(signature, where)
    first = next(iter(signature.parameters))
    if len(first.options) > 1 and all(is_event(option) for option in first.options if option is not NoneType):
        msg = (
            f"{where}: {first.name}: {_names(first.options)}: a step reacts to one event; two events need two steps, "
            f"or a @service.join that waits for both"
        )
        raise DeclarationError(msg)
    received = first.options[0] if len(first.options) == 1 else None
    if not is_event(received):
        msg = (
            f"{where}: its first parameter {first.name!r} is {_names(first.options)}, not an Event class; "
            f"a step reacts to an event: write `async def name(event: OrderPlaced, run: Run)`"
        )
        raise DeclarationError(msg)
    for parameter in signature.parameters:
        if parameter is not first and not _is_run(parameter):
            msg = (
                f"{where}: nothing can be given for parameter {parameter.name!r} "
                f"({_names(parameter.options)}); "
                f"a step takes (event, run), so remove it or carry it in {received.__qualname__}"
            )
            raise DeclarationError(msg)
    return received


def inputs_of(signature: Signature, where: str) -> tuple[tuple[InputDefinition, ...], Bindings]:
    """Return the events a join takes and what each of its parameters gets; its parameters are events and the Run."""
    _check_run(signature, where)
    inputs: list[InputDefinition] = []
    bindings: list[Binding | int] = []
    for parameter in signature.parameters:
        if _is_run(parameter):
            bindings.append(Binding.RUN)
            continue
        option = parameter.options[0] if len(parameter.options) == 1 else None
        element = element_of(option)
        event = element if element is not None else option
        if not is_event(event):
            msg = (
                f"{where}: parameter {parameter.name!r} is {_names(parameter.options)}; a join takes events, "
                f"`list[Event]` of every branch of a fan-out, and the Run"
            )
            raise DeclarationError(msg)
        bindings.append(len(inputs))
        inputs.append(InputDefinition(event=event, takes=Takes.EVERY if element is not None else Takes.ONE))
    if not inputs:
        msg = f"{where}: takes no event; write `async def name(a: OrderPaid, b: StockReserved, run: Run)`"
        raise DeclarationError(msg)
    return tuple(inputs), tuple(bindings)


def results_of(signature: Signature, received: tuple[type[Event], ...], kind: StepKind, where: str) -> Results:
    """Return what a step emits and refuses, from its return annotation; one alternative may be a list."""
    for option in signature.returns:
        _check_result(option, where)
    lists = [element for element in map(element_of, signature.returns) if element is not None]
    events = tuple(element_of(option) or option for option in signature.returns if _is_emitted(option))
    refuses = tuple(option for option in signature.returns if _is_refusal(option))
    if len(lists) > 1 or len(set(events)) < len(events):
        msg = (
            f"{where}: returns {_names(signature.returns)}; a step fans out one event class, and returns it either as "
            f"a list or alone"
        )
        raise DeclarationError(msg)
    if met := [event for event in received if event in events]:
        msg = (
            f"{where}: reacts to {met[0].__qualname__} and emits it, so it would run on its own event; "
            f"emit an event of another class"
        )
        raise DeclarationError(msg)
    if kind is StepKind.RETRIABLE and refuses:
        msg = (
            f"{where}: a retriable step must succeed in the end and cannot refuse, but it "
            f"returns {_names(refuses)}; "
            f"remove it, or declare @service.step with a compensation"
        )
        raise DeclarationError(msg)
    if len(refuses) == len(signature.returns):
        msg = f"{where}: returns only {_names(refuses)} and can never succeed; add its event, or `| None` for no event"
        raise DeclarationError(msg)
    fan_out = lists[0] if lists else None
    return Results(emits=events, ends=NoneType in signature.returns, refuses=refuses, fan_out=fan_out)


def bind_compensation(
    signature: Signature, received: tuple[Any, ...], stored: tuple[Any, ...], where: str, joining: Joining
) -> Bindings:
    """Return what each parameter of a compensation gets, found by its type.

    `received` are the types of the step's inputs; those of a join are bound by their place.
    """
    _check_run(signature, where)
    _check_silent(signature, where)
    result = frozenset[Any](stored)
    nothing = frozenset[Any]((NoneType,))
    bindings: list[Binding | int] = []
    for parameter in signature.parameters:
        options = frozenset(parameter.options)
        binding: Binding | int
        if _is_run(parameter):
            binding = Binding.RUN
        elif len(options) == 1 and parameter.options[0] in received:
            place = received.index(parameter.options[0])
            binding = place if joining is Joining.JOIN else Binding.INPUT
        elif options == result and result != nothing:
            binding = Binding.RESULT
        else:
            raise DeclarationError(_unbound(parameter, received, stored, where))
        if binding in bindings:
            msg = (
                f"{where}: parameter {parameter.name!r} asks for {_names(parameter.options)} a second time; remove one"
            )
            raise DeclarationError(msg)
        bindings.append(binding)
    return tuple(bindings)


def check_recorded(signature: Signature, results: Results, where: str) -> None:
    """Raise DeclarationError unless the parameters are (result, run), as the step returns it."""
    _check_run(signature, where)
    _check_silent(signature, where)
    expected = _names(results.stored)
    first, *others = signature.parameters
    if len(others) != 1 or not _is_run(others[0]) or frozenset(first.options) != frozenset(results.stored):
        msg = f"{where}: takes the step's result and the run; write `(result: {expected}, run: Run) -> None`"
        raise DeclarationError(msg)


def check_confirm(signature: Signature, received: type[Event], results: Results, where: str) -> None:
    """Raise DeclarationError unless it takes (event, run) and returns what the step returns, or NotFound."""
    allowed = (*results.stored, *results.refuses)
    first, *others = signature.parameters or (None,)
    takes = first is not None and first.options == (received,) and len(others) == 1 and _is_run(others[0])
    found = frozenset(signature.returns)
    if not takes or NotFound not in found or not found - {NotFound} <= frozenset(allowed) or len(found) == 1:
        returns = f"{_names(allowed)} | NotFound"
        msg = (
            f"{where}: takes the step's input and the run, and returns what the step returns or NotFound; "
            f"write `({received.__qualname__.lower()}: {received.__qualname__}, run: Run) -> {returns}`"
        )
        raise DeclarationError(msg)


def check_completed(signature: Signature, where: str) -> None:
    """Raise DeclarationError unless the parameters are (ended, run) and no refusal is returned."""
    if [parameter.options for parameter in signature.parameters] != [(Ended,), (Run,)]:
        msg = f"{where}: takes the child's ending and the run; write `(ended: Ended, run: Run) -> Event`"
        raise DeclarationError(msg)
    if any(map(_is_refusal, signature.returns)):
        msg = f"{where}: cannot refuse, since the child has completed; let a step of the child refuse"
        raise DeclarationError(msg)


def check_ended(signature: Signature, where: str) -> None:
    """Raise DeclarationError unless the parameters are (ended, run)."""
    _check_silent(signature, where)
    if [parameter.options for parameter in signature.parameters] != [(Ended,), (Run,)]:
        msg = f"{where}: takes the ending and the run; write `(ended: Ended, run: Run) -> None`"
        raise DeclarationError(msg)


def _unbound(parameter: Parameter, received: tuple[Any, ...], stored: tuple[Any, ...], where: str) -> str:
    """Say what a compensation's parameter could have been."""
    missed = [option for option in stored if option not in parameter.options]
    if 0 < len(missed) < len(stored) and all(option in stored for option in parameter.options):
        return (
            f"{where}: parameter {parameter.name!r} is {_names(parameter.options)}, but the step may return "
            f"{_names(missed)} too, and is undone then as well; write `{parameter.name}: {_names(stored)}`"
        )
    offered = f"the input ({' or '.join(map(_name, received))})"
    if stored != (NoneType,):
        offered = f"the step's result ({_names(stored)}), {offered}"
    reason = "all alternatives together" if len(stored) > 1 else "exactly these classes"
    return (
        f"{where}: parameter {parameter.name!r} is {_names(parameter.options)}, which is none of {offered} "
        f"or Run; a compensation is bound by type, so write one of these ({reason})"
    )


def _check_run(signature: Signature, where: str) -> None:
    runs = sum(_is_run(parameter) for parameter in signature.parameters)
    if runs != 1:
        found = "has no Run" if runs == 0 else "has more than one Run"
        msg = f"{where}: {found} among its parameters; write exactly one, such as `run: Run`"
        raise DeclarationError(msg)


def _check_silent(signature: Signature, where: str) -> None:
    if signature.returns != (NoneType,):
        msg = f"{where}: returns {_names(signature.returns)}, which nobody would receive; write `-> None`"
        raise DeclarationError(msg)


def _check_result(option: Any, where: str) -> None:
    if option is NoneType or _is_emitted(option) or _is_refusal(option):
        return
    origin = typing.get_origin(option) or option
    if isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, _NOT_MANY):
        msg = (
            f"{where}: returns {_names((option,))}; to go on once for each element write `list[Event]` with one Event "
            f"class, or emit one event that carries the elements"
        )
        raise DeclarationError(msg)
    msg = (
        f"{where}: returns {_names((option,))}, which is neither an Event class nor a Refusal "
        "class nor None; "
        f"return the fact as an Event"
    )
    raise DeclarationError(msg)


def _is_run(parameter: Parameter) -> bool:
    return parameter.options == (Run,)


def _is_emitted(option: Any) -> bool:
    return is_event(option) or element_of(option) is not None


def _is_refusal(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, Refusal) and option.wire_type != ""


def _names(options: Iterable[Any]) -> str:
    return " | ".join(map(_name, options))


def _name(option: Any) -> str:
    if option is NoneType:
        return "None"
    return option.__qualname__ if isinstance(option, type) and not typing.get_args(option) else str(option)
