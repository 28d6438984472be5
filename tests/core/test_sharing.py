"""Relays come to share the shards fairly, and no key is overtaken."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from saga._core.plain import SHARDS
from saga._core.rows import OutboxRow
from saga._core.sharing import PAUSE_CAP_SECONDS, Attendance, Refused, left_out, portion_of, sent

ALL = set(range(SHARDS))


def attendance(relays: list[str], holders: dict[int, str]) -> Attendance:
    return Attendance(relays=frozenset(relays), holders=holders)


def row(seq: int, key: str) -> OutboxRow:
    return OutboxRow(
        id=str(seq), aggregatetype="t", aggregateid=key, type="e", payload=b"{}", service="s", shard=0, seq=seq
    )


def test_who_is_alone_takes_everything_and_gives_half_to_who_comes() -> None:
    alone = portion_of("a", attendance([], {}))
    assert (set(alone.hold), alone.give_up, alone.is_fair) == (ALL, frozenset(), True)
    holders = dict.fromkeys(ALL, "a")
    second = portion_of("b", attendance(["a"], holders))
    assert (second.hold, second.is_fair) == ((), False)
    first = portion_of("a", attendance(["a", "b"], holders))
    assert (first.hold, set(first.give_up)) == (tuple(range(32)), set(range(32, 64)))


relay_names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


@given(relay_names, st.dictionaries(st.sampled_from(sorted(ALL)), st.sampled_from("abcdefgh")))
def test_they_come_to_a_fair_share_whatever_they_begin_with(relays: list[str], holders: dict[int, str]) -> None:
    # What only dead relays hold is free by then: their leases have run out.
    held = {shard: holder for shard, holder in holders.items() if holder in relays}
    for _ in range(len(relays) + 2):
        for me in relays:
            portion = portion_of(me, attendance(relays, held))
            assert not portion.give_up & set(portion.hold)
            assert all(held.get(shard, me) == me for shard in portion.hold), "a live lease was taken"
            assert all(held[shard] == me for shard in portion.give_up)
            for shard in portion.give_up:
                del held[shard]
            held |= dict.fromkeys(portion.hold, me)
    counts = Counter(held.values())
    assert set(held) == ALL
    assert max(counts.values()) - min(counts[relay] for relay in relays) <= 1
    assert all(portion_of(me, attendance(relays, held)).is_fair for me in relays)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1),
    st.floats(min_value=0, max_value=1e6),
)
def test_of_a_key_nothing_counts_behind_an_error(page: list[tuple[str, bool]], now: float) -> None:
    rows = [row(seq, key) for seq, (key, _) in enumerate(page)]
    outcome = sent(rows, [None if good else OSError("no") for _, good in page], {}, now)
    for key in "abc":
        mine = [(seq, good) for seq, (k, good) in enumerate(page) if k == key]
        goods = [good for _, good in mine]
        until = goods.index(False) if False in goods else len(goods)
        assert [seq for seq in outcome.done if page[seq][0] == key] == [seq for seq, _ in mine[:until]]
        assert (key in outcome.refused) == (False in goods)
    assert (outcome.error is None) == (not outcome.refused)


def test_a_refused_key_waits_longer_each_time_and_is_left_out_until_then() -> None:
    waited: dict[str, Refused] = {}
    pauses: list[float] = []
    now = 0.0
    for _ in range(8):
        outcome = sent([row(1, "k")], [OSError("no")], waited, now)
        waited = dict(outcome.refused)
        pauses.append(waited["k"].pause_seconds)
        assert left_out({"busy"}, waited, now) == ["busy", "k"]
        now = waited["k"].until
        assert left_out({"busy"}, waited, now) == ["busy"]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, PAUSE_CAP_SECONDS, PAUSE_CAP_SECONDS]
