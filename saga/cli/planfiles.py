"""Write plans to a folder and compare a folder with the code; a revision counts the changes of a plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import orjson

from saga._core.events import check_name
from saga._core.grafting import grafted, services_of
from saga._core.manifest import Manifest
from saga._core.plan import Plan
from saga._core.planning import build_plan, plan_from_json, plan_to_json
from saga.cli.changes import changes
from saga.errors import PlanError

SUFFIX = ".plan.json"
_AGAIN = "run `saga plan` and commit what it writes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Tell what became of one plan file: `state` is new, changed, rewritten (same shape) or unchanged."""

    path: Path
    plan: Plan
    state: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Tell how code and plan files compare: what differs, the plans that were compared, and what was not looked at.

    `unseen` has for each title of a plan ("checkout v1") the services in it that nobody has named.
    """

    plans: tuple[Plan, ...]
    problems: tuple[str, ...]
    unseen: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filed:
    """Hold what a plan file has: its plan, None where it is not sound, and its revision in any case."""

    plan: Plan | None
    revision: int
    body: bytes


def plan_path(folder: Path, plan: Plan) -> Path:
    """Return where the plan of a saga version lies."""
    return folder / f"{plan.saga}.v{plan.version}{SUFFIX}"


def build_plans(manifests: Sequence[Manifest]) -> tuple[Plan, ...]:
    """Make the plan of every saga version the manifests have a part in; raises PlanError with all that is wrong."""
    sagas = sorted({(part.saga, part.version) for manifest in manifests for part in manifest.sagas})
    if not sagas:
        raise PlanError(["no target takes part in a saga; name the services that declare its steps"])
    plans: list[Plan] = []
    problems: list[str] = []
    for saga, version in sagas:
        check_name(saga, "Saga", example="checkout")  # a manifest file may say anything, and it becomes a file name
        try:
            plans.append(build_plan(saga, version, manifests))
        except PlanError as error:
            problems += error.problems
    if problems:
        raise PlanError(list(dict.fromkeys(problems)))
    return tuple(plans)


def write_plans(plans: Sequence[Plan], folder: Path) -> tuple[Written, ...]:
    """Write plan files: a new plan is revision 1, a changed one the next, an unchanged one keeps its own.

    All files are read before the first is written. Raises PlanError, OSError.
    """
    found = [_written(plan, plan_path(folder, plan)) for plan in plans]
    folder.mkdir(parents=True, exist_ok=True)
    for written in found:
        if written.state != "unchanged":
            written.path.write_bytes(plan_to_json(written.plan))
    return tuple(found)


def check_dropped(manifests: Sequence[Manifest], folder: Path, dropped: Collection[str] = ()) -> None:
    """Raise PlanError where a plan file of a saga to be written has a service that is neither given nor `dropped`."""
    given = {manifest.service for manifest in manifests} | set(dropped)
    problems: list[str] = []
    for saga, version in sorted({(part.saga, part.version) for manifest in manifests for part in manifest.sagas}):
        path = folder / f"{saga}.v{version}{SUFFIX}"
        missing = sorted(_services_in(path.read_bytes()) - given) if path.is_file() else []
        problems += [_left_out(f"{saga} v{version}", service) for service in missing]
    if problems:
        raise PlanError(problems)


def check_plans(manifests: Sequence[Manifest], folder: Path) -> Checked:
    """Compare what the manifests' services have with a folder's files; raises PlanError, OSError.

    Of a plan that has other services, too, only what belongs to those given is compared.
    """
    named = {manifest.service for manifest in manifests}
    unseen: dict[str, tuple[str, ...]] = {}
    plans: list[Plan] = []
    problems: list[str] = []
    fresh = {(part.saga, part.version) for manifest in manifests for part in manifest.sagas}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            filed = read_plan(path)
        except PlanError as error:
            problems += error.problems
            fresh = {each for each in fresh if path.name != f"{each[0]}.v{each[1]}{SUFFIX}"}
            continue
        others = services_of(filed) - named
        if path != plan_path(folder, filed):
            problems.append(f"{path}: it holds {filed.saga} v{filed.version}; give it that name, or remove it")
        elif (filed.saga, filed.version) not in fresh and not others:
            problems.append(f"{path}: no target takes part in this saga version; remove the file, or name who does")
        elif (filed.saga, filed.version) in fresh or services_of(filed) & named:
            fresh.discard((filed.saga, filed.version))
            plans.append(filed)
            problems += _differences(filed, manifests, path)
        if others:
            unseen[f"{filed.saga} v{filed.version}"] = tuple(sorted(others))
    problems += _missing(manifests, sorted(fresh), folder)
    return Checked(plans=tuple(plans), problems=tuple(problems), unseen=unseen)


def _missing(manifests: Sequence[Manifest], sagas: Sequence[tuple[str, int]], folder: Path) -> list[str]:
    """Return what is wrong with sagas that have no file: that, or why there can be none yet."""
    found: list[str] = []
    for saga, version in sagas:
        try:
            found.append(f"{plan_path(folder, build_plan(saga, version, manifests))}: is missing; {_AGAIN}")
        except PlanError as error:
            found += error.problems
    return found


def read_plan(path: Path) -> Plan:
    """Read one plan file; raises PlanError naming it, OSError."""
    try:
        return plan_from_json(path.read_bytes())
    except PlanError as error:
        raise PlanError([f"{path}: {problem}" for problem in error.problems]) from error


def _differences(filed: Plan, manifests: Sequence[Manifest], path: Path) -> list[str]:
    try:
        plan = grafted(filed, manifests)
    except PlanError as error:
        return list(error.problems)
    if filed.hash != plan.hash:
        return [f"{path}: {change} in the code; {_AGAIN}" for change in _named(filed, plan)]
    if filed.attempts != plan.attempts:
        return [f"{path}: attempts was {filed.attempts}, is {plan.attempts} in the code; {_AGAIN}"]
    if path.read_bytes() != plan_to_json(filed):
        return [f"{path}: its flow or layout was edited by hand; {_AGAIN}"]
    return []


def _written(plan: Plan, path: Path) -> Written:
    if not path.exists():
        return Written(path=path, plan=plan, state="new")
    filed = _filed(path)
    if filed.plan is None:
        return _changed(path, plan, filed.revision, ("the file was not sound",))
    if filed.plan.hash != plan.hash:
        return _changed(path, plan, filed.revision, _named(filed.plan, plan))
    kept = replace(plan, revision=filed.revision)
    return Written(path=path, plan=kept, state="unchanged" if plan_to_json(kept) == filed.body else "rewritten")


def _changed(path: Path, plan: Plan, revision: int, what: tuple[str, ...]) -> Written:
    return Written(path=path, plan=replace(plan, revision=revision + 1), state="changed", changes=what)


def _named(filed: Plan, plan: Plan) -> tuple[str, ...]:
    if (filed.saga, filed.version) != (plan.saga, plan.version):
        return (f"it holds {filed.saga} v{filed.version}, which is {plan.saga} v{plan.version}",)
    return changes(filed, plan)


def _left_out(title: str, service: str) -> str:
    return (
        f"plan {title} has steps of {service}, and neither a target nor a manifest of {service} was given: name its "
        f"code, or its manifest (`saga manifest {service}:services -o {service}.json`), or --drop {service} if it is "
        "gone"
    )


def _services_in(body: bytes) -> set[str]:
    """Return the services a plan file names, also where it is not sound."""
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return set()
    found = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    listed = found.get("steps")
    steps = cast("list[object]", listed) if isinstance(listed, list) else []
    names = [found.get("start"), *(cast("dict[str, object]", s).get("name") for s in steps if isinstance(s, dict))]
    return {name.partition(".")[0] for name in names if isinstance(name, str) and "." in name}


def _filed(path: Path) -> _Filed:
    """Read a file that `saga plan` is about to replace; of one that is not sound the revision must be readable."""
    body = path.read_bytes()
    try:
        plan = plan_from_json(body)
    except PlanError:
        return _Filed(plan=None, revision=_revision(path, body), body=body)
    return _Filed(plan=plan, revision=plan.revision, body=body)


def _revision(path: Path, body: bytes) -> int:
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    revision = cast("dict[str, object]", value).get("revision") if isinstance(value, dict) else None
    if type(revision) is int and revision >= 1:
        return revision
    raise PlanError(
        [f"{path}: is no plan and its revision cannot be read; take the committed file back, then run `saga plan`"]
    )
