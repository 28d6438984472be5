"""Announce what a running service declares, and hold the announcements of a fleet against its plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256

import orjson

from saga._core.manifest import Manifest, SagaManifest, manifest_to_json
from saga._core.plan import Plan, PlanStep
from saga._core.strict_json import load, record, refuse

_LIVE: dict[str, type] = {"service": str, "slot": str, "hash": str}
_LOCAL = frozenset({"calls"})
REPLICA, MANIFEST = "replica/", "manifest/"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Replica:
    """Name one running replica of a service."""

    service: str
    slot: str

    def __str__(self) -> str:
        """Return it as messages print it."""
        return f"{self.service}[{self.slot}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """Say that a replica runs the code whose manifest has this hash."""

    replica: Replica
    hash: str


def manifest_hash(manifest: Manifest) -> str:
    """Return the SHA-256 of a manifest's file."""
    return sha256(manifest_to_json(manifest)).hexdigest()


def replica_key(replica: Replica) -> str:
    """Return the key under which a replica says what it runs; nothing is left there when it has stopped."""
    return f"{REPLICA}{replica.service}/{replica.slot}"


def manifest_key(hash_: str) -> str:
    """Return the key under which the manifest itself is."""
    return f"{MANIFEST}{hash_}"


def live_to_json(live: Live) -> bytes:
    """Return what stands under a replica's key."""
    return orjson.dumps({"service": live.replica.service, "slot": live.replica.slot, "hash": live.hash})


def live_from_json(body: bytes) -> Live:
    """Return what a replica has said; raises PlanError where it cannot be read."""
    found = record(load(body, "the announcement"), _LIVE, "the announcement")
    if not found["service"] or not found["hash"]:
        refuse("the announcement names no service, or no manifest")
    return Live(replica=Replica(service=found["service"], slot=found["slot"]), hash=found["hash"])


# --- drift ------------------------------------------------------------------------------------------------


def unplanned(manifest: Manifest, plans: Sequence[Plan]) -> Iterator[str]:
    """Yield one sentence for each saga version of a manifest that is like no plan: what differs from the newest."""
    for part in manifest.sagas:
        known = [plan for plan in plans if (plan.saga, plan.version) == (part.saga, part.version)]
        title = f"{part.saga} v{part.version}"
        if not known:
            yield f"takes part in {title}, of which no plan is published; start the coordinator with its plan file"
            continue
        if any(not _differences(manifest.service, part, plan) for plan in known):
            continue
        newest = max(known, key=lambda plan: plan.revision)
        said = "; ".join(_differences(manifest.service, part, newest))
        yield f"matches no published plan of {title}: in revision {newest.revision} {said}"


def _differences(service: str, part: SagaManifest, plan: Plan) -> list[str]:
    coded = {step.name: step for step in part.steps}
    planned = {step.name: step for step in plan.steps if step.service == service}
    found = [f"{name} is not in its code" for name in sorted(planned.keys() - coded.keys())]
    found += [f"{name} is not in the plan" for name in sorted(coded.keys() - planned.keys())]
    for name in sorted(coded.keys() & planned.keys()):
        if different := [each for each in _compared() if not _same(each, coded[name], planned[name])]:
            found.append(f"{name} has another {' and '.join(different)}")
    starts = plan.start_event if plan.starter == service else ""
    if part.starts_with != starts:
        found.append(f"it starts with {part.starts_with or 'nothing'}, not with {starts or 'nothing'}")
    return found


def _compared() -> list[str]:
    return [each.name for each in fields(PlanStep) if each.name not in _LOCAL]


def _same(name: str, coded: PlanStep, planned: PlanStep) -> bool:
    mine, theirs = getattr(coded, name), getattr(planned, name)
    return frozenset(mine) == frozenset(theirs) if name in ("emits", "refuses") else bool(mine == theirs)


def divided(live: Iterable[Live]) -> Mapping[str, str]:
    """Return the services whose replicas run different code, each with a sentence."""
    by_service: dict[str, dict[str, list[str]]] = {}
    for one in sorted(live, key=lambda one: one.replica):
        by_service.setdefault(one.replica.service, {}).setdefault(one.hash, []).append(one.replica.slot)
    found: dict[str, str] = {}
    for service, hashes in by_service.items():
        if len(hashes) > 1:
            groups = " and ".join(f"{hash_[:12]} in slot {', '.join(slots)}" for hash_, slots in hashes.items())
            found[service] = f"replicas of {service} declare different things ({groups}); finish the deploy"
    return found
