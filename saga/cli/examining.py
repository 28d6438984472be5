"""Read the facts that `saga doctor` judges: databases, a broker, what is announced, and what the code makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from shlex import quote
from urllib.parse import parse_qs, urlsplit, urlunsplit

import anyio

from outbox.sqlite.checkup import file_facts
from outbox.urls import file_of, open_checkup, open_coordination_store, without_driver
from saga._core.announcing import divided, unplanned
from saga._core.brokers import Presence, TopicState
from saga._core.diagnosing import Limits
from saga._core.doctor.brokers import COORDINATOR_GROUP
from saga._core.doctor.facts import Barred, BrokerFacts, DatabaseFacts, Facts, FleetFacts, PlanFact, Trouble
from saga._core.outages import DependencyState, dependencies
from saga._core.plan import Plan
from saga._core.planning import plan_from_json
from saga._core.topics import BREAKERS, MANIFESTS
from saga._runtime.drift import Announced
from saga._runtime.stations import topic_specs
from saga.cli.breaking import read_said
from saga.cli.changes import changes
from saga.cli.explaining import store_word
from saga.cli.planfiles import build_plans
from saga.cli.targets import definitions_at, manifests_at, runs_at
from saga.errors import GrantMissing, PlanError, SagaError, StoreUnavailable, TransportError, TransportUnavailable
from saga.ports import Clock, Transport
from saga.ports.brokers import Broker
from transports.urls import open_broker, open_transport

READ_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Say what to look at; `settle_seconds` is how long to wait between two looks at the groups."""

    stores: tuple[str, ...] = ()
    transport: str = ""
    targets: tuple[str, ...] = ()
    partitions: int = 0
    limits: Limits = field(default_factory=Limits)
    settle_seconds: float = 2.0
    clock: Clock | None = None
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep


async def examine(asked: Asked) -> Facts:
    """Read all facts; what cannot be asked is a fact, too. Raises SettingsError, BadTarget, PlanError."""
    coded: tuple[Plan, ...] = ()
    if asked.targets:
        manifests = manifests_at(asked.targets)
        coded = build_plans(manifests) if any(manifest.sagas for manifest in manifests) else ()
    databases = [await _database(url, name, asked.clock) for url, name in _named_apart(asked.stores).items()]
    stores = dict.fromkeys(asked.stores)
    published = [plan for url, facts in zip(stores, databases, strict=True) for plan in await _plans(url, facts)]
    facts = Facts(
        databases=tuple(databases),
        plans=tuple(_held_against(coded, published)) if _knows_plans(databases) else (),
        targets=" ".join(map(quote, asked.targets)),
        runs=runs_at(asked.targets),
        transport=quote(asked.transport) if asked.transport else "",
        longest_step_seconds=max((s.timeout_ms / 1000 for p in (*coded, *published) for s in p.steps), default=0.0),
    )
    if not asked.transport or asked.transport.startswith("memory:"):
        return facts
    broker, fleet = await _fleet(asked, coded or tuple(published), published)
    return replace(facts, broker=broker, fleet=fleet)


# --- databases -------------------------------------------------------------------------------------------------


async def _database(url: str, name: str, clock: Clock | None) -> DatabaseFacts:
    checkup = open_checkup(url, clock=clock)  # says what is wrong with the URL, or which extra is missing
    path = file_of(url)
    named = DatabaseFacts(
        name=name,
        store=store_word(url),
        psql="" if path else quote(_for_psql(url)),
        file=file_facts(path) if path else None,
    )
    if named.file is not None and not named.file.there:
        text = "there is no such file, and looking makes none"
        return replace(named, barred=Barred(trouble=Trouble.AWAY, text=text))
    try:
        async with checkup:
            return replace(await checkup.facts(), name=name, store=named.store, psql=named.psql)
    except SagaError as error:
        return replace(named, barred=Barred(trouble=_trouble(error), text=str(error)))


def _trouble(error: SagaError) -> Trouble:
    if isinstance(error, GrantMissing):
        return Trouble.DENIED
    return Trouble.AWAY if isinstance(error, StoreUnavailable) else Trouble.REFUSED


def _for_psql(url: str) -> str:
    """Return a URL without its password, which psql asks for, and without what only saga understands."""
    from outbox.postgres.settings import read_url  # noqa: PLC0415 - the core install has no asyncpg

    parts = urlsplit(read_url(without_driver(url), None)[0])
    who, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{who.partition(':')[0]}{at}{host}"))


def _named_apart(urls: Iterable[str]) -> dict[str, str]:
    """Return by what name each database is told of: its place, with schema and user where that is several's."""
    names = {url: _shown(url) for url in urls}
    shared = {name for name, times in Counter(names.values()).items() if times > 1}
    return {url: _shown_apart(url) if name in shared else name for url, name in names.items()}


def _shown(url: str) -> str:
    if path := file_of(url):
        return f"sqlite:///{path}"
    parts = urlsplit(without_driver(url))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _shown_apart(url: str) -> str:
    parts = urlsplit(without_driver(url))
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    schema = parse_qs(parts.query).get("schema", [""])[-1]
    place = _shown(url).replace("://", f"://{user}@", 1) if user else _shown(url)
    return f"{place}?schema={schema}" if schema else place


