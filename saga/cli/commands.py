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
from saga._core.mermaid import mermaid as flowchart
from saga.cli import databases, inspecting, letters, relaying, verbs
from saga.cli.drawing import plan_trees
from saga.cli.live import check_live
from saga.cli.planfiles import build_plans, check_plans, read_plan, write_plans
from saga.cli.targets import BadTarget, export, manifests_at
from saga.cli.words import plan_lines
from saga.errors import PlanError, SagaError

app = typer.Typer(
    name="saga",
    help="Make the plans of sagas from the services' code, check them in CI, and read them.",
    epilog="Exits 0 when all is well, 1 when something is found, 2 when the command is used wrongly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(letters.app)
app.add_typer(databases.app)
app.command("relay")(relaying.relay)
app.command("ls")(inspecting.ls)
app.command("history")(inspecting.history)
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
) -> None:
    """Write <saga>.v<version>.plan.json for every saga of the targets.

    A file whose plan has not changed keeps its revision; a changed one gets the next. Nothing is
    written when any of the plans has a problem.
    """
    with _sentences():
        for written in write_plans(build_plans(manifests_at(targets)), output):
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
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="URL", help="With --live: look at the running replicas, too.")
    ] = None,
) -> None:
    """Compare the targets with the plan files and exit 1 when they differ, for CI.

    A missing file is a difference, and so is one that no target has a part in. With --live also what the
    targets' code can no longer do for sagas that are open now.
    """
    with _sentences():
        if live != (store is not None) or (kafka is not None and not live):
            raise BadTarget("--live needs --store URL, and --store and --kafka need --live")
        if plans is None and len(targets) > 1 and Path(targets[-1]).is_dir():
            *targets, last = targets
            plans = Path(last)
        folder = DEFAULT_FOLDER if plans is None else plans
        manifests = manifests_at(targets)
        made = build_plans(manifests)
        problems = check_plans(made, folder)
        if store is not None and not problems:
            problems = check_live(manifests, made, folder, store, kafka)
        if problems:
            raise PlanError(problems)
        for each in made:
            _out.print(f"{each.saga} v{each.version}: code and plan agree")


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
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A plan file.")],
    *,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flowchart instead.")] = False,
) -> None:
    """Draw a plan's flow and tell its steps in words."""
    with _sentences():
        plan = read_plan(file)
        if mermaid:
            typer.echo(flowchart(plan), nl=False)
            return
        _out.print(f"{plan.saga} v{plan.version}, revision {plan.revision}")
        for tree in plan_trees(plan):
            _out.print(tree)
        for line in plan_lines(plan):
            _out.print(line)


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
