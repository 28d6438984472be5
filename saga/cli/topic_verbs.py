"""Declare `saga topics`: what a set of services needs of a broker, whether it is there, and make it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated

import anyio
import typer
from rich.text import Text

from saga._core.brokers import Presence, TopicState, Weight
from saga._core.plan import Plan
from saga._core.topic_uses import use_of
from saga._runtime.stations import topic_specs
from saga.cli.configuring import Json, TransportUrl
from saga.cli.planfiles import build_plans
from saga.cli.saying import Exit, err, fail, out, print_json, print_table, printable, sentences, span
from saga.cli.targets import BadTarget, definitions_at, manifests_at
from saga.errors import PlanError
from saga.ports import TopicSpec
from transports.urls import open_broker

app = typer.Typer(
    name="topics",
    help="Look after the topics that services need: list them, check them on a broker, create them.",
    epilog="Exits 0 when all is well, 1 when a topic is missing or wrong, 2 when used wrongly, 3 when Kafka is away.",
    no_args_is_help=True,
)

PARTITIONS = 8
Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        show_default=False,
        help="module:attribute (a Service, a list of Services or an App), or a manifest file of another repository.",
    ),
]
Partitions = Annotated[
    int, typer.Option("--partitions", min=1, metavar="N", help="Of each topic with a key, as App(partitions=…) has it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would create, and create nothing.")]


@app.command("plan")
def plan(
    targets: Targets,
    partitions: Partitions = PARTITIONS,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """List the topics that services need, how they are kept, and who writes and reads them; asks no broker."""
    with _sentences():
        specs, plans = needed(targets, partitions)
        for spec in specs if json else ():
            use = use_of(spec.name, plans)
            values: dict[str, object] = {"topic": spec.name, "partitions": spec.partitions, "cleanup": spec.cleanup}
            values |= {"retention_seconds": spec.retention_seconds, "writers": use.writers, "readers": use.readers}
            print_json(values)
        if not json:
            heads = ("topic", "partitions", "cleanup", "retention", "written by", "read by")
            print_table(heads, [_spec_cells(spec, plans) for spec in specs])


@app.command("check")
def check(
    targets: Targets,
    transport: TransportUrl,
    partitions: Partitions = PARTITIONS,
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Hold a broker's topics against what services need; exit 1 when one is missing, hidden or wrong.

    What is only risky is told, and is no failure.
    """
    with _sentences():
        specs, _ = needed(targets, partitions)
        states = anyio.run(_states, transport, specs)
        _tell(states, json=json)
        wrong = [state.name for state in states if is_wrong(state)]
        if wrong:
            fail([f"{len(wrong)} of {len(states)} topics cannot be used as they are"], Exit.NOTHING)


@app.command("create")
def create(
    targets: Targets,
    transport: TransportUrl,
    partitions: Partitions = PARTITIONS,
    dry_run: DryRun = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Create the topics that are missing; those that are there are left as they are. Safe to repeat."""
    with _sentences():
        specs, _ = needed(targets, partitions)
        names = anyio.run(_missing if dry_run else _create, transport, specs)
        for name in names:
            if json:
                print_json({"topic": name, "created": not dry_run})
            else:
                out.print(f"{name}: {'would be created' if dry_run else 'created'}")
        if not names and not json:
            out.print("all topics are there")


@contextmanager
def _sentences() -> Generator[None]:
    """Turn an error into sentences and an exit code, those about targets too."""
    with sentences():
        try:
            yield
        except BadTarget as error:
            fail([str(error)], Exit.USAGE)
        except PlanError as error:
            fail(error.problems, Exit.NOTHING)


# --- what is needed --------------------------------------------------------------------------------------------


def needed(targets: Sequence[str], partitions: int) -> tuple[tuple[TopicSpec, ...], tuple[Plan, ...]]:
    """Return every topic that the targets need, and the plans it comes from; raises BadTarget, PlanError."""
    manifests = manifests_at(targets)
    plans = build_plans(manifests) if any(manifest.sagas for manifest in manifests) else ()
    return topic_specs(definitions_at(targets), plans, partitions), plans


def is_wrong(state: TopicState) -> bool:
    """Return whether a topic cannot be used as it is; a risk is none."""
    if state.presence is not Presence.THERE:
        return True
    return any(problem.weight is not Weight.WARNING for problem in state.problems)


async def _states(url: str, specs: Sequence[TopicSpec]) -> Sequence[TopicState]:
    async with open_broker(url) as broker:
        return await broker.topics(specs)


async def _missing(url: str, specs: Sequence[TopicSpec]) -> Sequence[str]:
    return [state.name for state in await _states(url, specs) if state.presence is Presence.MISSING]


async def _create(url: str, specs: Sequence[TopicSpec]) -> Sequence[str]:
    async with open_broker(url) as broker:
        return await broker.create(specs)


# --- saying it -------------------------------------------------------------------------------------------------


def _spec_cells(spec: TopicSpec, plans: Sequence[Plan]) -> Sequence[str]:
    use = use_of(spec.name, plans)
    kept = span(spec.retention_seconds) if spec.retention_seconds is not None else "a day at least"
    retention = kept if spec.cleanup == "delete" else "newest per key"
    names = (", ".join(use.writers), ", ".join(use.readers))
    return (spec.name, str(spec.partitions), spec.cleanup, retention, *names)


def _tell(states: Sequence[TopicState], *, json: bool) -> None:
    for state in states:
        if json:
            problems = [{"weight": p.weight, "text": p.text, "command": p.command} for p in state.problems]
            values: dict[str, object] = {"topic": state.name, "state": state.presence, "partitions": state.partitions}
            values |= {"replicas": state.replicas, "cleanup": state.cleanup, "retention_ms": state.retention_ms}
            print_json(values | {"ok": not is_wrong(state), "problems": problems})
    if json:
        return
    print_table(
        ("topic", "state", "partitions", "replicas", "cleanup"),
        [(s.name, _said(s), str(s.partitions or "-"), str(s.replicas or "-"), s.cleanup or "-") for s in states],
    )
    for state in states:
        for problem in state.problems:
            word, style = ("warning", "bold yellow") if problem.weight is Weight.WARNING else ("error", "bold red")
            err.print(Text.assemble((f"{word}: ", style), printable(problem.text)))
    hidden = [state.name for state in states if state.presence is Presence.HIDDEN]
    if hidden:
        text = f"{', '.join(hidden)}: this user may not see it; grant Describe on it (kafka-acls --add)"
        err.print(Text.assemble(("error: ", "bold red"), printable(text)))
    if any(state.presence is Presence.MISSING for state in states):
        err.print("saga topics create, with the same arguments, makes those that are missing")


def _said(state: TopicState) -> str:
    if state.presence is not Presence.THERE:
        return state.presence
    return "wrong" if is_wrong(state) else "ok"
