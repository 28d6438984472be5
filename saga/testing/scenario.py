"""Play a saga through with the real handlers: given rows, when it is started, expect how it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from saga._core.declare import Service
from saga._core.events import Event, Refusal
from saga._core.plain import plain_row
from saga._core.relay import messages_of
from saga._core.run import session_of
from saga._core.topics import events_topic
from saga._runtime.starter import SagaHandle
from saga._runtime.supervise import bare
from saga.errors import SettingsError
from saga.ports import Claim, Store
from saga.testing.expecting import Expected, in_order
from saga.testing.faults import COORDINATOR, Crash, Fail, Fault, Hang, Moment, Refuse, When
from saga.testing.fleet import Fleet, Group, fleet_of
from saga.testing.handlers import Calls, Target
from saga.testing.history import History
from saga.testing.process import Process, opened
from saga.testing.stage import Stage
from saga.testing.stores import StagedCoordination, StagedStore
from saga.testing.transports import StagedTransport
from saga.testing.virtual import VirtualClock

Started = TypeVar("Started")
SLACK = timedelta(hours=1)
"""How much longer than its own timeout a saga is waited for, in virtual time."""

_NUMBERS = count(1)


@dataclass(slots=True, kw_only=True)
class Scenario:
    """Be a running fleet: every service a process with a database of its own, a coordinator, one broker.

    `given` prepares, `when` starts, `expect` and its like compare. `refuse`, `fail`, `hang`, `crash` and `away` let
    something go wrong; `pass_time` waits, which takes no time in a virtual event loop (`saga.testing.run`).
    """

    stage: Stage
    calls: Calls
    processes: Mapping[str, Process]
    longest: timedelta

    @property
    def patience(self) -> timedelta:
        """Return how long a saga is waited for: the longest timeout of all sagas here, and an hour."""
        return self.longest + SLACK

    # --- given, when ---

    async def given(self, service: Service, sql: str, *args: object) -> int:
        """Run one statement in a service's database, committed, and return how many rows it touched."""
        async with self._store(service).unit(Claim(service=service.name, sagas=())) as unit:
            return await unit.db.execute(sql, *args)

    @asynccontextmanager
    async def session(self, service: Service) -> AsyncGenerator[Any]:
        """Open a session of SQLAlchemy's in a service's database: an `AsyncSession`, committed when the context ends.

        `await (await session.connection()).run_sync(Base.metadata.create_all)` makes the tables. Raises SettingsError
        without the extra `[sqlalchemy]`.
        """
        async with self._store(service).unit(Claim(service=service.name, sagas=())) as unit:
            turn = session_of(unit)
            try:
                yield turn.session
                await turn.flush()
            finally:
                await turn.close()

    async def when(self, started: Awaitable[Started]) -> Started:
        """Start a saga, or send it something, once every process is up, and return its handle.

        `handle = await s.when(place(OrderPlaced(...), key="o-1"))`
        """
        # Whoever was up may have died while another one was waited for.
        while down := [process for process in self.processes.values() if process.is_wanted and not process.is_up]:
            await down[0].wait_up()
        return await started

    async def hear(
        self,
        event: Event,
        *,
        source: Service | str,
        key: str | None = None,
        tenant: str = "",
        message_id: str = "",
        topic: str | None = None,
    ) -> None:
        """Let a plain event of `source` come in, and return once every service that subscribes has dealt with it.

        Under the same `message_id` it is the same event again; without one it is another each time. `source` need
        not be in the scenario. Raises what `Run.publish` does, TransportError when nobody has such a topic.
        """
        name = source if isinstance(source, str) else source.name
        row = plain_row(
            event,
            message_id=message_id or f"heard-{next(_NUMBERS)}",
            source_service=name,
            topic=events_topic(name) if topic is None else topic,
            key=key,
            tenant=tenant,
            now=self.now(),
            traceparent="",
        )
        async with next(iter(self.processes.values())).transport.publisher() as publisher:
            for error in await publisher.publish(messages_of(row)):
                if error is not None:
                    raise error

    async def pass_time(self, **parts: float) -> None:
        """Let time pass: `await s.pass_time(minutes=5)`; takes what `timedelta` takes."""
        await anyio.sleep(timedelta(**parts).total_seconds())

    def now(self) -> datetime:
        """Return the time of the scenario, aware, in UTC; it is also that of all databases."""
        return self.stage.clock.now()

    # --- expect ---

    def expect(self, handle: SagaHandle, *, within: timedelta | None = None) -> Expected:
        """Return what a saga's end can be compared with: `await s.expect(handle).completed()`.

        It is waited for `within` that time, by default the longest timeout of its sagas and an hour.
        """
        return Expected(handle=handle, history=self.stage.history, within=within or self.patience)

    async def rows(self, service: Service, sql: str, *args: object) -> list[Mapping[str, Any]]:
        """Return the rows of a query in a service's database."""
        async with self._store(service).unit(Claim(service=service.name, sagas=())) as unit:
            return [dict(row) for row in await unit.db.fetch(sql, *args)]

    async def expect_rows(self, service: Service, sql: str, rows: Sequence[Mapping[str, Any]], *args: object) -> None:
        """Compare a query's rows with the expected ones, in order; raises AssertionError with both."""
        found = await self.rows(service, sql, *args)
        if found != list(rows):
            msg = f"{service.name}: {sql}\nexpected {list(rows)}\n   found {found}\n{self.tell()}"
            raise AssertionError(msg)

    def ran(self, *steps: Target, of: SagaHandle | None = None) -> None:
        """Expect that these steps are done, in this order; others may lie between them."""
        done = [step for saga_id, step, _ in self.stage.history.done if of is None or of.saga_id == saga_id]
        in_order("done", [self.calls.name_of(step) for step in steps], done, self.stage.history)

    def undone(self, *steps: Target, of: SagaHandle | None = None) -> None:
        """Expect that these steps are undone, in this order; a compensation's own name stands for its step."""
        undone = [step for saga_id, step, _ in self.stage.history.undone if of is None or of.saga_id == saga_id]
        in_order("undone", [self.calls.step_of(step) for step in steps], undone, self.stage.history)

    def called(self, function: Target) -> int:
        """Return how often a handler was called, attempts that failed included."""
        return self.calls.counts.get(self.calls.name_of(function), 0)

    def tell(self) -> str:
        """Return everything that has happened so far, one line each."""
        return self.stage.history.tell()

    # --- what goes wrong ---

    def refuse(self, step: Target, refusal: Refusal, *, times: int = 1) -> None:
        """Let the next runs of a step refuse instead of being called; a branch cannot be chosen."""
        self.arm(Refuse(step=self.calls.refuses(step, refusal), refusal=refusal, times=times))

    def fail(self, function: Target, *, times: int = 1, when: When = When.BEFORE) -> None:
        """Let the next calls of a handler raise, before it does anything or after it has done its work."""
        self.arm(Fail(step=self.calls.name_of(function), times=times, when=when))

    def hang(self, function: Target, *, times: int = 1, when: When = When.BEFORE) -> None:
        """Let the next calls of a handler hang until they time out."""
        self.arm(Hang(step=self.calls.name_of(function), times=times, when=when))

    def crash(
        self,
        at: Target,
        *,
        moment: Moment = Moment.AFTER_COMMIT,
        number: int = 1,
        down: timedelta = timedelta(seconds=1),
    ) -> None:
        """Let the process of a step die when it commits, or sends, something about that step, and come back.

        `number` says which of these it is: a step with `calls=` commits that it is going to call, then the answer.
        """
        step = self.calls.step_of(at)
        process = next(p.name for p in self.processes.values() if any(_hosts(one, step) for one in p.services))
        self.arm(Crash(process=process, moment=moment, number=number, step=step, down_seconds=down.total_seconds()))

    @asynccontextmanager
    async def away(self, process: Service | str) -> AsyncGenerator[None]:
        """Keep a service's process, or `"coordinator"`, down for as long as the context lasts."""
        found = self._process(process)
        found.stop()
        try:
            yield
        finally:
            found.go_on()
        await found.wait_up()

    def arm(self, fault: Fault) -> None:
        """Let any fault strike when its turn comes; numbers count from now."""
        match fault:
            case Refuse() | Fail() | Hang():
                self.calls.arm(fault)
            case _:
                self.stage.arm(fault)

    # --- inside ---

    def _process(self, wanted: Service | str) -> Process:
        for process in self.processes.values():
            if wanted in (process.name, *process.services):
                return process
        msg = f"{wanted!r} is no process of this scenario; there are {', '.join(self.processes)}"
        raise SettingsError(msg)

    def _store(self, service: Service) -> Store:
        store = self._process(service).store
        assert store is not None
        return store


