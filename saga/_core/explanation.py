"""Hold what an explanation is made of, and what it is made from; see `explaining`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from saga._core.audit import AuditRow
from saga._core.inspecting import SagaRows
from saga._core.instance import Instance
from saga._core.plan import PlanStep, Topology
from saga._core.rows import RunRow
from saga._core.words import RunKey

MOST_LINES = 200
"""How many lines of one kind are told: a fan-out may have a thousand branches."""


class About(StrEnum):
    """Say what a line is about: how the saga began, why it turned, what people did, what was undone, what it awaits."""

    BEGAN = "began"
    CAUSE = "cause"
    PERSON = "person"
    UNDONE = "undone"
    WAITS = "waits"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Be one sentence, without its full stop; `run` is the run it is about, None for the whole saga."""

    about: About
    text: str
    at: datetime | None = None
    run: RunKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """Be a command that helps, without `--store`, and what it does; `command` is "" where none does it.

    `service` is whose database the command goes to, "" for the coordinator's.
    """

    text: str
    command: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Be everything there is to say about why a saga is as it is; texts may hold what handlers raised, no payloads."""

    saga_id: str
    title: str
    phase: str
    verdict: str
    lines: tuple[Line, ...] = ()
    mends: tuple[Mend, ...] = ()

    def about(self, kind: About) -> tuple[Line, ...]:
        """Return the lines of one kind, in their order."""
        return tuple(line for line in self.lines if line.about is kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Hold what is known of one saga; `rows` is None where nobody has looked at its services' databases."""

    instance: Instance
    topology: Topology | None
    rows: SagaRows | None
    audits: tuple[AuditRow, ...]
    now: datetime

    def row_of(self, key: RunKey) -> RunRow | None:
        """Return the run's own row, None where there is none or nobody has looked."""
        found = self.rows.runs if self.rows is not None else ()
        return next((row for row in found if row.key == key), None)

    def step_of(self, key: RunKey) -> PlanStep | None:
        """Return the run's step, None when the plan is not known or has none of that name."""
        return self.topology.steps.get(key.step) if self.topology is not None else None

    def last_act(self, verb: str) -> AuditRow | None:
        """Return the last time that a person did this."""
        return max((row for row in self.audits if row.verb == verb), key=lambda row: row.at, default=None)


def told_at(at: datetime | None) -> str:
    """Tell a time to the second, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at is not None else "an unknown time"
