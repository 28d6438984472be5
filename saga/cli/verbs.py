"""Declare `saga retry`, `skip`, `resolve`, `cancel`, `hold` and `release`: what a person does about sagas."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Annotated

import anyio
import typer

from saga._core.events import Event, Refusal
from saga._core.stored_instance import STUCK_PHASE
from saga.cli.configuring import CoordinatorUrl
from saga.cli.inspecting import PHASES
from saga.cli.letters import Json, Who, Why
from saga.cli.results import Code, ResultJson, ResultType, classes_at, given_of
from saga.cli.saying import Exit, err, fail, nothing_matched, out, print_json, printable, sentences
from saga.desk import (
    Acted,
    CancelSaga,
    HoldSaga,
    Mode,
    ReleaseSaga,
    ResolveStep,
    Result,
    RetryStep,
    RunKey,
    SagaDesk,
    SkipStep,
    Verb,
    Verdict,
)
from saga.operating import InstanceFilter

SagaId = Annotated[
    str, typer.Argument(metavar="[SAGA_ID]", show_default=False, help="The saga; or name many by the filters.")
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SAGA_ID] [STEP]",
        show_default=False,
        help="The saga, or many by the filters; and the run: service.function, or service.function/2of5. Without a "
        "branch it is every branch that waits.",
    ),
]
Stuck = Annotated[bool, typer.Option("--all-stuck", help="Every saga that needs a person.")]
Name = Annotated[str, typer.Option("--saga", metavar="NAME", help="Every saga of this name.")]
Version = Annotated[int, typer.Option("--version", min=0, help="Only this version; 0 stands for any.")]
Phases = Annotated[
    list[str] | None, typer.Option("--phase", show_default=False, help=f"One or more of {', '.join(PHASES)}.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many sagas at most.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and do nothing.")]
LIMIT = 1000


def retry(
    store: CoordinatorUrl,
    who: Who,
    why: Why,
    names: Names = None,
    all_stuck: Stuck = False,  # noqa: FBT002 - a switch
    saga: Name = "",
    version: Version = 0,
    phase: Phases = None,
    limit: Limit = LIMIT,
    dry_run: DryRun = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Try again at once what has failed or waits for an attempt; without a step, all that a saga waits for."""
    with sentences():
        filtered = _filter(all_stuck, saga, version, phase)
        saga_id, step = _names(names or [], filtered)
        verb = RetryStep(key=_key(step))
        anyio.run(_act, store, saga_id, filtered, verb, who, why, limit, _mode(dry_run), json)


