"""Declare `saga breakers`: what the fleet says of the dependencies that steps call, and take a verdict back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Annotated

import anyio
import orjson
import typer

from outbox.urls import open_coordination_store, open_operating_store
from saga._core.audit import AuditRow
from saga._core.breaker import Phase
from saga._core.fleet import CallReport, FleetVerdict, read_breaker_message, verdict_message
from saga._core.limits import Limits
from saga._core.outages import DependencyState, dependencies
from saga._core.rows import CoordinatorChanges
from saga._core.topics import BREAKERS
from saga.cli.configuring import CoordinatorUrl, Json, TransportUrl
from saga.cli.letters import Who, Why
from saga.cli.saying import Exit, fail, moment, out, print_json, print_table, sentences
from saga.errors import SettingsError, TransportUnavailable, Undecodable
from saga.operating import InstanceFilter, check_signed
from saga.ports import Transport
from transports.urls import open_broker, open_transport

app = typer.Typer(
    name="breakers",
    help="Look at the dependencies that steps call outside: which the fleet leaves alone, and who says so.",
    epilog="Exits 0 when all is well, 1 when a dependency is out, 2 when used wrongly, 3 when Kafka is away.",
    no_args_is_help=True,
)

READ_SECONDS = 20.0
CLOSED_SECONDS = 5.0
"""How long a verdict by hand is valid: coordinators take it over at once, and then go by what is reported."""


@app.command("ls")
def ls(
    transport: TransportUrl,
    service: Annotated[str, typer.Option("--service", metavar="NAME", help="Only what this service reports.")] = "",
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """List what the fleet says of each dependency, and what its callers last reported; exit 1 while one is out.

    Processes report only while calls fail: a dependency of which nothing is heard is well.
    """
    with sentences():
        states = anyio.run(_look, transport)
        if json:
            for state in states:
                print_json(_state_json(state, service))
        elif states:
            _print(states, service)
        else:
            out.print("nothing is reported: no calls fail")
        bad = [state.dependency for state in states if state.phase is not Phase.CLOSED]
        if bad:
            fail([f"{', '.join(bad)}: their steps wait as rows until it answers again"], Exit.NOTHING)


@app.command("close")
def close(
    dependency: Annotated[str, typer.Argument(metavar="DEPENDENCY", show_default=False, help="Such as gateway.")],
    transport: TransportUrl,
    store: CoordinatorUrl,
    who: Who,
    why: Why,
) -> None:
    """Take the fleet's verdict on a dependency back at once; who and why go into the coordinator's trail.

    Processes then go by their own breakers, which try with a few calls. If those fail, the fleet leaves it alone again.
    There is no opening by hand: hold the sagas that call it instead (saga hold --saga NAME).
    """
    with sentences():
        check_signed(who, why)
        anyio.run(_close, dependency, transport, store, who, why)
        out.print(f"{dependency}: the fleet's verdict is taken back")


# --- doing it --------------------------------------------------------------------------------------------------


async def _look(url: str) -> Sequence[DependencyState]:
    # A broker says at once why it cannot be reached, where a reader would wait.
    async with open_broker(url), open_transport(url) as transport:
        return dependencies(await read_said(transport), datetime.now(UTC))


async def read_said(transport: Transport) -> Sequence[CallReport | FleetVerdict]:
    """Return everything that `saga.breakers` still holds, in its order; raises TransportError."""
    said: list[CallReport | FleetVerdict] = []
    limits = Limits()
    with anyio.move_on_after(READ_SECONDS):
        async with transport.table(BREAKERS) as table:
            while not await table.caught_up():
                for delivery in await table.changes(1.0):
                    try:
                        said.append(read_breaker_message(delivery, limits))
                    except Undecodable:
                        continue  # whoever obeys warns of it
            return said
    raise TransportUnavailable(f"{BREAKERS} could not be read to its end within {READ_SECONDS:g} s")


async def _close(dependency: str, url: str, store: str, who: str, why: str) -> None:
    async with AsyncExitStack() as stack:
        inspection = await stack.enter_async_context(open_operating_store(store))
        await inspection.find(InstanceFilter(), limit=1)  # says that it is no coordinator's
        coordination = await stack.enter_async_context(open_coordination_store(store))
        transport = await stack.enter_async_context(open_transport(url))
        now = datetime.now(UTC)
        known = {state.dependency: state for state in dependencies(await read_said(transport), now)}
        if dependency not in known:
            names = ", ".join(known) or "none"
            raise SettingsError(f"nothing is said of a dependency {dependency}; those spoken of are: {names}")
        state = known[dependency]
        act = AuditRow(
            at=await coordination.now(),
            who=who,
            why=why,
            verb="close breaker",
            saga_id="",
            target=dependency,
            before=orjson.dumps({"phase": state.phase, "share": state.share}),
            after=orjson.dumps({"phase": Phase.CLOSED, "share": 100}),
        )
        await coordination.write(CoordinatorChanges(audits=(act,)))
        until = now + timedelta(seconds=CLOSED_SECONDS)
        verdict = FleetVerdict(dependency=dependency, phase=Phase.CLOSED, share=100, valid_until=until)
        publisher = await stack.enter_async_context(transport.publisher())
        (error,) = await publisher.publish([verdict_message(verdict)])
        if error is not None:
            raise TransportUnavailable(f"the verdict could not be published on {BREAKERS}: {error}") from error


# --- saying it -------------------------------------------------------------------------------------------------


def _of(state: DependencyState, service: str) -> list[CallReport]:
    return [report for report in state.reports if service in ("", report.service)]


def _state_json(state: DependencyState, service: str) -> dict[str, object]:
    return {
        "dependency": state.dependency,
        "state": state.phase,
        "share": state.share,
        "since": state.since,
        "until": state.until,
        "reports": [
            {"service": r.service, "slot": r.slot, "calls": r.calls, "failures": r.failures, "at": r.at}
            for r in _of(state, service)
        ],
    }


def _print(states: Sequence[DependencyState], service: str) -> None:
    print_table(
        ("dependency", "fleet", "calls", "since about", "said again by"),
        [(s.dependency, s.phase, f"{s.share} %", moment(s.since), moment(s.until)) for s in states],
    )
    rows = [
        (f"{r.service}[{r.slot}]", state.dependency, str(r.calls), str(r.failures), moment(r.at))
        for state in states
        for r in _of(state, service)
    ]
    if rows:
        print_table(("replica", "dependency", "calls", "failed", "last reported"), rows)
