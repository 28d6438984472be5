"""Remember where the events of each plan go, so that one like those before is bound to its steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from saga._core.branches import EMPTY
from saga._core.definition import StepDefinition
from saga._core.envelope import Envelope
from saga._core.events import Event
from saga._core.plan import PlanStep, Topology
from saga._core.words import Kind

ROUTES = 1024
"""More than all plans of a service have events; types with a version that no plan names would have no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Say which steps of this replica take an event, each with the class that reads it without an upcaster."""

    topology: Topology
    steps: tuple[tuple[PlanStep, StepDefinition, type[Event]], ...]


@dataclass(frozen=True, slots=True)
class Routes:
    """Hold the routes of one service: neither a known plan nor what the code here can do of it ever changes."""

    _known: dict[tuple[str, str, str], Route] = field(default_factory=dict[tuple[str, str, str], Route])

    def find(self, envelope: Envelope, topic: str) -> Route | None:
        """Return the route of an event of a saga, None when it has to be sorted first."""
        if envelope.kind is not Kind.EVENT or envelope.branch == EMPTY:
            return None
        return self._known.get((envelope.plan, topic, envelope.type))

    def learn(
        self, envelope: Envelope, topic: str, topology: Topology, steps: Sequence[tuple[StepDefinition, type[Event]]]
    ) -> None:
        """Remember where an event went that came from `topic` and went to nothing but `steps`."""
        if envelope.branch == EMPTY or any(wanted.wire_type != envelope.type for _, wanted in steps):
            return
        if len(self._known) >= ROUTES:
            self._known.clear()
        bound = tuple((topology.steps[step.name], step, wanted) for step, wanted in steps)
        self._known[envelope.plan, topic, envelope.type] = Route(topology=topology, steps=bound)
