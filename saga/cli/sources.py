"""Find the plans that targets name: in code, in manifests of other repositories, or in plan files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from saga._core.manifest import Manifest
from saga._core.plan import Plan
from saga.cli.planfiles import SUFFIX, build_plans, read_plan
from saga.cli.saying import Exit, fail, sentences
from saga.cli.targets import BadTarget, manifests_at
from saga.errors import PlanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Hold the plans that targets name, and the manifests they were made from; plan files have none."""

    plans: tuple[Plan, ...]
    manifests: tuple[Manifest, ...]


def sources_at(targets: Sequence[str]) -> Sources:
    """Return the plans of all targets, by name and version; raises BadTarget, DeclarationError, PlanError, OSError.

    A target is code, a manifest file, a plan file, or a folder of either kind of file.
    """
    files: list[Path] = []
    others: list[str] = []
    for target in targets:
        path = Path(target)
        inside = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []
        if path.name.endswith(SUFFIX) and path.is_file():
            files.append(path)
        elif inside:
            files += inside
        else:
            others.append(target)
    manifests = manifests_at(others) if others else ()
    found = [*(build_plans(manifests) if others else ()), *map(read_plan, files)]
    plans: dict[tuple[str, int], Plan] = {}
    for plan in found:
        known = plans.setdefault((plan.saga, plan.version), plan)
        if known.hash != plan.hash:
            raise PlanError([f"{plan.saga} v{plan.version}: the targets have two different plans of it; name only one"])
    return Sources(plans=tuple(plans[key] for key in sorted(plans)), manifests=manifests)


def chosen(plans: Sequence[Plan], saga: str, version: int) -> tuple[Plan, ...]:
    """Return the plans of one saga, of its newest version where none is named; raises BadTarget when there is none."""
    found = [plan for plan in plans if saga in ("", plan.saga) and version in (0, plan.version)]
    if not found:
        known = ", ".join(f"{plan.saga} v{plan.version}" for plan in plans)
        raise BadTarget(
            f"there is no plan of {saga or 'any saga'}{f' v{version}' if version else ''} here; known: {known}"
        )
    if saga and not version:
        found = [max(found, key=lambda plan: plan.version)]
    return tuple(found)


@contextmanager
def plan_sentences() -> Generator[None]:
    """Turn an error into sentences and an exit code: 2 used wrongly, 1 the plans have problems, 3 not to be reached."""
    with sentences():
        try:
            yield
        except BadTarget as error:
            fail([str(error)], Exit.USAGE)
        except PlanError as error:
            fail(error.problems, Exit.NOTHING)
        except OSError as error:
            fail([f"{error.filename}: {error.strerror}"], Exit.USAGE)


def write_out(text: str, out: Path) -> None:
    """Write a file that the command has been asked for."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
