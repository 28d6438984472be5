"""Read events of older versions: upcasters, checked when a service is resolved, and the payloads they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from saga._core.definition import Upcaster, Upcasters
from saga._core.events import Event
from saga._core.function import Function, Parameter, read_signature
from saga._core.start import is_event
from saga._core.versions import Ways
from saga.errors import DeclarationError, Undecodable

_EXAMPLE = "`def placed_v1_to_v2(old: OrderPlacedV1) -> OrderPlaced`"


# --- declared ------------------------------------------------------------------------------------------------


def upcasters_of(service: str, functions: Iterable[Function]) -> Upcasters:
    """Return a service's upcasters by the wire type each reads; raise DeclarationError for the first fault."""
    found: dict[str, Upcaster] = {}
    for function in functions:
        upcaster = _upcaster(service, function)
        first = found.setdefault(upcaster.source.wire_type, upcaster)
        if first is not upcaster:
            msg = (
                f"{service}: upcasters {first.name} and {upcaster.name} both read {upcaster.source.wire_type}; "
                f"one version has one way up, so remove one"
            )
            raise DeclarationError(msg)
    return found


def _upcaster(service: str, function: Function) -> Upcaster:
    name = function.handler.__name__
    where = f"{service}: upcaster {name}"
    signature = read_signature(function, where)
    if len(signature.parameters) != 1:
        msg = f"{where}: takes {len(signature.parameters)} parameters, not the one old event; write {_EXAMPLE}"
        raise DeclarationError(msg)
    (old,) = signature.parameters
    source = _one_event(old, where)
    target = _one_event(Parameter(name="return", options=signature.returns), where)
    if source.wire_name != target.wire_name:
        msg = (
            f"{where}: makes {target.wire_type} of {source.wire_type}, which are two events; an upcaster joins "
            f"versions of one, so give {target.__qualname__} name={source.wire_name!r}, or emit it from a step"
        )
        raise DeclarationError(msg)
    if source.wire_version >= target.wire_version:
        msg = (
            f"{where}: makes {target.wire_type} of {source.wire_type}, but versions only rise; "
            f"give {target.__qualname__} a version above {source.wire_version}, or turn the function round"
        )
        raise DeclarationError(msg)
    return Upcaster(name=name, source=source, target=target, handler=function.handler)


def _one_event(parameter: Parameter, where: str) -> type[Event]:
    if len(parameter.options) == 1 and is_event(parameter.options[0]):
        return parameter.options[0]
    spelled = " | ".join(getattr(option, "__qualname__", str(option)) for option in parameter.options)
    msg = f"{where}: {parameter.name} is {spelled}, not one Event class; write {_EXAMPLE}"
    raise DeclarationError(msg)


def check_ways(service: str, upcasters: Upcasters, used: Sequence[type[Event]]) -> None:
    """Raise DeclarationError unless every way up ends at an event that the service takes, emits or starts with."""
    wanted = {event.wire_type for event in used}
    for first in upcasters.values():
        last = first
        while last.target.wire_type in upcasters:  # versions rise, so this ends
            last = upcasters[last.target.wire_type]
        if last.target.wire_type not in wanted:
            end = last.target
            later = {
                e.wire_version: e for e in used if e.wire_name == end.wire_name if e.wire_version > end.wire_version
            }
            change = "let a step take it, or remove the upcaster"
            if later:
                change = f"add an upcaster from {end.wire_type} to {later[min(later)].wire_type}"
            msg = (
                f"{service}: upcaster {first.name} leads from {first.source.wire_type} to {end.wire_type}, "
                f"which none of its steps takes or emits; {change}"
            )
            raise DeclarationError(msg)


def ways_of(upcasters: Upcasters) -> Ways:
    """Return where each older wire type leads, one step up."""
    return {source: upcaster.target.wire_type for source, upcaster in upcasters.items()}


# --- used ----------------------------------------------------------------------------------------------------


def readable(wanted: type[Event], upcasters: Upcasters) -> dict[str, type[Event]]:
    """Return the class of every wire type that is read as `wanted`, its own first, older ones sorted behind it."""
    found = {wanted.wire_type: wanted}
    older = sorted(upcasters.values(), key=lambda upcaster: -upcaster.source.wire_version)
    for upcaster in older:  # from the newest down: a target stands there before what leads to it
        if upcaster.target.wire_type in found and upcaster.source.wire_type not in found:
            found[upcaster.source.wire_type] = upcaster.source
    return found


def reads(wanted: type[Event], wire_type: str, upcasters: Upcasters) -> bool:
    """Return whether a payload of `wire_type` can be read as `wanted`."""
    return wire_type in readable(wanted, upcasters)


def read_payload(wanted: type[Event], wire_type: str, payload: bytes, upcasters: Upcasters) -> Event:
    """Return a payload of any version as `wanted`, the version this code works with.

    The payload is read as the class of its own wire type; upcasters then lead to `wanted`, one after another.
    Raises pydantic's ValidationError for a payload that does not fit, Undecodable where no upcaster leads to
    `wanted` or one raises. Both leave the payload's values out of what an Undecodable says.
    """
    if wire_type == wanted.wire_type:
        return wanted.model_validate_json(payload)
    ways = readable(wanted, upcasters)
    if wire_type not in ways:
        msg = f"this code reads {' and '.join(ways)}, not {wire_type or 'a payload without a type'}"
        raise Undecodable(msg)
    event = ways[wire_type].model_validate_json(payload)
    while type(event) is not wanted:
        event = _lifted(upcasters[event.wire_type], event)
    return event


def _lifted(upcaster: Upcaster, old: Event) -> Event:
    try:
        new: Any = upcaster.handler(old)
    except Exception as error:  # the user's code
        msg = f"upcaster {upcaster.name} raised {type(error).__name__} for a {old.wire_type}"
        raise Undecodable(msg) from error
    if type(new) is not upcaster.target:
        msg = (
            f"upcaster {upcaster.name} returned {type(new).__qualname__}; "
            f"its annotation says {upcaster.target.__qualname__}"
        )
        raise Undecodable(msg)
    return new


def read_one_of(wanted: Iterable[type[Event]], wire_type: str, payload: bytes, upcasters: Upcasters) -> Event:
    """Return a payload as the first of `wanted` that it can be read as, a class of its own wire type before others.

    Raises as `read_payload` does.
    """
    classes = sorted(wanted, key=lambda event: event.wire_type != wire_type)
    for event in classes:
        if reads(event, wire_type, upcasters):
            return read_payload(event, wire_type, payload, upcasters)
    msg = f"this code reads {' and '.join(e.wire_type for e in classes)}, not {wire_type or 'a payload without a type'}"
    raise Undecodable(msg)
