"""Put single services' manifests into a plan: what has not changed makes the same plan, what has is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from saga import Event, PlanError, Service
from saga._core.grafting import grafted, services_of
from saga._core.manifest import Manifest, manifest_of
from saga._core.planning import build_plan
from saga._core.resolve import resolve_all
from tests.core import checkout
from tests.core.order_versions import OrderPlacedV1, inventory
from tests.core.order_versions import checkout as versioned

MANIFESTS = tuple(manifest_of(each) for each in resolve_all(checkout.SERVICES))
PLAN = build_plan("checkout", 1, MANIFESTS)


def placed(event: type[Event]) -> tuple[Manifest, ...]:
    """Return the manifests of inventory, which reads two versions, and of a shop that starts with one."""
    shop = Service("shop")
    shop.starts(versioned, event)
    return tuple(manifest_of(each) for each in resolve_all([shop, inventory]))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest.service)
def test_every_service_alone_makes_the_same_plan(manifest: Manifest) -> None:
    assert grafted(PLAN, [manifest]).hash == PLAN.hash
    assert services_of(PLAN) == {each.service for each in MANIFESTS}


@pytest.mark.parametrize("position", [0, 1])
def test_a_step_keeps_the_older_version_that_another_service_sends(position: int) -> None:
    given = placed(OrderPlacedV1)
    plan = build_plan("checkout", 1, given)
    (step,) = plan.steps
    assert step.reacts_to == "order.placed.v1", "the shop sends the older one"
    assert grafted(plan, [given[position]]).hash == plan.hash


def test_another_time_is_that_of_the_manifest() -> None:
    manifest = MANIFESTS[0]
    longer = replace(manifest, sagas=tuple(replace(part, timeout_ms=part.timeout_ms + 1) for part in manifest.sagas))
    assert grafted(PLAN, [longer]).timeout_ms == PLAN.timeout_ms + 1


def test_what_the_others_need_must_still_be_sent() -> None:
    given = next(m for m in MANIFESTS if m.service == PLAN.starter)
    with pytest.raises(PlanError, match="no service starts it"):
        grafted(PLAN, [replace(given, sagas=())])
