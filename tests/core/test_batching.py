"""How many deliveries go into one transaction, and how long they may gather."""

from __future__ import annotations

from saga._core.batching import PAUSE_CAP_SECONDS, BatchSize, pause_after, split, worth_a_transaction


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
    cut = BatchSize(size=8).after_cut(4)
    assert cut.size == 4
    assert cut.after_clean(4).size == 8, "no row was contended for"


def test_deliveries_gather_for_as_long_as_the_last_batch_took() -> None:
    assert pause_after(0.004) == 0.004
    assert pause_after(3.0) == PAUSE_CAP_SECONDS


def test_a_few_deliveries_are_one_transaction() -> None:
    assert split("abcabc", 16, 4) == [[0, 1, 2, 3, 4, 5]]
    assert split("", 16, 4) == [[]]
    assert split(list(range(63)), 128, 4) == [list(range(63))]


def test_many_are_several_side_by_side() -> None:
    assert [len(group) for group in split(list(range(64)), 128, 4)] == [32, 32]
    assert [len(group) for group in split(list(range(512)), 128, 4)] == [128] * 4
    assert [len(group) for group in split(list(range(100)), 128, 1)] == [100]


def test_none_is_larger_than_the_rows_can_bear() -> None:
    assert [len(group) for group in split(list(range(20)), 8, 1)] == [7, 7, 6]


def test_what_has_the_same_key_stays_together_and_in_order() -> None:
    keys = [place % 7 for place in range(70)]
    groups = split(keys, 128, 2)
    assert len(groups) == 2
    assert sorted(place for group in groups for place in group) == list(range(70))
    assert all(group == sorted(group) for group in groups)
    assert {keys[place] for place in groups[0]}.isdisjoint(keys[place] for place in groups[1])


def test_transactions_side_by_side_are_worth_more_where_answers_take_long() -> None:
    assert worth_a_transaction(0.0, 0.1) == 32
    assert worth_a_transaction(0.0003, 0.1) == 32
    assert worth_a_transaction(0.001, 0.1) == 10
    assert worth_a_transaction(1.0, 0.1) == 4
    assert [len(group) for group in split(list(range(12)), 128, 3, worth_a_transaction(0.005, 0.1))] == [4, 4, 4]


def test_a_process_that_works_all_the_time_has_one_transaction_after_another() -> None:
    assert [len(group) for group in split(list(range(128)), 128, 4, worth_a_transaction(0.005, 0.9))] == [128]
