"""Declare `saga dev`: services and their coordinator in one process, started anew when the source changes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from anyio.abc import TaskGroup
from pydantic import ValidationError

from saga._core.declare import Service
from saga._core.definition import ServiceDefinition
from saga._core.events import Event, Refusal
from saga._core.start import Start
from saga._http import parse_address
from saga._process import prepare, serving, with_health
from saga._runtime.supervise import bare
from saga._serving import serve, until_told
from saga.app import App, Coordinator, MissingSteps
from saga.cli.configuring import warn_of
from saga.cli.reloading import Reloader, source_of
from saga.cli.running import Health, Store, Target, To, spoken
from saga.cli.saying import err, printable
from saga.cli.targets import services_at
from saga.errors import OutcomePending, SettingsError
from saga.settings import Reading, Settings, Source, read_settings

if TYPE_CHECKING:
    from saga.console import Console

Starts = Annotated[
    list[str] | None,
    typer.Option(
        "--start",
        metavar="EVENT=JSON",
        show_default=False,
        help='Start a saga once all is up, such as \'order.placed={"sku": "book"}\', and tell how it ends.',
    ),
]
FOLDER = Path(".saga")
STORE, MEMORY, CONSOLE = f"sqlite:///{FOLDER}/dev.db", "memory://", "127.0.0.1:8998"
NAMELESS = "sqlite:///:memory:"
DRAIN_SECONDS = 2.0
PARENT_SECONDS = 1.0
OUTCOME_SECONDS = 3_600.0


def dev(
    target: Target,
    store: Store = None,
    transport: To = None,
    health: Health = None,
    console: Annotated[
        str | None,
        typer.Option(
            "--console",
            metavar="ADDRESS",
            show_default=False,
            help=f"Where the console is, if its extra is installed. (SAGA_CONSOLE, else {CONSOLE})",
        ),
    ] = None,
    start: Starts = None,
    reload: Annotated[bool, typer.Option(help="Start anew when a .py or .sql file changes.")] = True,  # noqa: FBT002
    parent: Annotated[int, typer.Option("--parent", hidden=True, help="End with this process.")] = 0,
) -> None:
    """Run services, a coordinator and the console in one process, until Ctrl-C.

    Without settings it works in .saga/dev.db and in memory, so that nothing else has to run; what was committed
    there is still there next time. Plans are made from the code.
    """
    with spoken():
        given = {"store": store, "transport": transport, "health": health, "console": console}
        if reload:
            folder = source_of(target)
            reloader = Reloader(command=_command(target, given, start or []), folder=folder, say=_say)
            if code := anyio.run(reloader.run):
                raise typer.Exit(code)
            return
        reading = read_settings(given=given)
        warn_of(reading)
        _serve(services_at(target), settings_for(reading), start or [], parent)


def _say(sentence: str) -> None:
    err.print(f"dev: {printable(sentence)}")


def _command(target: str, given: dict[str, str | None], starts: Sequence[str]) -> list[str]:
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    options += [f"--start={start}" for start in starts]
    return [sys.executable, "-m", "saga.cli", "dev", target, "--no-reload", f"--parent={os.getpid()}", *options]


def settings_for(reading: Reading) -> Settings:
    """Return the settings with what development puts in the place of what is not set; makes .saga where it is used."""
    settings, found = reading.settings, dict[str, Any]()
    if not settings.store:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
        found["store"] = STORE
    elif settings.store == NAMELESS:
        found["store"] = f"{NAMELESS}?name=dev"  # one database, for the services, the coordinator and the console
    if not settings.transport:
        found["transport"] = MEMORY
    if reading.origins["drain_seconds"].source is Source.DEFAULT:
        found["drain_seconds"] = DRAIN_SECONDS
    if settings.console is None and _has_console():
        found["console"] = parse_address(CONSOLE, "SAGA_CONSOLE")
    # A plan file lags behind the code that is being written.
    return settings.model_copy(update=found | {"plans": ""})


def _has_console() -> bool:
    return all(find_spec(name) is not None for name in ("jinja2", "starlette", "uvicorn"))


def _serve(services: Sequence[Service], settings: Settings, starts: Sequence[str], parent: int) -> None:
    app = App.from_env(services, coordinator=Coordinator(), settings=settings, missing_steps=MissingSteps.GO_ON)
    wanted = [_start(services, text) for text in starts]
    flush = prepare(settings, "dev")
    try:
        serve(lambda: until_told(_house(app, settings, wanted, parent)))
    finally:
        flush()


@asynccontextmanager
async def _house(
    app: App, settings: Settings, starts: Sequence[tuple[Start[Any], Event]], parent: int
) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(with_health(app, settings.health))
        _say(f"{', '.join(service.name for service in app.services)} and a coordinator on {_place(settings)}")
        if settings.console is not None:
            console = await stack.enter_async_context(_console(app, settings))
            at = await stack.enter_async_context(serving(console, settings.console, "the console"))
            _say(f"console: http://{at}")
        stack.enter_context(bare())
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(_end_with, parent)
        for start, event in starts:
            await _begin(tasks, start, event)
        yield
        tasks.cancel_scope.cancel()


async def _end_with(parent: int) -> None:
    """End this process once its parent is gone: whoever is killed cannot take its child along."""
    while parent:
        await anyio.sleep(PARENT_SECONDS)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _place(settings: Settings) -> str:
    own = [settings.coordinator_store] if settings.coordinator_store else []
    shown = Settings(store=settings.store, coordinator_store="".join(own), transport=settings.transport)
    return ", ".join(str(value) for _, value in shown.__repr_args__() if "://" in str(value))


def _console(app: App, settings: Settings) -> Console:
    from saga.console import Console, Role  # noqa: PLC0415 - importing it needs its extra

    transport = "" if settings.transport.startswith("memory:") else settings.transport
    return Console(
        settings.coordinator_url,
        services=[settings.store_url],
        transport=transport,
        events=frozenset(_events(app.definitions)),
        payloads=Role.READ,
        desk=app.desk,
    )


def _events(definitions: Sequence[ServiceDefinition]) -> Iterator[type[Event | Refusal]]:
    for definition in definitions:
        yield from (start.event for start in definition.starts)
        for step in definition.steps:
            yield step.input
            yield from step.emits
            yield from step.refuses


# --- starting sagas --------------------------------------------------------------------------------------------


def _start(services: Sequence[Service], text: str) -> tuple[Start[Any], Event]:
    """Return the start and the event that `EVENT=JSON` stands for; raises SettingsError."""
    name, _, body = text.partition("=")
    found = [start for service in services for start in service.declared.starts]
    chosen = [start for start in found if name in (start.event.wire_name, start.event.wire_type)]
    if not chosen:
        names = ", ".join(sorted({start.event.wire_name for start in found})) or "none: no service has `starts`"
        raise SettingsError(f"--start {name!r} starts no saga; what does is {names}")
    try:
        return chosen[0], chosen[0].event.model_validate_json(body or "{}")
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the JSON'}: {each['msg']}" for each in error.errors())
        raise SettingsError(f"--start {name} does not fit its event: {fields}") from None


async def _begin(tasks: TaskGroup, start: Start[Any], event: Event) -> None:
    handle = await start(event)
    _say(f"saga {handle.saga_id} has started")

    async def tell() -> None:
        with suppress(OutcomePending):
            ended = await handle.outcome(timeout_seconds=OUTCOME_SECONDS)
            why = ended.refusal_type or ended.detail
            _say(f"saga {handle.saga_id} is {ended.ending}{f' ({why})' if why else ''}")

    tasks.start_soon(tell)
