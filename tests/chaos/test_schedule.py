from __future__ import annotations

from random import Random

from tests.chaos.basket import KINDS, fill
from tests.chaos.schedule import draw_crashes, draw_kills
from tests.chaos.world import COORDINATORS


def test_the_same_seed_gives_the_same_chaos() -> None:
    names = ["payment", "orders", *COORDINATORS]
    first, second = (draw_kills(names, 60, 4.0, Random(7)) for _ in range(2))
    assert first == second
    assert draw_kills(names, 60, 4.0, Random(8)) != first
    assert draw_crashes(3, 100.0, Random(7)) == draw_crashes(3, 100.0, Random(7))
    assert fill(100, Random(7)) == fill(100, Random(7))


def test_every_process_is_a_victim_and_sometimes_all_coordinators_are() -> None:
    kills = draw_kills(["payment", "orders", *COORDINATORS], 200, 4.0, Random(7))
    assert {kill.wanted[0] for kill in kills} == {"payment", "orders", *COORDINATORS}
    assert any(kill.together == COORDINATORS for kill in kills)
    assert all(0 < kill.after_seconds < 8 for kill in kills)


def test_crashes_are_spread_over_the_chaos() -> None:
    times = [crash.at_seconds for crash in draw_crashes(4, 100.0, Random(7))]
    assert times == sorted(times)
    assert all(25 * number <= at < 25 * (number + 1) for number, at in enumerate(times))


def test_about_a_third_of_the_orders_must_be_undone_and_every_kind_occurs() -> None:
    orders = fill(2000, Random(7))
    must = sum(len(order.kind.endings) == 1 for order in orders) / len(orders)
    assert 0.25 < must < 0.35
    assert {order.kind.name for order in orders} == {kind.name for kind in KINDS}
    assert any(order.again for order in orders)
    assert any(order.conflict for order in orders)
