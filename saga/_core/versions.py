"""Hold wire types of several versions against each other, while senders and readers move on one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from saga._core.plan import PlanStep, Topology

_DIGITS = 9
"""Versions with more digits are nobody's; the bound keeps strange input cheap."""

Ways = Mapping[str, str]
"""The wire type that each older one is turned into, one step up."""


def version_of(wire_type: str) -> tuple[str, int]:
    """Return name and version of a wire type such as `order.placed.v2`; ("", 0) when it is not one."""
    name, dot, version = wire_type.rpartition(".v")
    if not dot or not version.isascii() or not version.isdigit() or len(version) > _DIGITS:
        return ("", 0)
    return (name, int(version))


def planned_type(topology: Topology, wire_type: str) -> str:
    """Return the event of the plan that `wire_type` stands for, "" when there is none.

    A saga keeps the plan it was started under while its services move on, so an event may have a later version
    than the plan names. It stands for its own type if that is planned, else for the newest older version.
    Whether a reader can read it is the reader's question.
    """
    if wire_type in topology.sources:
        return wire_type
    name, version = version_of(wire_type)
    found = {planned: version_of(planned) for planned in topology.sources}
    older = [planned for planned, (kin, known) in found.items() if name and kin == name and known < version]
    return max(older, key=lambda planned: found[planned][1], default="")


def leads(older: str, wanted: str, ways: Ways) -> bool:
    """Return whether a wire type is the wanted one or can be turned into it; versions only rise, so this ends."""
    while older != wanted and older in ways:
        older = ways[older]
    return older == wanted


def as_taken(coded: PlanStep, planned: PlanStep, ways: Ways) -> PlanStep:
    """Return a step of the code with the versions the plan says it takes, where the code can read them as its own.

    Code that works with `order.placed.v2` and reads v1 as v2 takes both: it matches a plan whose sender sends v1.
    """
    events = [each.event for each in planned.inputs]
    joins = [replace(join, event=_planned_for(events, join.event, ways)) for join in coded.joins]
    return replace(
        coded,
        reacts_to=_planned_for(events, coded.reacts_to, ways),
        joins=tuple(sorted(joins, key=lambda join: join.event)),
    )


def as_emitted(coded: PlanStep, planned: PlanStep, ways: Ways) -> PlanStep:
    """Return a step of the code with the versions the plan says it emits, where the code emits later ones.

    Enough for a saga that is open already, see `planned_type`; a new one is started under a plan that says what is.
    """
    events = [*planned.emits, planned.fan_out]
    return replace(
        coded,
        emits=tuple(sorted({_planned_for(events, event, ways) for event in coded.emits})),
        fan_out=_planned_for(events, coded.fan_out, ways),
    )


def _planned_for(planned: Iterable[str], coded: str, ways: Ways) -> str:
    """Return the planned wire type that the code's own can stand for, itself when there is none."""
    known = sorted(planned)
    if coded in known:
        return coded
    return next((wire_type for wire_type in known if wire_type and leads(wire_type, coded, ways)), coded)
