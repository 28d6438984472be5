"""Look, before a service comes up, for open sagas that need steps which its code no longer has."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import StrEnum

from saga._core.definition import ServiceDefinition
from saga._core.fitting import needs_code_to_undo
from saga._core.plan import Topology
from saga._runtime.planbook import PlanBook
from saga.errors import PlanError
from saga.ports.fleet import OpenSteps

log = logging.getLogger("saga")

MARGIN_SECONDS = 60.0
"""How long after a saga's timeout its coordinator may still have to ask for the undo."""


class MissingSteps(StrEnum):
    """Say what an app does when open sagas need a step that its code no longer has, or has differently.

    REFUSE does not come up: what runs now goes on and brings them to their end. GO_ON comes up and leaves
    them to other replicas; what nobody can do waits until the saga's deadline, and its undo for ever.
    """

    REFUSE = "refuse"
    GO_ON = "go_on"


async def check_outgrown(
    store: object, book: PlanBook, definitions: Iterable[ServiceDefinition], answer: MissingSteps
) -> None:
    """Log each step that open sagas need and the code does not have; raises PlanError when the answer is REFUSE.

    A store that cannot tell is not asked. Raises StoreUnavailable.
    """
    for sentence in book.outdated():
        log.warning("%s", sentence)
    if not isinstance(store, OpenSteps):
        return
    found = [
        sentence
        for definition in definitions
        for plan in book.plans()
        if (topology := book.topology(plan.hash)) is not None
        for sentence in await _needed(store, book, definition.name, topology)
    ]
    for sentence in found:
        log.error("%s", sentence)
    if found and answer is MissingSteps.REFUSE:
        advice = (
            "leave the replicas that have the code running until these sagas have ended, or come up all the same "
            "with App(missing_steps=MissingSteps.GO_ON)"
        )
        raise PlanError([*found, advice])


async def _needed(store: OpenSteps, book: PlanBook, service: str, topology: Topology) -> list[str]:
    plan, fitness = topology.plan, book.fitness(service, topology.plan.hash)
    found: list[str] = []
    if fitness.steps:
        undone = [name for name in fitness.steps if needs_code_to_undo(topology.steps[name])]
        window = plan.forward_window_ms / 1000 - MARGIN_SECONDS
        open_ = await store.open_steps(service, plan.hash, list(fitness.steps), undone, window)
        found += [f"{fitness.steps[name]}; {_sagas(count)} may need it" for name, count in sorted(open_.items())]
    if fitness.ending and (count := await store.open_starts(service, plan.hash)):
        found.append(f"{fitness.ending}; {_sagas(count)} end here")
    return found


def _sagas(count: int) -> str:
    return f"{count} open saga{'s' if count > 1 else ''}"
