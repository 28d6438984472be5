"""Say what may be done to a saga as it is: its verbs, the one to begin with, its steps and their results; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from saga._core.deadlines import timeout_at
from saga._core.explanation import Mend
from saga._core.ids import run_path
from saga._core.instance import ENDED, Instance, Phase
from saga._core.plan import Plan, topology_of
from saga._core.whole import SagaWhole
from saga._core.words import Mark
from saga.console.history import DOUBT, RunView

VERBS = ("retry", "hold", "release", "cancel", "skip", "resolve")
BACK = (Phase.ASKING, Phase.CLOSING)
_CALLED = {"intent", DOUBT}
"""An outside call is open: there is something to say of it."""
_FINISHED = ("done", "refused")
_NO_UNDO_LEFT = ("", "none", "done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """Be a remedy, and how the form is filled in for it; `verb` is "" where the form cannot do it."""

    mend: Mend
    verb: str = ""
    run: str = ""
    verdict: str = ""
    result_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Be what the form for one saga offers; `results` are pairs of a step and a type that it may give."""

    verbs: tuple[str, ...]
    first: str
    runs: tuple[str, ...]
    run: str
    results: tuple[tuple[str, str], ...]
    mends: tuple[Filled, ...]


def fit_of(whole: SagaWhole, instance: Instance | None, views: Sequence[RunView], mends: Iterable[Mend]) -> Fit:
    """Return what fits a saga; all verbs where its state cannot be read."""
    verbs = _verbs(whole, instance, views)
    runs = _runs(whole.plan, instance, views)
    doubts = sorted(run_path(*key) for key in instance.doubts) if instance is not None else []
    held = instance is not None and instance.mark is Mark.HELD
    first = "release" if held else "resolve" if doubts else "retry"
    run = next((name for name in (*doubts, whole.line.step) if name in runs), "")
    filled = tuple(_filled(mend, verbs, runs) for mend in mends)
    steps = whole.plan.steps if whole.plan is not None else ()
    results = tuple((step.name, event) for step in steps for event in (*step.emits, *step.refuses))
    return Fit(verbs=verbs, first=first, runs=runs, run=run, results=results, mends=filled)


def timeout_of(whole: SagaWhole, instance: Instance | None) -> datetime | None:
    """Return when a saga is undone that has not completed, None where no such time is near."""
    if instance is None or whole.plan is None or instance.phase is not Phase.RUNNING or instance.cause is not None:
        return None
    return timeout_at(topology_of(whole.plan), instance)


def _verbs(whole: SagaWhole, instance: Instance | None, views: Sequence[RunView]) -> tuple[str, ...]:
    if whole.line.ended_at is not None:
        return ()
    if instance is None:
        return VERBS
    unfit = {"hold"} if instance.mark is Mark.HELD else {"release"}
    if instance.phase in (*BACK, Phase.COMMITTED):
        unfit.add("cancel")
    if not any(_CALLED & {view.status, view.undo} for view in views):
        unfit.add("resolve")
    return tuple(verb for verb in VERBS if verb not in unfit)


def _runs(plan: Plan | None, instance: Instance | None, views: Sequence[RunView]) -> tuple[str, ...]:
    """Return what a verb may be about: what is not finished, and on the way back the services too."""
    finished = {view.name for view in views if view.status in _FINISHED and view.undo in _NO_UNDO_LEFT}
    known = [view.name for view in views if view.name not in finished]
    if instance is not None and instance.phase in ENDED:
        return ()
    steps = [step.name for step in plan.steps] if plan is not None else []
    begun = {view.step for view in views}
    back = instance is not None and (instance.phase in BACK or instance.stuck is not None)
    services = [name.partition(".")[0] for name in steps] if back else []
    return tuple(dict.fromkeys((*known, *(name for name in steps if name not in begun), *services)))


def _filled(mend: Mend, verbs: Sequence[str], runs: Sequence[str]) -> Filled:
    words = mend.command.split()
    verb = words[1] if len(words) > 1 and words[0] == "saga" else ""
    if verb not in verbs:
        return Filled(mend=mend)
    after = dict(pairwise(words))
    return Filled(
        mend=mend,
        verb=verb,
        run=next((word for word in words[2:] if word in runs), ""),
        verdict=after.get("--verdict", ""),
        result_type=after.get("--result-type", ""),
    )
