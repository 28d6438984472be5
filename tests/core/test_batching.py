"""How many deliveries go into one transaction, and how long they may gather."""

from __future__ import annotations

from saga._core.batching import PAUSE_CAP_SECONDS, BatchSize, pause_after


def grown(size: BatchSize, times: int) -> list[int]:
    sizes: list[int] = []
    for _ in range(times):
        size = size.after_clean(size.size)
        sizes.append(size.size)
    return sizes


def test_it_doubles_until_rows_are_contended_for() -> None:
    assert grown(BatchSize(cap=20), 6) == [2, 4, 8, 16, 20, 20]


def test_after_contention_it_is_half_and_grows_by_one() -> None:
    halved = BatchSize(size=16).after_contention()
    assert (halved.size, halved.threshold) == (8, 8)
    assert grown(halved, 3) == [9, 10, 11]
    assert grown(halved.after_contention(), 3) == [5, 6, 7]
    assert BatchSize().after_contention().size == 1


def test_a_batch_that_was_not_full_says_nothing_about_a_larger_one() -> None:
    assert BatchSize(size=4).after_clean(3).size == 4


def test_a_batch_cut_short_is_halved_only_if_it_was_far_off() -> None:
    assert BatchSize(size=8).after_cut(5).size == 8
    assert BatchSize(size=8).after_cut(4).size == 4


def test_deliveries_gather_for_as_long_as_the_last_batch_took() -> None:
    assert pause_after(0.004) == 0.004
    assert pause_after(3.0) == PAUSE_CAP_SECONDS