def _hosts(service: Service, step: str) -> bool:
    return step.startswith(f"{service.name}.")


@asynccontextmanager
async def scenario(*services: Group, folder: Path | None = None, seed: str = "") -> AsyncGenerator[Scenario]:
    """Run services, each as a process of its own, with a coordinator, until the context ends.

    Services in a sequence share one process and one database. The databases are SQLite in memory, with the
    services' own migrations applied; at the end they are copied into files in `folder`. `seed` decides the
    jitter of retries. Runs on asyncio and trio; time is virtual if the event loop's is. Raises
    DeclarationError, PlanError, SettingsError.
    """
    async with played(fleet_of(services), folder=folder, seed=seed) as s:
        yield s


@asynccontextmanager
async def played(fleet: Fleet, *, folder: Path | None = None, seed: str = "") -> AsyncGenerator[Scenario]:
    """Run a fleet until the context ends; see `scenario`."""
    processes: dict[str, Process] = {}
    with bare():
        async with AsyncExitStack() as stack:
            try:
                async with anyio.create_task_group() as tasks:
                    yield await _come_up(fleet, stack, tasks, processes, seed)
                    tasks.cancel_scope.cancel()
            finally:
                if folder is not None:
                    with anyio.CancelScope(shield=True):
                        for process in processes.values():
                            await process.copy_to(folder)


async def _come_up(
    fleet: Fleet, stack: AsyncExitStack, tasks: TaskGroup, processes: dict[str, Process], seed: str
) -> Scenario:
    """Open the databases and the broker, start every process in `tasks` and wait until all are up."""

    def kill(name: str, down_seconds: float) -> None:
        processes[name].kill(down_seconds)

    def is_dying(name: str) -> bool:
        return processes[name].is_dying

    number = next(_NUMBERS)
    clock = VirtualClock()
    stage = Stage(clock=clock, history=History(clock=clock), tasks=tasks, kill=kill, is_dying=is_dying)
    calls = Calls(stage=stage)
    transport = await stack.enter_async_context(StagedTransport(stage))
    part = partial(Process, stage=stage, calls=calls, transport=transport, seed=seed)
    coordination = await opened(stack, StagedCoordination(stage, f"{number}-{COORDINATOR}"))
    await coordination.put_plans(fleet.plans)
    processes[COORDINATOR] = part(name=COORDINATOR, services=(), coordination=coordination)
    for group in fleet.groups:
        label = "+".join(service.name for service in group)
        store = await opened(stack, StagedStore(stage, f"{number}-{label}"))
        processes[label] = part(name=label, services=group, store=store)
    for process in processes.values():
        tasks.start_soon(process.live)
    for process in processes.values():
        await process.wait_up()
    return Scenario(stage=stage, calls=calls, processes=processes, longest=fleet.longest)
