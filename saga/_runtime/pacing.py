"""Tell the services how quick the steps of each plan are, and turn a step down that comes too late."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import anyio

from saga._core.answers import failed
from saga._core.budget import History, turned_down
from saga._core.envelope import Message
from saga._core.paces import encode_pace, pace_key, pace_of
from saga._core.rows import RunRow
from saga._core.topics import PLANS
from saga._core.words import StepKind
from saga._runtime.context import ServiceContext
from saga._runtime.items import StepItem
from saga.ports import Publisher

log = logging.getLogger("saga")

TELL_SECONDS = 60.0


async def tell_paces(publisher: Publisher, histories: Mapping[str, History]) -> None:
    """Publish what has been learned of each plan since the last time, once a minute, until cancelled."""
    told: dict[str, datetime] = {}
    while True:
        await anyio.sleep(TELL_SECONDS)
        found = [pace_of(plan, history) for plan, history in histories.items()]
        news = [pace for pace in found if pace is not None and told.get(pace.plan) != pace.at]
        messages = [Message(topic=PLANS, key=pace_key(pace.plan).encode(), value=encode_pace(pace)) for pace in news]
        for pace, error in zip(news, await publisher.publish(messages), strict=True):
            if error is None:
                told[pace.plan] = pace.at
            else:
                log.info("the pace of plan %s is not published: %s", pace.plan[:12], error)


def turned_down_early(context: ServiceContext, item: StepItem, run: RunRow, now: datetime) -> RunRow | None:
    """Return the failed run of a step whose work would be undone, None where it may start.

    Only of a saga that says `turn_down=EARLY`, and only what can be undone: the others have to be tried.
    """
    plan = item.topology.plan
    if not context.turning_down or (plan.saga, plan.version) not in context.turning_down:
        return None
    if item.step.kind is not StepKind.STEP:
        return None
    reason = turned_down(item.topology, run.step, context.plans.paces(plan.hash, now), run.expires_at, now)
    if not reason:
        return None
    context.count("turned_down_early")
    log.warning("%s of %s: %s", run.step, run.saga_id, reason)
    return failed(replace(run, attempt=run.attempt - 1), reason)
