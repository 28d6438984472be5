"""Know the plans: publish them from the coordinator, follow them in the services."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

import anyio
import orjson

from saga._core.budget import Paces
from saga._core.definition import ServiceDefinition
from saga._core.envelope import Message
from saga._core.fitting import FIT, Fitness, fitness
from saga._core.paces import PACE, PaceOfPlan, decode_pace
from saga._core.plan import Plan, Topology, topology_of
from saga._core.plan_check import check_service
from saga._core.planning import plan_from_json, plan_to_json
from saga._core.topics import PLANS
from saga.errors import PlanError, PlanUnknown, TransportUnavailable, Undecodable
from saga.ports import Publisher, Transport

log = logging.getLogger("saga")

FOLLOW_SECONDS = 1.0
SAY_AGAIN_SECONDS = 10.0


class PlanBook:
    """Hold every plan this process knows by hash, and which ones a (saga, version) has had.

    `problems` of a plan say where a service's code here does not match it: no saga is started under such a
    plan. `fitness` says what of it the code cannot do: only that is left to other replicas.
    """

    def __init__(self, services: Iterable[ServiceDefinition] = ()) -> None:
        """Start empty; plans are checked against `services` as they come in."""
        self._services = {service.name: service for service in services}
        self._topologies: dict[str, Topology] = {}
        self._revisions: dict[tuple[str, int], dict[int, Plan]] = {}
        self._problems: dict[tuple[str, str], tuple[str, ...]] = {}
        self._fitness: dict[tuple[str, str], Fitness] = {}
        self._paces: dict[str, PaceOfPlan] = {}
        self._current: dict[tuple[str, int, str], Topology] = {}
        self.learned: Callable[[], None] = lambda: None

    def learn(self, plan: Plan) -> None:
        """Take a plan in, whatever its revision."""
        if plan.hash not in self._topologies:
            self._topologies[plan.hash] = topology_of(plan)
            for name, service in self._services.items():
                self._problems[name, plan.hash] = check_service(service, plan)
                self._fitness[name, plan.hash] = fitness(service, plan)
        self._revisions.setdefault((plan.saga, plan.version), {}).setdefault(plan.revision, plan)
        self._current.clear()
        self.learned()

    def take_pace(self, pace: PaceOfPlan) -> None:
        """Remember how quick the steps of a plan are."""
        self._paces[pace.plan] = pace

    def paces(self, plan_hash: str, now: datetime) -> Paces:
        """Return how quick the steps of a plan are; nothing where that is not known, or not any more."""
        pace = self._paces.get(plan_hash)
        return pace.at_time(now) if pace is not None else {}

    def topology(self, plan_hash: str) -> Topology | None:
        """Return the plan with this hash, None when it is not known here."""
        return self._topologies.get(plan_hash)

    def problems(self, service: str, plan_hash: str) -> tuple[str, ...]:
        """Return where `service`'s code differs from a known plan; empty when it may start sagas under it."""
        return self._problems.get((service, plan_hash), ())

    def fitness(self, service: str, plan_hash: str) -> Fitness:
        """Return what of a known plan `service`'s code here cannot do."""
        return self._fitness.get((service, plan_hash), FIT)

    def current(self, saga: str, version: int, service: str) -> Topology:
        """Return the plan `service` starts new sagas under: the newest its code matches; raises PlanUnknown."""
        found = self._current.get((saga, version, service))
        if found is not None:
            return found
        plan = self._newest(saga, version, service)
        if plan is not None:
            return self._current.setdefault((saga, version, service), self._topologies[plan.hash])
        known = max(self._revisions.get((saga, version), ()), default=0)
        advice = "start a coordinator with its plan file (`saga plan` writes it)"
        if known:
            advice = f"{service}'s code matches none up to revision {known}; run `saga plan` and publish what it writes"
        msg = f"no plan is known for {saga}.v{version}: {advice}"
        raise PlanUnknown(msg)

    def _newest(self, saga: str, version: int, service: str) -> Plan | None:
        """Return the plan with the highest revision that `service`'s code matches."""
        revisions = self._revisions.get((saga, version), {})
        matching = [r for r, plan in revisions.items() if not self.problems(service, plan.hash)]
        return revisions[max(matching)] if matching else None

    def plans(self) -> tuple[Plan, ...]:
        """Return all plans known."""
        return tuple(topology.plan for topology in self._topologies.values())

    def missing(self) -> tuple[str, ...]:
        """Return what stands between the services here and their work: sagas without a plan that fits the code.

        A plan of any revision will do: while a fleet changes, a replica of yesterday may have to come up again.
        """
        return tuple(sentence for sentences in self._unmatched() for sentence in sentences)

    def outdated(self) -> tuple[str, ...]:
        """Return one sentence for each saga whose newest plan the services here do not match, though an older one."""
        found: list[str] = []
        for name, service in self._services.items():
            for saga, version in sorted(_sagas_of(service)):
                matched = self._newest(saga, version, name)
                newest = max(self._revisions.get((saga, version), {0: None}))
                if matched is not None and matched.revision < newest:
                    found.append(
                        f"{name}: this code matches revision {matched.revision} of {saga}.v{version}, "
                        f"but revision {newest} is published; deploy the code that matches"
                    )
        return tuple(found)

    def _unmatched(self) -> Iterator[tuple[str, ...]]:
        for name, service in self._services.items():
            for saga, version in sorted(_sagas_of(service)):
                if self._newest(saga, version, name) is not None:
                    continue
                revisions = self._revisions.get((saga, version))
                if not revisions:
                    yield (f"{name}: no plan published for {saga}.v{version}",)
                else:
                    yield self.problems(name, revisions[max(revisions)].hash)


def _sagas_of(service: ServiceDefinition) -> set[tuple[str, int]]:
    steps = {(step.saga, step.version) for step in service.steps}
    received = {(each.saga, each.version) for each in service.receives}
    return steps | received | {(start.saga, start.version) for start in service.starts}


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
                    if (delivery.key or b"").startswith(PACE.encode()):
                        book.take_pace(decode_pace(delivery.value))
                    else:
                        book.learn(plan_from_json(delivery.value))
                except (PlanError, Undecodable, orjson.JSONDecodeError) as error:
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
                with anyio.move_on_after(SAY_AGAIN_SECONDS) as waiting:
                    await changed.wait()
                if waiting.cancelled_caught and (missing := book.missing()):
                    log.info("still waiting for plans on topic %s: %s", PLANS, "; ".join(missing))
    finally:
        book.learned = lambda: None
    missing = book.missing()
    if missing:
        unpublished = any("no plan published" in problem for problem in missing)
        advice = "start a coordinator with the plan files" if unpublished else "write the plan again with `saga plan`"
        raise PlanError([*missing, f"waited {timeout_seconds:g} s for plans on topic {PLANS}: {advice}"])
