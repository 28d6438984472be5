"""Turn what a service declared into definitions, refusing everything that cannot work."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

from saga._core.agreeing import check_dependencies, check_wire_types, one_value_each
from saga._core.declare import Service
from saga._core.definition import (
    Binding,
    Bindings,
    ChildDefinition,
    CompensationDefinition,
    InputDefinition,
    ReceiveDefinition,
    Saga,
    ServiceDefinition,
    StartDefinition,
    StepDefinition,
    Upcasters,
)
from saga._core.events import Event
from saga._core.function import Function, Signature, read_signature
from saga._core.handlers import (
    Results,
    bind_compensation,
    check_completed,
    check_confirm,
    check_ended,
    check_recorded,
    input_of,
    inputs_of,
    listed,
    results_of,
)
from saga._core.plan import Undoing
from saga._core.sets import one_by_one
from saga._core.start import START, Start
from saga._core.step import CompensationDeclaration, Joining, Nothing, StepDeclaration
from saga._core.subscribing import resolved
from saga._core.upcasting import check_ways, upcasters_of
from saga._core.words import Effects, Handles, Takes
from saga.errors import DeclarationError


def resolve(service: Service) -> ServiceDefinition:
    """Return what one service declared, annotations read; raise DeclarationError for the first fault."""
    upcasters = upcasters_of(service.name, service.declared.upcasters)
    definition = ServiceDefinition(
        name=service.name,
        steps=tuple(_step(declaration, upcasters) for declaration in service.declared.steps),
        starts=_starts(service, upcasters),
        migrations=service.migrations,
        sagas=_sagas(service),
        receives=tuple(
            ReceiveDefinition(name=r.name, saga=r.saga.name, version=r.saga.version, event=r.event)
            for r in service.declared.receives
        ),
        upcasters=upcasters,
        locks=tuple(service.declared.locks),
        subscribers=resolved(service.declared.subscribers, (s.name for s in service.declared.steps), upcasters),
    )
    check_wire_types((definition,))
    check_ways(service.name, upcasters, _events_of(definition))
    return definition


def resolve_all(services: Iterable[Service]) -> tuple[ServiceDefinition, ...]:
    """Resolve the services of one app, checked against each other; raise DeclarationError likewise."""
    definitions = tuple(resolve(service) for service in services)
    for one, other in combinations(definitions, 2):
        if one.name == other.name:
            msg = f"Service {one.name!r} is declared twice in one app; declare it once and import it where steps are"
            raise DeclarationError(msg)
    one_value_each((saga for definition in definitions for saga in definition.sagas), "its services")
    check_wire_types(definitions)
    check_dependencies(definitions)
    return definitions


def _sagas(service: Service) -> tuple[Saga, ...]:
    declared = service.declared
    return one_value_each(
        (
            *(start.saga for start in declared.starts),
            *(step.saga for step in declared.steps),
            *(received.saga for received in declared.receives),
            *(saga for saga, _ in declared.ends),
        ),
        f"service {service.name}",
    )


def _step(declaration: StepDeclaration, upcasters: Upcasters) -> StepDefinition:
    where = declaration.where
    signature, handles = one_by_one(read_signature(declaration.function, where), declaration.calls, where)
    if handles is Handles.BATCH and (declaration.joining is Joining.JOIN or declaration.child is not None):
        msg = f"{where}: only a step that takes one event of a saga can take a Batch of them; take the events alone"
        raise DeclarationError(msg)
    inputs, bindings = _inputs(declaration, signature)
    received = tuple(taken.event for taken in inputs)
    child = None if declaration.child is None else _child(declaration, declaration.child, signature)
    if child is None:
        results = results_of(signature, received, declaration.kind, where)
    else:
        results = _results_of_child(declaration, received)
    recorded = declaration.recorded
    if recorded is not None:
        check_recorded(read_signature(recorded, f"{where}: recorded"), results, f"{where}: recorded")
    confirm = declaration.confirm
    if confirm is not None:
        if declaration.joining is Joining.JOIN:
            msg = f"{where}: confirm: a join cannot be confirmed; let a step after it make the call"
            raise DeclarationError(msg)
        check_confirm(read_signature(confirm, f"{where}: confirm"), received[0], results, f"{where}: confirm")
    compensation = _compensation(declaration, tuple(map(_as_parameter, inputs)), results.stored)
    return StepDefinition(
        name=declaration.name,
        saga=declaration.saga.name,
        version=declaration.saga.version,
        kind=declaration.kind,
        effects=_effects(declaration),
        handler=declaration.function.handler,
        bindings=bindings,
        input=received[0],
        inputs=inputs,
        fan_out=results.fan_out,
        delay_seconds=0.0 if declaration.delay is None else declaration.delay.total_seconds(),
        within_seconds=0.0 if declaration.within is None else declaration.within.total_seconds(),
        child=child,
        handles=handles,
        emits=results.emits,
        ends=results.ends,
        refuses=results.refuses,
        dependency=declaration.calls,
        timeout_seconds=declaration.timeout.total_seconds(),
        retry=declaration.retry,
        compensation=compensation,
        recorded=None if recorded is None else recorded.handler,
        confirm=None if confirm is None else confirm.handler,
        undoing=_undoing(declaration, compensation),
        upcasters=upcasters,
    )


def _effects(declaration: StepDeclaration) -> Effects:
    if declaration.child is not None:
        return Effects.CHILD
    return Effects.LOCAL if declaration.calls is None else Effects.EXTERNAL


def _inputs(declaration: StepDeclaration, signature: Signature) -> tuple[tuple[InputDefinition, ...], Bindings]:
    if declaration.joining is Joining.JOIN:
        return inputs_of(signature, declaration.where)
    return (InputDefinition(event=input_of(signature, declaration.where)),), (Binding.INPUT, Binding.RUN)


def _as_parameter(taken: InputDefinition) -> Any:
    return taken.event if taken.takes is Takes.ONE else listed(taken.event)


def _child(declaration: StepDeclaration, start: Start[Any], signature: Signature) -> ChildDefinition:
    if signature.returns != (start.event,):
        msg = (
            f"{declaration.where}: starts {start.saga}, so it returns its start event and nothing else; "
            f"write `-> {start.event.__qualname__}`"
        )
        raise DeclarationError(msg)
    return ChildDefinition(
        start=start.name,
        saga=start.saga.name,
        version=start.saga.version,
        event=start.event,
        completed=None if declaration.completed is None else declaration.completed.handler,
    )


def _results_of_child(declaration: StepDeclaration, received: tuple[type[Event], ...]) -> Results:
    """Return what the parent's step emits: what its `completed` returns, nothing where it has none."""
    where = f"{declaration.where}: completed"
    if declaration.completed is None:
        return Results(emits=(), ends=True, refuses=())
    signature = read_signature(declaration.completed, where)
    check_completed(signature, where)
    return results_of(signature, received, declaration.kind, where)


