"""Declare the commands; they exit 0, 1 when something is found, 2 when they are used wrongly."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from saga._core.flow import flow_lines, plan_warnings
from saga.cli import (
    asyncapis,
    benching,
    breaking,
    configuring,
    console_verb,
    databases,
    developing,
    doctoring,
    explaining,
    graphs,
    inspecting,
    letters,
    outboxes,
    relaying,
    running,
    scaffolding,
    topic_verbs,
    verbs,
    watching,
)
from saga.cli.drawing import plan_trees
from saga.cli.live import check_live
from saga.cli.planfiles import build_plans, check_dropped, check_plans, write_plans
from saga.cli.sources import chosen, sources_at
from saga.cli.targets import BadTarget, export, manifests_at
from saga.cli.words import plan_lines
from saga.errors import PlanError, SagaError

app = typer.Typer(
    name="saga",
    help="Plan sagas from the services' code, run them, and see to the ones that run.",
    epilog="Exits 0 when all is well, 1 when something is found or nothing matched, 2 when it is used wrongly, "
    "3 when a database or the broker cannot be reached.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(letters.app)
app.add_typer(databases.app)
app.command("config")(configuring.config)
app.command("new")(scaffolding.new)
app.command("dev")(developing.dev)
app.command("run")(running.run)
app.command("console")(console_verb.console)
app.command("bench")(benching.bench)
app.command("coordinator")(running.coordinator)
app.command("relay")(relaying.relay)
app.command("ls")(inspecting.ls)
app.command("history")(inspecting.history)
app.add_typer(breaking.app)
app.command("doctor")(doctoring.doctor)
app.add_typer(topic_verbs.app)
app.command("outbox")(outboxes.outbox)
app.command("watch")(watching.watch)
app.command("explain")(explaining.explain_saga)
app.command("graph")(graphs.graph)
app.command("asyncapi")(asyncapis.asyncapi)
for verb in (verbs.retry, verbs.skip, verbs.resolve, verbs.cancel, verbs.hold, verbs.release):
    app.command()(verb)

_out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
_err = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=True)

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        show_default=False,
        help="module:attribute (a Service, a list of Services or an App), or a manifest file of another repository.",
    ),
]
DEFAULT_FOLDER = Path("plans")


@app.command()
def plan(
    targets: Targets,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the plan files are.")
    ] = DEFAULT_FOLDER,
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", metavar="SERVICE", show_default=False, help="A service that is gone from its sagas."),
    ] = None,
) -> None:
    """Write <saga>.v<version>.plan.json for every saga of the targets.

    A file whose plan has not changed keeps its revision; a changed one gets the next. Nothing is
    written when any of the plans has a problem, or has a service that no target declares.
    """
    with _sentences():
        manifests = manifests_at(targets)
        check_dropped(manifests, output, drop or ())
        for written in write_plans(build_plans(manifests), output):
            _out.print(f"{written.path}: {written.state}, revision {written.plan.revision}")
            for line in (*flow_lines(written.plan), *written.changes):
                _out.print(f"  {line}")
            for warning in plan_warnings(written.plan):
                _err.print(Text.assemble(("warning: ", "bold yellow"), warning))


@app.command()
def check(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="TARGET", show_default=False, help="As for plan; at the end a folder may stand."),
    ],
    plans: Annotated[
        Path | None,
        typer.Option("--plans", metavar="FOLDER", help="Where the plan files are. (default: plans)"),
    ] = None,
    *,
    live: Annotated[bool, typer.Option("--live", help="Ask also what open sagas need; before a deploy.")] = False,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="With --live: the coordinator's database.")
    ] = None,
    transport: Annotated[
        str | None, typer.Option("--transport", metavar="URL", help="With --live: look at the running replicas, too.")
    ] = None,
) -> None:
    """Compare the targets with the plan files and exit 1 when they differ, for CI.

    A missing file is a difference. Of a plan that has other services, too, only what belongs to the targets is
    compared. With --live also what the targets' code can no longer do for sagas that are open now.
    """
    with _sentences():
        if live != (store is not None) or (transport is not None and not live):
            raise BadTarget("--live needs --store URL, and --store and --transport need --live")
        if plans is None and len(targets) > 1 and Path(targets[-1]).is_dir():
            *targets, last = targets
            plans = Path(last)
        folder = DEFAULT_FOLDER if plans is None else plans
        manifests = manifests_at(targets)
        if not any(manifest.sagas for manifest in manifests):
            build_plans(manifests)
        checked = check_plans(manifests, folder)
        problems = checked.problems
        if store is not None and not problems:
            problems = check_live(manifests, checked.plans, folder, store, transport)
        if problems:
            raise PlanError(problems)
        for each in checked.plans:
            _out.print(f"{each.saga} v{each.version}: code and plan agree")
        for title, services in checked.unseen.items():
            _out.print(f"{title}: not looked at: {', '.join(services)}")


@app.command()
def manifest(
    targets: Targets,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it. (default: standard output)"),
    ] = None,
) -> None:
    """Export what the targets declare, so that another repository can make plans without their code."""
    with _sentences():
        body = export(manifests_at(targets))
        if output is None:
            typer.echo(body, nl=False)
        else:
            output.write_bytes(body)


@app.command()
def show(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET",
            show_default=False,
            help="module:attribute, a manifest file, a plan file, or a folder of either.",
        ),
    ],
    saga: Annotated[str, typer.Option("--saga", metavar="NAME", help="Only the plan of this saga.")] = "",
    version: Annotated[int, typer.Option("--version", min=0, help="This version; 0 stands for any.")] = 0,
) -> None:
    """Draw the flow of plans in the terminal and tell their steps in words; `saga graph` writes drawings."""
    with _sentences():
        for number, plan in enumerate(chosen(sources_at(targets).plans, saga, version)):
            _out.print(f"{_gap(number)}{plan.saga} v{plan.version}, revision {plan.revision}")
            for tree in plan_trees(plan):
                _out.print(tree)
            for line in plan_lines(plan):
                _out.print(line)


def _gap(number: int) -> str:
    return "\n" if number else ""


@contextmanager
def _sentences() -> Generator[None]:
    """Turn an error into sentences and an exit code."""
    try:
        yield
    except BadTarget as error:
        _fail([str(error)], 2)
    except PlanError as error:
        _fail(error.problems, 1)
    except SagaError as error:
        _fail([str(error)], 1)
    except OSError as error:
        _fail([f"{error.filename}: {error.strerror}"], 2)


def _fail(sentences: list[str] | tuple[str, ...], code: int) -> None:
    for sentence in sentences:
        _err.print(Text.assemble(("error: ", "bold red"), sentence))
    raise typer.Exit(code) from None
