"""Ask the coordinator's database before a deploy: what open sagas need and the code no longer has is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from outbox.urls import open_coordination_store
from saga._core.announcing import Live, Replica, manifest_hash
from saga._core.manifest import Manifest
from saga._core.plan import Plan
from saga._core.planning import plan_from_json, plan_to_json
from saga._core.rows import CoordinatorChanges, PlanRow
from saga.cli.live import Seen, live_problems
from saga.cli.targets import manifests_at
from tests.cli.shop import MAILER
from tests.cli.test_commands import PLAN, Change, cwd, forget, fresh_modules, saga, shop
from tests.contracts.store_rows import instance, saga_id

__all__ = ["cwd", "fresh_modules", "shop"]

STORE = "sqlite:///coordinator.db"
LIVE = ("check", "shop:services", "--live", "--store", STORE)


@pytest.fixture(autouse=True)
def filed(shop: Change) -> Plan:
    """Have the plan of the shop as a file and in a coordinator's database."""
    del shop
    saga("plan", "shop:services")
    found = plan_from_json(PLAN.read_bytes())
    remember(found)
    return found


def remember(*plans: Plan, open_: tuple[str, ...] = (), ended: tuple[str, ...] = ()) -> None:
    """Store plans, and open and ended sagas under the plans with these hashes."""

    async def write() -> None:
        async with open_coordination_store(STORE) as store:
            await store.migrate()
            rows = [
                PlanRow(saga=p.saga, version=p.version, revision=p.revision, hash=p.hash, body=plan_to_json(p))
                for p in plans
            ]
            await store.put_plans(rows)
            sagas = [replace(instance(saga_id()), plan=hash_) for hash_ in open_]
            sagas += [replace(instance(saga_id()), plan=hash_, phase="completed") for hash_ in ended]
            await store.write(CoordinatorChanges(instances=tuple(sagas)))

    anyio.run(write)


def test_code_that_open_sagas_can_go_on_with_is_fine(filed: Plan) -> None:
    assert saga(*LIVE).code == 0
    remember(open_=(filed.hash,), ended=("0" * 64,))
    said = saga(*LIVE)
    assert (said.code, said.out, said.err) == (0, "booking v1: code and plan agree\n", "")


def test_a_step_that_open_sagas_need_is_missed(filed: Plan, shop: Change) -> None:
    remember(open_=(filed.hash, filed.hash))
    shop("async def book(", "async def reserve(")
    saga("plan", "shop:services")
    said = saga(*LIVE)
    assert said.code == 1
    assert said.err == (
        "error: rooms.book (booking v1 revision 1): this code does not have the step; 2 sagas are open under that "
        "plan: keep what it needs in the code until they have ended, or make the change a new version of the saga\n"
    )
    assert saga("check", "shop:services").code == 0, "without --live nobody asks"


def test_a_change_that_old_sagas_can_live_with_is_fine(filed: Plan, shop: Change) -> None:
    remember(open_=(filed.hash,))
    shop("seconds=5", "seconds=7")
    saga("plan", "shop:services")
    assert saga(*LIVE).code == 0


def test_another_start_leaves_ends_untold(filed: Plan, shop: Change) -> None:
    remember(open_=(filed.hash,))
    shop('"room.asked", version=1', '"room.asked", version=2')
    saga("plan", "shop:services")
    said = saga(*LIVE)
    assert said.code == 1
    assert "desk.start (booking v1 revision 1): starts with room.asked.v2 in this code" in said.err
    assert "1 saga is open under that plan, whose end this code cannot be told" in said.err


def test_an_unknown_plan_and_a_file_that_is_outrun_are_told(filed: Plan, shop: Change) -> None:
    remember(replace(filed, revision=2), open_=("f" * 64,))
    assert "1 saga is open under plan ffffffffffff, which the coordinator's database does not have" in saga(*LIVE).err
    shop("seconds=5", "seconds=7")
    PLAN.unlink()
    saga("plan", "shop:services")
    said = saga(*LIVE)
    assert said.code == 1
    assert "booking v1: the file has revision 1, and the coordinator's database has another plan with revision 2" in (
        said.err
    )


def test_a_difference_to_the_files_comes_first(filed: Plan, shop: Change) -> None:
    remember(open_=(filed.hash,))
    shop("async def book(", "async def reserve(")
    said = saga(*LIVE)
    assert (said.code, "rooms.book is gone in the code" in said.err, "open" in said.err) == (1, True, False)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--live",), 2, "--live needs --store URL"),
        (("--store", STORE), 2, "--store and --transport need --live"),
        (("--live", "--store", "sqlite:///nowhere.db"), 2, "--store sqlite:///nowhere.db: there is no such file"),
        (("--live", "--store", "sqlite:///empty.db"), 1, "has no table of a coordinator"),
        (("--live", "--store", "mysql://a/b"), 1, "a database URL with scheme 'mysql' cannot be used"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: tuple[str, ...], code: int, sentence: str) -> None:
    Path("empty.db").touch()
    said = saga("check", "shop:services", *arguments)
    assert (said.code, said.err.count("\n"), sentence in said.err) == (code, 1, True), said.err
    assert not Path("nowhere.db").exists()


# --- running replicas -------------------------------------------------------------------------------------


def announced(*manifests: Manifest) -> dict[str, Manifest]:
    return {manifest_hash(manifest): manifest for manifest in manifests}


def live(manifest: Manifest, slot: str = "0") -> Live:
    return Live(replica=Replica(service=manifest.service, slot=slot), hash=manifest_hash(manifest))


def test_running_replicas_are_held_against_open_sagas(filed: Plan, shop: Change) -> None:
    desk, rooms = manifests_at(["shop:services"])
    forget()
    shop("async def book(", "async def reserve(")
    _, renamed = manifests_at(["shop:services"])
    manifests = announced(desk, rooms, renamed)
    open_ = {filed.hash: 2}
    both = Seen(stored=(filed,), open=open_, running=(live(rooms), live(renamed, "1")), manifests=manifests)
    different = "in revision 1 rooms.book is not in its code; rooms.reserve is not in the plan"
    assert live_problems((), (), both) == (f"rooms[1] matches no published plan of booking v1: {different}",)
    new = replace(both, running=(live(renamed),))
    assert live_problems((), (), new)[0] == (
        "no running replica of rooms can run rooms.book, and 2 sagas are open under booking v1 revision 1"
    )
    nobody = replace(both, running=())
    assert live_problems((), (), nobody) == (
        "no replica of rooms is running, and 2 sagas are open under booking v1 revision 1",
    )
    assert live_problems((), (), replace(nobody, running=None)) == ()
    assert live_problems((), (), replace(nobody, open={})) == ()


def test_a_service_of_another_repository_is_left_to_it(filed: Plan) -> None:
    Path("mailer.py").write_text(MAILER)
    (mailer,) = manifests_at(["mailer:mailer"])
    assert live_problems((mailer,), (), Seen(stored=(filed,), open={filed.hash: 1})) == ()