def _compensation(
    declaration: StepDeclaration, received: tuple[Any, ...], results: tuple[Any, ...]
) -> CompensationDefinition | None:
    declared = declaration.compensation
    if not isinstance(declared, CompensationDeclaration):
        return None
    where = f"{declaration.where}: compensation"
    return CompensationDefinition(
        handler=declared.function.handler,
        bindings=bind_compensation(
            read_signature(declared.function, where), received, results, where, declaration.joining
        ),
        effects=Effects.LOCAL if declared.calls is None else Effects.EXTERNAL,
        dependency=declared.calls,
        timeout_seconds=declared.timeout.total_seconds(),
        retry=declared.retry,
    )


def _undoing(declaration: StepDeclaration, compensation: CompensationDefinition | None) -> Undoing:
    if declaration.child is not None:
        return Undoing.CHILD
    if compensation is not None:
        return Undoing(compensation.effects.value)
    return Undoing.NOTHING if declaration.compensation is Nothing.NOTHING else Undoing.NEVER


def _starts(service: Service, upcasters: Upcasters) -> tuple[StartDefinition, ...]:
    ends: dict[tuple[str, int], Function] = {}
    for saga, function in service.declared.ends:
        where = f"{service.name}.on_end ({saga})"
        if not any((s.saga.name, s.saga.version) == (saga.name, saga.version) for s in service.declared.starts):
            msg = (
                f"{where}: only the starter hears of the end; add `{service.name}.starts(...)`, "
                "or move it to the starter"
            )
            raise DeclarationError(msg)
        check_ended(read_signature(function, where), where)
        ends[saga.name, saga.version] = function
    found: list[StartDefinition] = []
    for start in service.declared.starts:
        end = ends.get((start.saga.name, start.saga.version))
        found.append(
            StartDefinition(
                name=f"{service.name}.{START}",
                saga=start.saga.name,
                version=start.saga.version,
                event=start.event,
                on_end=None if end is None else end.handler,
                upcasters=upcasters,
            )
        )
    return tuple(found)


def _events_of(definition: ServiceDefinition) -> list[type[Event]]:
    events = [start.event for start in definition.starts] + [each.event for each in definition.subscribers]
    for step in definition.steps:
        events += (step.input, *(taken.event for taken in step.inputs), *step.emits)
    return events
