"""Let readers and senders of different versions meet in one plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from saga._core.manifest import SagaManifest
from saga._core.plan import PlanStep

Part = tuple[str, SagaManifest]
"""A service and its part in the saga at hand."""


def as_sent(parts: Sequence[Part]) -> tuple[list[Part], list[str]]:
    """Return the parts with every step taking the version that is emitted, and one sentence for each that cannot.

    A step keeps the version its code works with where somebody emits it, else it takes the one emitted version
    that it reads as its own. What nobody emits stays as it is.
    """
    sent = {event.type: service for service, part in parts for event in part.emits}
    problems: list[str] = []
    found: list[Part] = []
    for service, part in parts:
        older = {read.type: read.older for read in part.reads}
        steps = tuple(_as_sent(step, older, sent, problems) for step in part.steps)
        found.append((service, replace(part, steps=steps)))
    return found, problems


def _as_sent(
    step: PlanStep, older: Mapping[str, Sequence[str]], sent: Mapping[str, str], problems: list[str]
) -> PlanStep:
    def chosen(event: str) -> str:
        emitted = [kin for kin in (event, *older.get(event, ())) if kin in sent]
        if len(emitted) > 1:
            spelled = " and ".join(f"{kin} (by {sent[kin]})" for kin in emitted)
            problems.append(
                f"{step.name}: takes {event} in several versions that are all emitted: {spelled}; "
                f"a step of a plan takes one, so let all emit the same version"
            )
        return emitted[0] if emitted else event

    return replace(
        step,
        reacts_to=chosen(step.reacts_to),
        joins=tuple(replace(join, event=chosen(join.event)) for join in step.joins),
    )
