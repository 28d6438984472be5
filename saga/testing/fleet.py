"""Resolve the services of a scenario, once for however often it is played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from saga._core.declare import Service
from saga._core.definition import ServiceDefinition
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan, plan_to_json
from saga._core.resolve import resolve_all
from saga._core.rows import PlanRow

Group = Service | Sequence[Service]
"""The services of one process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Be what processes are made of: their services, the definitions, the plans as rows, the longest timeout."""

    groups: tuple[tuple[Service, ...], ...]
    definitions: tuple[ServiceDefinition, ...]
    plans: tuple[PlanRow, ...]
    longest: timedelta


def fleet_of(services: Sequence[Group]) -> Fleet:
    """Return the fleet of these services; raises DeclarationError, PlanError."""
    groups = tuple((one,) if isinstance(one, Service) else tuple(one) for one in services)
    definitions = tuple(definition for group in groups for definition in resolve_all(group))
    manifests = [manifest_of(definition) for definition in definitions]
    sagas = {(part.saga, part.version) for manifest in manifests for part in manifest.sagas}
    plans = [build_plan(name, version, manifests) for name, version in sorted(sagas)]
    return Fleet(
        groups=groups,
        definitions=definitions,
        plans=tuple(
            PlanRow(saga=p.saga, version=p.version, revision=p.revision, hash=p.hash, body=plan_to_json(p))
            for p in plans
        ),
        longest=max((saga.timeout for definition in definitions for saga in definition.sagas), default=timedelta()),
    )
