"""Declare `saga db`: bring the tables of a database to this version, say how they stand, print the SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import anyio
import typer

from outbox.schema import MigrationState, SchemaStore, Standing
from outbox.script import script
from outbox.sql import Component, Dialect, Phase
from outbox.urls import open_coordination_store, open_store
from saga._core.definition import ServiceDefinition
from saga._core.resolve import resolve_all
from saga._runtime.stations import pending_user_migrations, run_user_migrations, user_migrations
from saga.cli.letters import Json, StoreUrl
from saga.cli.saying import Exit, fail, moment, out, print_json, print_table, sentences
from saga.cli.targets import BadTarget, services_at
from saga.errors import SettingsError

if TYPE_CHECKING:
    from outbox.postgres import PostgresSettings

app = typer.Typer(
    name="db",
    help="Look after saga's tables and those of services: apply migrations, see how they stand, print saga's SQL.",
    epilog="Exits 0 when all is well, 1 when a migration is pending or cannot be applied, 2 when used wrongly, 3 when "
    "the database is away.",
    no_args_is_help=True,
)

UNRELEASED = "0"
STATEMENT_SECONDS = 3_600.0


class Side(StrEnum):
    """Name whose tables are meant."""

    PARTICIPANT = "participant"
    COORDINATOR = "coordinator"
    BOTH = "both"


For = Annotated[
    Side | None,
    typer.Option(
        "--for", show_default=False, help="Whose tables: those of services, of the coordinator. (default: those there)"
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TARGET]...",
        show_default=False,
        help="module:attribute: services in this database, whose own migrations (Service(migrations=…)) count, too.",
    ),
]
APhase = Annotated[
    Phase, typer.Option("--phase", help="Before the first new replica comes up, or after the last old one is gone.")
]
Schema = Annotated[
    str | None, typer.Option("--schema", show_default=False, help="Where the tables lie. PostgreSQL only.")
]
_SIDES = {
    Side.PARTICIPANT: (Component.PARTICIPANT,),
    Side.COORDINATOR: (Component.COORDINATOR,),
    Side.BOTH: (Component.PARTICIPANT, Component.COORDINATOR),
}


@app.command()
def upgrade(
    store: StoreUrl,
    targets: Targets = None,
    phase: APhase = Phase.BEFORE,
    side: For = None,
    schema: Schema = None,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Apply what is pending, in one transaction for each side; then the targets' own files, each in its own.

    One process at a time; a table that is in use is waited for, in short turns, for up to two minutes.
    """
    with sentences():
        anyio.run(_upgrade, store, schema, phase, side, _own(targets or (), side), json)


