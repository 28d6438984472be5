"""Know the plans: publish them from the coordinator, follow them in the services."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import anyio
import orjson

from saga._core.definition import ServiceDefinition
from saga._core.envelope import Message
from saga._core.plan import Plan, Topology, topology_of
from saga._core.plan_check import check_service
from saga._core.planning import plan_from_json, plan_to_json
from saga._core.topics import PLANS
from saga.errors import PlanError, PlanUnknown, TransportUnavailable
from saga.ports import Publisher, Transport

log = logging.getLogger("saga")

FOLLOW_SECONDS = 1.0


class PlanBook:
    """Hold every plan this process knows by hash, and which one a (saga, version) points to.

    `problems` of a plan say where a service's code here does not match it; such a plan is known but
    not run.
    """

    def __init__(self, services: Iterable[ServiceDefinition] = ()) -> None:
        """Start empty; plans are checked against `services` as they come in."""
        self._services = {service.name: service for service in services}
        self._topologies: dict[str, Topology] = {}
        self._pointers: dict[tuple[str, int], Plan] = {}
        self._problems: dict[tuple[str, str], tuple[str, ...]] = {}
        self.learned: Callable[[], None] = lambda: None

    def learn(self, plan: Plan) -> None:
        """Take a plan in; its pointer moves only to a higher revision."""
        if plan.hash not in self._topologies:
            self._topologies[plan.hash] = topology_of(plan)
            for name, service in self._services.items():
                self._problems[name, plan.hash] = check_service(service, plan)
        current = self._pointers.get((plan.saga, plan.version))
        if current is None or plan.revision > current.revision:
            self._pointers[plan.saga, plan.version] = plan
        self.learned()

    def topology(self, plan_hash: str) -> Topology | None:
        """Return the plan with this hash, None when it is not known here."""
        return self._topologies.get(plan_hash)

    def problems(self, service: str, plan_hash: str) -> tuple[str, ...]:
        """Return where `service`'s code differs from a known plan; empty when it may run it."""
        return self._problems.get((service, plan_hash), ())

    def current(self, saga: str, version: int) -> Topology:
        """Return the plan new sagas start under; raises PlanUnknown."""
        plan = self._pointers.get((saga, version))
        if plan is None:
            msg = (
                f"no plan is known for {saga}.v{version}: start a coordinator with its plan file "
                "(`saga plan` writes it)"
            )
            raise PlanUnknown(msg)
        return self._topologies[plan.hash]

    def plans(self) -> tuple[Plan, ...]:
        """Return all plans known."""
        return tuple(topology.plan for topology in self._topologies.values())

    def missing(self) -> tuple[str, ...]:
        """Return one sentence for each saga of the services here that has no usable plan yet."""
        found: list[str] = []
        for service in self._services.values():
            for saga, version in sorted(_sagas_of(service)):
                plan = self._pointers.get((saga, version))
                if plan is None:
                    found.append(f"{service.name}: no plan published for {saga}.v{version}")
                else:
                    found.extend(self._problems[service.name, plan.hash])
        return tuple(found)


def _sagas_of(service: ServiceDefinition) -> set[tuple[str, int]]:
    steps = {(step.saga, step.version) for step in service.steps}
    return steps | {(start.saga, start.version) for start in service.starts}


async def publish_plans(publisher: Publisher, plans: Sequence[Plan]) -> None:
    """Publish each plan under its hash on the compacted topic; raises TransportUnavailable.

    The record under the pointer key repeats the plan with the highest revision of a (saga, version).
    """
    newest: dict[tuple[str, int], Plan] = {}
    for plan in plans:
        known = newest.get((plan.saga, plan.version))
        if known is None or plan.revision > known.revision:
            newest[plan.saga, plan.version] = plan
    bodies = [(f"plan/{plan.hash}", plan) for plan in plans]
    bodies += [(f"current/{plan.saga}.v{plan.version}", plan) for plan in newest.values()]
    messages = [Message(topic=PLANS, key=key.encode(), value=plan_to_json(plan)) for key, plan in bodies]
    for error in await publisher.publish(messages):
        if error is not None:
            msg = f"the plans could not be published on {PLANS}: {error}"
            raise TransportUnavailable(msg) from error


async def follow_plans(transport: Transport, book: PlanBook) -> None:
    """Take in plans from the topic as they appear, until cancelled."""
    async with transport.table(PLANS) as table:
        while True:
            for delivery in await table.changes(FOLLOW_SECONDS):
                if delivery.value is None:
                    continue
                try:
                    book.learn(plan_from_json(delivery.value))
                except (PlanError, orjson.JSONDecodeError) as error:
                    log.warning("a plan on %s cannot be read and is ignored: %s", PLANS, error)


async def wait_for_plans(book: PlanBook, timeout_seconds: float) -> None:
    """Return when every saga of the services here has a plan their code matches.

    Raises PlanError with what is missing after the timeout.
    """
    changed = anyio.Event()

    def learned() -> None:
        nonlocal changed
        changed.set()

    book.learned = learned
    try:
        with anyio.move_on_after(timeout_seconds):
            if book.missing():
                log.info("waiting up to %g s for plans on topic %s", timeout_seconds, PLANS)
            while book.missing():
                changed = anyio.Event()
                await changed.wait()
    finally:
        book.learned = lambda: None
    missing = book.missing()
    if missing:
        unpublished = any("no plan published" in problem for problem in missing)
        advice = "start a coordinator with the plan files" if unpublished else "write the plan again with `saga plan`"
        raise PlanError([*missing, f"waited {timeout_seconds:g} s for plans on topic {PLANS}: {advice}"])