def skip(
    store: CoordinatorUrl,
    who: Who,
    why: Why,
    names: Names = None,
    result_type: ResultType = "",
    result: ResultJson = "",
    code: Code = None,
    all_stuck: Stuck = False,  # noqa: FBT002 - a switch
    saga: Name = "",
    version: Version = 0,
    phase: Phases = None,
    limit: Limit = LIMIT,
    dry_run: DryRun = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Count a run as undone, or as done with a result, without calling anything.

    With a service's name as STEP: count a service that came too late to close as closed.
    """
    with sentences():
        filtered = _filter(all_stuck, saga, version, phase)
        saga_id, step = _names(names or [], filtered, needs_step=True)
        given = given_of(result_type, result)
        verb = SkipStep(key=_key(step), reason=why, result_type=given.type, result=given.payload)
        anyio.run(_act, store, saga_id, filtered, verb, who, why, limit, _mode(dry_run), json, classes_at(code))


def resolve(
    store: CoordinatorUrl,
    who: Who,
    why: Why,
    verdict: Annotated[Verdict, typer.Option("--verdict", show_default=False, help="What came of the call.")],
    names: Names = None,
    result_type: ResultType = "",
    result: ResultJson = "",
    code: Code = None,
    all_stuck: Stuck = False,  # noqa: FBT002 - a switch
    saga: Name = "",
    version: Version = 0,
    phase: Phases = None,
    limit: Limit = LIMIT,
    dry_run: DryRun = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Say what came of an outside call in doubt: `happened` with its result or refusal, or `not_happened`."""
    with sentences():
        filtered = _filter(all_stuck, saga, version, phase)
        saga_id, step = _names(names or [], filtered, needs_step=True)
        given = given_of(result_type, result)
        verb = ResolveStep(key=_key(step), reason=why, verdict=verdict, result_type=given.type, result=given.payload)
        anyio.run(_act, store, saga_id, filtered, verb, who, why, limit, _mode(dry_run), json, classes_at(code))


def cancel(
    store: CoordinatorUrl,
    who: Who,
    why: Why,
    saga_id: SagaId = "",
    all_stuck: Stuck = False,  # noqa: FBT002 - a switch
    saga: Name = "",
    version: Version = 0,
    phase: Phases = None,
    limit: Limit = LIMIT,
    dry_run: DryRun = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Undo sagas, unless their pivot has run."""
    with sentences():
        filtered = _filter(all_stuck, saga, version, phase)
        _names([saga_id] if saga_id else [], filtered, takes_step=False)
        anyio.run(_act, store, saga_id, filtered, CancelSaga(reason=why), who, why, limit, _mode(dry_run), json)


def hold(
    store: CoordinatorUrl,
    who: Who,
    why: Why,
    saga_id: SagaId = "",
    all_stuck: Stuck = False,  # noqa: FBT002 - a switch
    saga: Name = "",
    version: Version = 0,
    phase: Phases = None,
    limit: Limit = LIMIT,
    dry_run: DryRun = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Let nothing more of the sagas begin until they are released."""
    with sentences():
        filtered = _filter(all_stuck, saga, version, phase)
        _names([saga_id] if saga_id else [], filtered, takes_step=False)
        anyio.run(_act, store, saga_id, filtered, HoldSaga(), who, why, limit, _mode(dry_run), json)


def release(
    store: CoordinatorUrl,
    who: Who,
    why: Why,
    saga_id: SagaId = "",
    all_stuck: Stuck = False,  # noqa: FBT002 - a switch
    saga: Name = "",
    version: Version = 0,
    phase: Phases = None,
    limit: Limit = LIMIT,
    dry_run: DryRun = False,  # noqa: FBT002 - a switch
    json: Json = False,  # noqa: FBT002 - a switch
) -> None:
    """Go on with held sagas."""
    with sentences():
        filtered = _filter(all_stuck, saga, version, phase)
        _names([saga_id] if saga_id else [], filtered, takes_step=False)
        anyio.run(_act, store, saga_id, filtered, ReleaseSaga(), who, why, limit, _mode(dry_run), json)


# --- what was meant --------------------------------------------------------------------------------------------


def _mode(dry_run: bool) -> Mode:  # noqa: FBT001 - a switch
    return Mode.DRY_RUN if dry_run else Mode.DO


def _key(path: str) -> RunKey:
    step, _, branch = path.partition("/")
    return RunKey(step=step, branch=branch)


def _filter(
    all_stuck: bool,  # noqa: FBT001 - a switch
    saga: str,
    version: int,
    phase: list[str] | None,
) -> InstanceFilter | None:
    """Return the filter, None when there is none."""
    if wrong := sorted(set(phase or ()) - set(PHASES)):
        fail([f"--phase {wrong[0]!r} is none of {', '.join(PHASES)}"], Exit.USAGE)
    if all_stuck and phase:
        fail(["--all-stuck is --phase stuck: leave one of them out"], Exit.USAGE)
    phases = (STUCK_PHASE,) if all_stuck else tuple(phase or ())
    wanted = InstanceFilter(saga=saga, version=version, phases=phases)
    return None if wanted == InstanceFilter() else wanted


def _names(
    names: list[str], filtered: InstanceFilter | None, *, takes_step: bool = True, needs_step: bool = False
) -> tuple[str, str]:
    """Return saga ID and step; with a filter only the step is named."""
    saga_id, *steps = ["", *names] if filtered is not None else (names or [""])
    if filtered is None and not saga_id:
        fail(["name one saga by its ID, or many by --all-stuck, --saga, --version and --phase"], Exit.USAGE)
    if len(steps) > takes_step:
        fail([f"{steps[-1]!r} is one name too many: name one saga, or filter, not both"], Exit.USAGE)
    if needs_step and not steps:
        fail(["name the step, as service.function"], Exit.USAGE)
    return saga_id, steps[0] if steps else ""


# --- doing it ----------------------------------------------------------------------------------------------------


async def _act(
    store: str,
    saga_id: str,
    wanted: InstanceFilter | None,
    verb: Verb,
    who: str,
    why: str,
    limit: int,
    mode: Mode,
    json: bool,  # noqa: FBT001 - anyio.run
    events: Iterable[type[Event | Refusal]] = (),
) -> None:
    async with SagaDesk(store, events=events) as desk:
        if wanted is None:
            _tell(await desk.act(saga_id, verb, who=who, why=why, mode=mode), mode, json=json)
            return
        sagas, refused = 0, 0
        async with aclosing(desk.each(wanted, verb, who=who, why=why, limit=limit, mode=mode)) as acts:
            async for acted in acts:
                sagas, refused = sagas + 1, refused + (acted.result is Result.REFUSED)
                _tell(acted, mode, json=json)
    if not sagas:
        nothing_matched()
    if sagas == limit:
        err.print(f"there may be more than {limit}: --limit")
    if refused:
        fail([f"{refused} of {sagas} sagas refused"], Exit.NOTHING)


def _tell(acted: Acted, mode: Mode, *, json: bool) -> None:
    if json:
        values: dict[str, object] = {"saga_id": acted.saga_id, "result": acted.result, "sentence": acted.sentence}
        print_json(values | ({"dry_run": True} if mode is Mode.DRY_RUN else {}))
        return
    would = "would be " if mode is Mode.DRY_RUN and acted.result is not Result.REFUSED else ""
    out.print(printable(f"{acted.saga_id}: {would}{acted.result}: {acted.sentence}"))
