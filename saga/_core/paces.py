"""Write and read how quick the steps of a plan are, as the coordinator tells it to the services."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import orjson

from saga._core.budget import VALID_FOR, History, Paces
from saga._core.fields import as_object, load_object, name_in, number_in
from saga._core.times import format_time, parse_time

PACE = "pace/"
_MOST_MS = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceOfPlan:
    """Say how quick the steps of the plan with hash `plan` were at `at`."""

    plan: str
    at: datetime
    paces: Paces

    def at_time(self, now: datetime) -> Paces:
        """Return the paces, none once they are old: nothing new is learned of what is always turned down."""
        return self.paces if now - self.at < VALID_FOR else {}


def pace_of(plan: str, history: History) -> PaceOfPlan | None:
    """Return what is to be told of a plan, None while nothing is known."""
    at = max((sample.at for sample in history.samples.values()), default=None)
    paces = history.paces(at) if at is not None else {}
    return PaceOfPlan(plan=plan, at=at, paces=paces) if at is not None and paces else None


def pace_key(plan: str) -> str:
    """Return the key on `saga.plans` under which the pace of a plan stands."""
    return f"{PACE}{plan}"


def encode_pace(pace: PaceOfPlan) -> bytes:
    """Return the JSON body that tells a pace."""
    steps = {name: round(seconds * 1000) for name, seconds in sorted(pace.paces.items())}
    return orjson.dumps({"plan": pace.plan, "at": format_time(pace.at), "steps_ms": steps})


def decode_pace(body: bytes) -> PaceOfPlan:
    """Return the pace a body tells; raises Undecodable, whatever the bytes are."""
    found = load_object(body)
    steps = as_object(found.get("steps_ms"), "steps_ms")
    paces = {name: number_in(steps, name, most=_MOST_MS) / 1000 for name in steps}
    return PaceOfPlan(plan=name_in(found, "plan"), at=parse_time(name_in(found, "at"), "at"), paces=paces)
