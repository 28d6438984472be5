from __future__ import annotations

from pathlib import Path

from examples.payment.events import checkout
from examples.payment.services import SERVICES
from saga._core.manifest import manifest_of
from saga._core.planning import build_plan, plan_from_json
from saga._core.resolve import resolve_all

FILE = Path(__file__).parents[2] / "examples" / "payment" / "plans" / "checkout.v1.plan.json"


def test_the_plan_file_matches_the_code() -> None:
    committed = plan_from_json(FILE.read_bytes())
    manifests = [manifest_of(definition) for definition in resolve_all(SERVICES)]
    assert committed == build_plan(checkout.name, checkout.version, manifests, committed.revision)