def _knows_plans(databases: Iterable[DatabaseFacts]) -> bool:
    return any(_is_sound(facts) for facts in databases)


def _is_sound(facts: DatabaseFacts) -> bool:
    behind = any(migration.phase == "before" for migration in facts.migrations)
    missing = facts.server is not None and bool(facts.server.missing)
    return facts.barred is None and "coordinator" in facts.components and not behind and not missing


async def _plans(url: str, facts: DatabaseFacts) -> Sequence[Plan]:
    if not _is_sound(facts):
        return ()
    try:
        async with open_coordination_store(url) as coordination:
            return [plan_from_json(row.body) for row in await coordination.put_plans(())]
    except (SagaError, PlanError):
        return ()


def _held_against(coded: Iterable[Plan], published: Sequence[Plan]) -> Iterable[PlanFact]:
    for plan in coded:
        title = f"{plan.saga} v{plan.version}"
        known = [one for one in published if (one.saga, one.version) == (plan.saga, plan.version)]
        newest = max(known, key=lambda one: one.revision, default=None)
        if newest is None:
            yield PlanFact(title=title, coded=plan.hash, published="")
            continue
        told = changes(newest, plan)
        yield PlanFact(title=title, coded=plan.hash, published=newest.hash, revision=newest.revision, changes=told)


# --- the broker, and what is announced on it -------------------------------------------------------------------


async def _fleet(
    asked: Asked, plans: Sequence[Plan], published: Sequence[Plan]
) -> tuple[BrokerFacts, FleetFacts | None]:
    facts = _named(asked)
    try:
        async with open_broker(asked.transport) as broker:
            facts = await _look(broker, asked, plans, facts)
    except TransportError as error:
        trouble = Trouble.AWAY if isinstance(error, TransportUnavailable) else Trouble.REFUSED
        return replace(facts, barred=Barred(trouble=trouble, text=str(error))), None
    return facts, await _announced(asked, facts.topics, plans, published)


def _named(asked: Asked) -> BrokerFacts:
    parts = urlsplit(asked.transport)
    user = parse_qs(parts.query).get("user", ["ANONYMOUS"])[0]
    return BrokerFacts(
        name=f"kafka://{parts.netloc}",
        bootstrap=parts.netloc,
        principal=f"User:{user}",
    )


async def _look(broker: Broker, asked: Asked, plans: Sequence[Plan], facts: BrokerFacts) -> BrokerFacts:
    specs = topic_specs(definitions_at(asked.targets), plans, asked.partitions or 1)
    topics = await broker.topics(specs)
    groups = [*sorted(_services(plans)), COORDINATOR_GROUP]
    there = [topic.name for topic in topics if topic.presence is Presence.THERE]
    before = await broker.groups(groups)
    after = before
    if any(group.members for group in before):
        await asked.sleep(asked.settle_seconds)
        after = await broker.groups(groups)
    ahead = await broker.ahead(there, asked.limits.ahead_seconds)
    return replace(facts, topics=tuple(topics), before=tuple(before), groups=tuple(after), ahead=tuple(ahead))


def _services(plans: Iterable[Plan]) -> set[str]:
    found: set[str] = set()
    for plan in plans:
        found |= {plan.starter, *(step.service for step in plan.steps)}
    return found


async def _announced(
    asked: Asked, topics: Sequence[TopicState], plans: Sequence[Plan], published: Sequence[Plan]
) -> FleetFacts:
    there = {topic.name for topic in topics if topic.presence is Presence.THERE}
    announced = Announced()
    states: Sequence[DependencyState] = ()
    try:
        async with AsyncExitStack() as stack:
            transport = await stack.enter_async_context(open_transport(asked.transport))
            if MANIFESTS in there:
                await _hear(transport, announced)
            if BREAKERS in there:
                states = dependencies(await read_said(transport), datetime.now(UTC))
    except TransportError as error:
        return FleetFacts(barred=Barred(trouble=Trouble.AWAY, text=str(error)))
    running = {replica.service for replica in announced.live}
    return FleetFacts(
        silent=tuple(sorted(_services(plans) - running)) if MANIFESTS in there else (),
        dependencies=tuple(states),
        drift=tuple(_drift(announced, published)) if published else (),
        divided=tuple(divided(announced.live.values()).values()),
    )


async def _hear(transport: Transport, announced: Announced) -> None:
    async with transport.table(MANIFESTS) as table:
        with anyio.move_on_after(READ_SECONDS):
            while not await table.caught_up():
                for delivery in await table.changes(1.0):
                    try:
                        announced.take(delivery, 0.0)
                    except PlanError:
                        continue  # the coordinator warns of what cannot be read


def _drift(announced: Announced, published: Sequence[Plan]) -> Iterable[str]:
    running: dict[str, list[str]] = {}
    for replica, live in sorted(announced.live.items()):
        running.setdefault(live.hash, []).append(str(replica))
    for hash_, replicas in running.items():
        manifest = announced.manifests.get(hash_)
        for sentence in unplanned(manifest, published) if manifest is not None else ():
            yield f"{', '.join(replicas)} {sentence}"
