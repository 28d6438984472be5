"""Watch what a fleet announces: an alarm for each thing that does not fit, once, and none for a deploy."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import trio.testing

from saga._core.announcing import Live, live_from_json, live_to_json, manifest_hash
from saga._core.announcing import Replica as Announced
from saga._core.envelope import Message
from saga._core.manifest import Manifest, manifest_of
from saga._core.resolve import resolve
from saga._core.topics import MANIFESTS
from saga._runtime.drift import Announcer, DriftTuning, DriftWatch
from saga.errors import PlanError
from tests.runtime.fleet import Code, Fleet, write_plan
from tests.runtime.test_rolling_deploy import virtual_fleet

pytestmark = pytest.mark.anyio

TUNING = DriftTuning(grace_seconds=40)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@asynccontextmanager
async def watched(code: Code, tmp_path: Path) -> AsyncGenerator[tuple[Fleet, DriftWatch]]:
    """Give a fleet with a coordinator that has the plan of `code`, and its watch."""
    async with virtual_fleet() as there:
        there.drift = TUNING
        coordinator = await there.coordinate(write_plan(tmp_path / "plans", code.plan()), "0")
        assert coordinator.app.drift is not None
        yield there, coordinator.app.drift


@asynccontextmanager
async def announcing(there: Fleet, manifest: Manifest, slot: str) -> AsyncGenerator[Announcer]:
    """Announce a manifest as a replica would that no plan keeps from running, such as one in another language."""
    async with there.transport.publisher() as publisher, anyio.create_task_group() as tasks:
        announcer = Announcer(publisher, [manifest], slot)
        tasks.start_soon(announcer.run)
        yield announcer
        tasks.cancel_scope.cancel()


def manifest(code: Code, service: str) -> Manifest:
    return manifest_of(resolve(code.services[service]))


async def test_a_fleet_that_fits_raises_no_alarm(tmp_path: Path) -> None:
    code = Code(today=True)
    async with watched(code, tmp_path) as (there, watch):
        for name, service in code.services.items():
            await there.up([service], "0")
            await there.up([Code(today=True).services[name]], "1")
        await anyio.sleep(2 * TUNING.grace_seconds)
        assert (watch.alarms, watch.counts) == ((), {})
        assert len(watch.announced.live) == 8


async def test_code_that_matches_no_plan_is_an_alarm_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code, other = Code(today=True), Code(today=False)
    async with watched(code, tmp_path) as (there, watch):
        async with announcing(there, manifest(other, "shipping"), "7"):
            await anyio.sleep(TUNING.settle_seconds / 2)
            assert not list(watch.alarms)
            await anyio.sleep(3 * TUNING.announce_seconds)
            said = (
                "shipping[7] matches no published plan of checkout v1: "
                "in revision 1 shipping.ship has another reacts_to"
            )
            assert watch.alarms == (said,)
            assert watch.counts == {"drift": 1}
            assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [f"drift: {said}"]
        await anyio.sleep(TUNING.silent_seconds + 2 * TUNING.look_seconds)
        assert not list(watch.alarms), "who is silent is gone"


async def test_a_saga_version_without_a_plan_is_an_alarm(tmp_path: Path) -> None:
    later = manifest(Code(today=True, version=2), "orders")
    async with watched(Code(today=True), tmp_path) as (there, watch), announcing(there, later, "0"):
        await anyio.sleep(60)
        (said,) = watch.alarms
    assert said.startswith("orders[0] takes part in checkout v2, of which no plan is published")


async def test_replicas_that_differ_are_an_alarm_after_the_grace_and_it_ends_with_them(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    async with watched(old, tmp_path) as (there, watch):
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "1")
        one = await there.up([old.services["shipping"]], "0")
        await there.up([new.services["shipping"]], "1")
        await anyio.sleep(TUNING.grace_seconds - 20)
        third = await there.up([new.services["shipping"]], "2")
        assert not list(watch.alarms)
        await anyio.sleep(40)
        (said,) = watch.alarms
        assert said.startswith("replicas of shipping declare different things (")
        assert " in slot 1, 2)" in said
        await third.leave()
        await one.leave()
        await anyio.sleep(2 * TUNING.look_seconds)
        assert watch.alarms == (), "a replica that stops says so"


async def test_a_deploy_within_the_grace_raises_no_alarm(tmp_path: Path) -> None:
    old, new = Code(today=False), Code(today=True)
    async with watched(old, tmp_path) as (there, watch):
        await there.coordinate(write_plan(tmp_path / "new", new.plan(2)), "1")
        one = await there.up([old.services["shipping"]], "0")
        await there.up([new.services["shipping"]], "1")
        await anyio.sleep(TUNING.grace_seconds / 2)
        await one.leave()
        await there.up([new.services["shipping"]], "0")
        await anyio.sleep(2 * TUNING.grace_seconds)
        assert (watch.alarms, watch.counts) == ((), {})


async def test_what_cannot_be_read_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(Code(today=True), tmp_path) as (there, watch):
        async with there.transport.publisher() as publisher:
            keys = (b"replica/a/0", b"manifest/1", b"replica/b/0", b"other", b"")
            await publisher.publish([Message(topic=MANIFESTS, key=key, value=b"{") for key in keys])
        await anyio.sleep(30)
        assert watch.alarms == ()
    assert caplog.text.count("an announcement on saga.manifests cannot be read") == 3


def test_an_announcement_comes_back_as_it_was() -> None:
    live = Live(replica=Announced(service="orders", slot="a/b"), hash="ff")
    assert live_from_json(live_to_json(live)) == live
    for broken in (b"[]", b"{}", b'{"service": "", "slot": "", "hash": ""}'):
        with pytest.raises(PlanError):
            live_from_json(broken)


def test_a_manifest_has_one_hash_whatever_the_order() -> None:
    one, other = manifest(Code(today=True), "shipping"), manifest(Code(today=True), "shipping")
    assert manifest_hash(one) == manifest_hash(other)
    assert manifest_hash(replace(one, service="elsewhere")) != manifest_hash(one)
