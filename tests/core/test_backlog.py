from __future__ import annotations

from saga._core.backlog import BacklogPart, LeaseHeld, ShardBacklog, backlog_of


def a_lease(name: str, owner: str, seconds_left: float = 5.0) -> LeaseHeld:
    return LeaseHeld(name=name, owner=owner, seconds_left=seconds_left)


def test_a_lease_that_has_run_out_is_nobodys() -> None:
    leases = (
        a_lease("relay a", "a"),
        a_lease("relay b", "b", -1.0),
        a_lease("shard 1", "a"),
        a_lease("shard 2", "b", -1.0),
        a_lease("sweep", "b", 0.0),
    )
    shards = (ShardBacklog(shard=1, rows=2, oldest_seconds=3.0), ShardBacklog(shard=2, rows=1, oldest_seconds=1.0))
    found = backlog_of((), shards, leases, None)
    assert [(one.shard, one.owner) for one in found.shards] == [(1, "a"), (2, "")]
    assert (found.relays, found.sweeper) == (("a",), "")


def test_the_oldest_row_is_that_of_all_services() -> None:
    parts = (
        BacklogPart(service="a", rows=2, oldest_seconds=3.0),
        BacklogPart(service="b", rows=1, oldest_seconds=9.0),
    )
    found = backlog_of(parts, (), (), None)
    assert (found.rows, found.oldest_seconds) == (3, 9.0)
    assert backlog_of((), (), (a_lease("sweep", "me"),), None).sweeper == "me"