@app.command()
def status(
    store: StoreUrl,
    targets: Targets = None,
    side: For = None,
    schema: Schema = None,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """List the migrations of this version and of the database; exit 1 when one is pending, edited or newer.

    A migration of phase `after` that is pending counts, too: run it when no older replica runs any more.
    """
    with sentences():
        anyio.run(_status, store, schema, side, _own(targets or (), side), json)


@app.command()
def sql(
    dialect: Annotated[Dialect, typer.Option("--dialect", help="Which database.")] = Dialect.POSTGRES,
    schema: Schema = None,
    number: Annotated[int, typer.Option("--from", min=1, metavar="N", help="Leave out those before this number.")] = 1,
    phase: Annotated[Phase | None, typer.Option("--phase", show_default=False, help="Only this phase.")] = None,
    side: For = Side.BOTH,
) -> None:
    """Print the migrations as SQL, with the rows that remember them, for people who run it themselves."""
    with sentences():
        components = (Component.SHARED, *_SIDES[side or Side.BOTH])
        typer.echo(script(dialect, components, schema=schema, number=number, phase=phase), nl=False)


# --- doing it ----------------------------------------------------------------------------------------------------


async def _upgrade(
    url: str,
    schema: str | None,
    phase: Phase,
    side: Side | None,
    own: Sequence[ServiceDefinition],
    json: bool,  # noqa: FBT001 - anyio.run
) -> None:
    _check_file(url, side, own)
    done = 0
    async with AsyncExitStack() as stack:
        for store in await _stores(stack, url, schema, side, own):
            before = {str(state): state.standing for state in await store.migrations()}
            await store.migrate(phase)
            for state in await store.migrations():
                if state.standing is Standing.APPLIED and before.get(str(state)) is Standing.PENDING:
                    done += 1
                    _tell(state, json=json)
        for service in own if phase is Phase.BEFORE else ():
            participant = await stack.enter_async_context(open_store(url, settings=_settings(url, schema)))
            names = await pending_user_migrations(participant, service)
            await run_user_migrations(participant, service)
            done += len(names)
            for name in names:
                _tell_own(service.name, name, Standing.APPLIED, json=json)
    if not done and not json:
        out.print("nothing to apply")


async def _status(
    url: str,
    schema: str | None,
    side: Side | None,
    own: Sequence[ServiceDefinition],
    json: bool,  # noqa: FBT001 - anyio.run
) -> None:
    _check_file(url, side, own)
    states: dict[str, MigrationState] = {}
    async with AsyncExitStack() as stack:
        for store in await _stores(stack, url, schema, side, own):
            states |= {str(state): state for state in await store.migrations()}
        files = [each for service in own for each in await _files(stack, url, schema, service, states.values())]
    if json:
        for state in states.values():
            _tell(state, json=True)
        for service, name, standing in files:
            _tell_own(service, name, standing, json=True)
    else:
        out.print(f"saga {_version()}")
        cells = [_cells(state) for state in states.values()]
        cells += [(f"{service} {name}", Phase.BEFORE, standing, "-") for service, name, standing in files]
        print_table(("migration", "phase", "state", "applied"), cells)
    wrong = [f"{state}: {state.standing}" for state in states.values() if _counts(state)]
    wrong += [f"{service} {name}: {standing}" for service, name, standing in files if standing is Standing.PENDING]
    if wrong:
        fail(wrong, Exit.NOTHING)


async def _files(
    stack: AsyncExitStack,
    url: str,
    schema: str | None,
    service: ServiceDefinition,
    states: Iterable[MigrationState],
) -> list[tuple[str, str, Standing]]:
    """Return how the SQL files of a service stand; none is applied where saga's own tables are not there."""
    names = user_migrations(service)
    if any(s.standing is Standing.PENDING and s.component is not Component.COORDINATOR for s in states):
        return [(service.name, name, Standing.PENDING) for name in names]
    store = await stack.enter_async_context(open_store(url, settings=_settings(url, schema)))
    left = await pending_user_migrations(store, service)
    return [(service.name, name, Standing.PENDING if name in left else Standing.APPLIED) for name in names]


def _own(targets: Sequence[str], side: Side | None) -> Sequence[ServiceDefinition]:
    """Return the services that targets name; raises SettingsError, DeclarationError."""
    if targets and side is Side.COORDINATOR:
        raise SettingsError("--for coordinator: a TARGET is a service, and its own migrations are for its database")
    try:
        services = {id(each): each for target in targets for each in services_at(target)}
    except BadTarget as error:
        raise SettingsError(str(error)) from error
    return resolve_all(services.values())


def _counts(state: MigrationState) -> bool:
    """Return whether a migration needs somebody; what a newer version has only added does no harm."""
    harmless = state.standing is Standing.NEWER and state.phase is Phase.BEFORE
    return state.standing is not Standing.APPLIED and not harmless


def _check_file(url: str, side: Side | None, own: Sequence[ServiceDefinition]) -> None:
    """Refuse a SQLite file that does not exist, unless somebody says what to put into it."""
    path = url.removeprefix("sqlite:///").partition("?")[0]
    if side is None and not own and url.startswith("sqlite:///") and not Path(path).is_file():
        raise SettingsError(f"--store {url}: there is no such file; say --for what it shall be made")


async def _stores(
    stack: AsyncExitStack, url: str, schema: str | None, side: Side | None, own: Sequence[ServiceDefinition]
) -> Sequence[SchemaStore]:
    settings = _settings(url, schema)
    participant = await stack.enter_async_context(open_store(url, settings=settings))
    coordinator = await stack.enter_async_context(open_coordination_store(url, settings=settings))
    by_component = {Component.PARTICIPANT: participant, Component.COORDINATOR: coordinator}
    stores = {name: cast("SchemaStore", store) for name, store in by_component.items()}
    if side is not None:
        return [stores[name] for name in _SIDES[side]]
    wanted = {Component.PARTICIPANT} if own else set[Component]()
    there = [store for name, store in stores.items() if name in wanted or _has(await store.migrations(), name)]
    if not there:
        raise SettingsError("the database has no tables of saga yet: say --for whom, participant, coordinator or both")
    return there


def _settings(url: str, schema: str | None) -> PostgresSettings | None:
    """Return what a migration needs: nobody waits for it, so that its statements may take as long as they do."""
    open_store(url)  # says what is wrong with the URL, or which extra is missing
    if url.startswith(("sqlite:", "sqlite+")):
        if schema is not None:
            raise SettingsError("--schema belongs to PostgreSQL: leave it out with sqlite:///")
        return None
    from outbox.postgres import PostgresSettings  # noqa: PLC0415 - the core install has no asyncpg

    return PostgresSettings(schema=schema, statement_timeout_seconds=STATEMENT_SECONDS)


def _has(states: Sequence[MigrationState], component: Component) -> bool:
    return any(state.component is component and state.standing is not Standing.PENDING for state in states)


# --- saying it ---------------------------------------------------------------------------------------------------


def _tell(state: MigrationState, *, json: bool) -> None:
    if not json:
        out.print(f"{state}: {state.standing}")
        return
    print_json(
        {
            "component": state.component,
            "number": state.number,
            "name": state.name,
            "phase": state.phase,
            "state": state.standing,
            "applied_at": state.applied_at,
            "version": _version(),
        }
    )


def _tell_own(service: str, name: str, standing: Standing, *, json: bool) -> None:
    if json:
        print_json({"component": "service", "service": service, "name": name, "state": standing})
    else:
        out.print(f"{service} {name}: {standing}")


def _cells(state: MigrationState) -> Sequence[str]:
    name = f"{state.component} {state.number:04}_{state.name}"
    return (name, state.phase, state.standing, moment(state.applied_at))


def _version() -> str:
    try:
        return version("saga-choreography")
    except PackageNotFoundError:
        return UNRELEASED
