"""Stand between the runtime and the user's handlers: call them, or let happen what a fault says."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, assert_never

import anyio

from saga._core.batch import Batch, Runs
from saga._core.definition import Handler, ServiceDefinition
from saga._core.events import Refusal
from saga._core.run import Run
from saga._core.step import Step
from saga.errors import SettingsError
from saga.testing.faults import Fail, Hang, Injected, Refuse, StepFault, When
from saga.testing.stage import Stage

Target = str | Step[..., Any] | Callable[..., Any]
"""A step, one of its other functions (its compensation, what it records), or the name `service.function`."""


@dataclass(slots=True, kw_only=True)
class _Armed:
    fault: StepFault
    left: int
    runs: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])


@dataclass(slots=True, kw_only=True)
class Calls:
    """Count the calls of handlers and let faults strike in them.

    `names` are all functions of the services as `service.function`; `undo_of` says which step a
    compensation belongs to, `undoable` which steps have one, `refusals` what each may refuse with.
    """

    stage: Stage
    names: dict[str, Any] = field(default_factory=dict[str, Any])
    undo_of: dict[str, str] = field(default_factory=dict[str, str])
    undoable: set[str] = field(default_factory=set[str])
    refusals: dict[str, tuple[type[Refusal], ...]] = field(default_factory=dict[str, tuple[type[Refusal], ...]])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    _armed: list[_Armed] = field(default_factory=list[_Armed])
    _called: set[tuple[str, str, str]] = field(default_factory=set[tuple[str, str, str]])

    def arm(self, fault: StepFault) -> None:
        """Let a fault strike in the next calls of its step; does not block."""
        self._armed.append(_Armed(fault=fault, left=fault.times))

    def name_of(self, target: Target) -> str:
        """Return a function's name as `service.function`; raises SettingsError for one that is in no service here."""
        if isinstance(target, Step):
            target = target.name
        if isinstance(target, str):
            if target in self.names:
                return target
        else:
            found = [name for name, handler in self.names.items() if handler is target]
            if found:
                return found[0]
        msg = f"{target!r} is no step, compensation or on_end of these services; there are {', '.join(self.names)}"
        raise SettingsError(msg)

    def refuses(self, target: Target, refusal: Refusal) -> str:
        """Return the name of a step; raises SettingsError unless it may return this refusal."""
        name = self.name_of(target)
        allowed = self.refusals.get(name, ())
        if type(refusal) not in allowed:
            kinds = ", ".join(each.__qualname__ for each in allowed) or "none"
            msg = f"{name} cannot refuse with {type(refusal).__qualname__}; its annotation allows {kinds}"
            raise SettingsError(msg)
        return name

    def step_of(self, target: Target) -> str:
        """Return the name of the step that a function belongs to."""
        name = self.name_of(target)
        return self.undo_of.get(name, name)

    # --- between the runtime and the handlers ---

    def watched(self, definition: ServiceDefinition) -> ServiceDefinition:
        """Return a service whose handlers, whatever they are for, are called through here."""
        for step in definition.steps:
            self.refusals[step.name] = step.refuses
            if step.compensation is not None:
                self.undo_of[_name(definition.name, step.compensation.handler)] = step.name
                self.undoable.add(step.name)
        watched: ServiceDefinition = self._watched(definition.name, definition)
        return watched

    def _watched(self, service: str, value: Any) -> Any:
        """Return a definition with every async function in it replaced."""
        if inspect.iscoroutinefunction(value):
            return self._handler(service, value)
        if isinstance(value, tuple):
            several: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
            return tuple(self._watched(service, one) for one in several)
        if not is_dataclass(value) or isinstance(value, type):
            return value
        old = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        new = {name: self._watched(service, one) for name, one in old.items()}
        changed = {name: one for name, one in new.items() if one is not old[name] and one != old[name]}
        return replace(value, **changed) if changed else value

    def _handler(self, service: str, handler: Handler) -> Handler:
        name = _name(service, handler)
        self.names[name] = handler

        async def watched(*args: Any) -> Any:
            return await self._call(name, handler, args)

        return watched

    async def _call(self, name: str, handler: Handler, args: Sequence[Any]) -> Any:
        if args and isinstance(args[-1], Runs):
            return await self._call_for_all(name, handler, args[0], args[-1])
        run = next((arg for arg in args if isinstance(arg, Run)), None)
        saga_id, branch = (run.saga_id, run.branch) if run is not None else ("", "")
        self.counts[name] = self.counts.get(name, 0) + 1
        for armed in list(self._armed):
            if armed.fault.step == name and (found := await self._struck(armed, handler, args, saga_id, branch)):
                return found
        self._called.add((name, saga_id, branch))
        return await handler(*args)

    async def _call_for_all(self, name: str, handler: Handler, events: Batch[Any], runs: Runs) -> Batch[Any]:
        """Call a step that takes a batch for those that no fault lets refuse; it counts once for each event."""
        self.counts[name] = self.counts.get(name, 0) + len(runs)
        armed_here = [armed for armed in self._armed if armed.fault.step == name]
        results: list[Any] = [None] * len(runs)
        for place, run in enumerate(runs):
            for armed in armed_here:
                if isinstance(armed.fault, Refuse) and results[place] is None:
                    results[place] = self._refused(armed, armed.fault.refusal, run.saga_id, run.branch)
        left = [place for place, result in enumerate(results) if result is None]
        if left:
            chosen = Runs(runs=tuple(runs[place] for place in left), lead=runs.lead)
            args = (Batch(events[place] for place in left), chosen)
            for armed in armed_here:
                if not isinstance(armed.fault, Refuse):
                    await self._struck(armed, handler, args, "", "")
            self._called |= {(name, run.saga_id, run.branch) for run in chosen}
            for place, result in zip(left, await handler(*args), strict=True):
                results[place] = result
        return Batch(results)

    async def _struck(
        self, armed: _Armed, handler: Handler, args: Sequence[Any], saga_id: str, branch: str
    ) -> Refusal | None:
        match armed.fault:
            case Refuse(refusal=refusal):
                return self._refused(armed, refusal, saga_id, branch)
            case Fail(when=when) | Hang(when=when):
                if armed.left == 0:
                    return None
                armed.left -= 1
                self.stage.strike(replace(armed.fault, times=1))
                if when is When.AFTER:
                    self._called.add((armed.fault.step, saga_id, branch))
                    await handler(*args)
                if isinstance(armed.fault, Hang):
                    await anyio.sleep_forever()
                msg = f"{armed.fault.step} was made to fail"
                raise Injected(msg)
            case _:
                assert_never(armed.fault)

    def _refused(self, armed: _Armed, refusal: Refusal, saga_id: str, branch: str) -> Refusal | None:
        """Refuse a run for good, or never: one that was called may have had its effect outside already."""
        if (saga_id, branch) in armed.runs:
            return refusal
        if armed.left == 0 or (armed.fault.step, saga_id, branch) in self._called:
            return None
        armed.left -= 1
        armed.runs.add((saga_id, branch))
        self.stage.strike(replace(armed.fault, times=1))
        return refusal


def _name(service: str, handler: Any) -> str:
    return f"{service}.{getattr(handler, '__name__', repr(handler))}"
