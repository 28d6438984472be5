# ruff: noqa: SLF001 - the library has no public names for what its fetcher holds, see library.py
"""Say which partitions to fetch next, for the library's fetcher."""

from __future__ import annotations

from typing import Any

from transports.kafka.sessions import Ask, Bounds

Actions = tuple[list[tuple[int, Any]], Any, float, bool, list[Any]]
"""Requests and partitions without a position, by node; when to look again, whether to ask for leaders, resumptions."""


class FetchPlan:
    """Do what the fetcher does to find its next requests, at a tenth of the price, as long as nothing is odd.

    The library looks up the leader and the state of every partition each time, twice for every request. Here the
    partitions are sorted by leader once for each assignment and each list of leaders. Whatever is not plain (no
    leader, no position, paused, a rack) is left to the library's own function.
    """

    def __init__(self, fetcher: Any) -> None:
        """Take over from a fetcher that has not begun."""
        self._fetcher = fetcher
        self._general = fetcher._get_actions_per_node
        self._assignment: Any = None
        self._listed: Any = None
        self._leaders: dict[Any, int] = {}
        self._is_odd = False
        self._places: dict[int, list[tuple[Any, Any]]] = {}
        self._bounds = Bounds(
            max_wait_ms=fetcher._fetch_max_wait_ms,
            min_bytes=fetcher._fetch_min_bytes,
            max_bytes=fetcher._fetch_max_bytes,
            partition_bytes=fetcher._max_partition_fetch_bytes,
            isolation_level=fetcher._isolation_level,
        )
        fetcher._get_actions_per_node = self.actions

    def actions(self, assignment: Any) -> Actions:
        """Return what the fetcher is to do for its partitions."""
        fetcher = self._fetcher
        listed = fetcher._client.cluster._partitions  # another one after each answer about metadata
        if assignment is not self._assignment or listed is not self._listed:
            self._sort(assignment, listed)
        held = self._held()
        requests: list[tuple[int, Any]] = []
        for node, places in self._places.items():
            if node in fetcher._in_flight:
                continue
            wanted = self._wanted(places)
            if wanted is None:
                return self._by_library(assignment)
            if wanted and node not in held:
                requests.append((node, Ask(wanted, self._bounds)))
        if self._is_odd:
            return self._by_library(assignment)
        return requests, {}, min(held.values()) if held else fetcher._fetcher_timeout, False, []

    def _by_library(self, assignment: Any) -> Actions:
        found: Actions = self._general(assignment)
        return found

    def _held(self) -> dict[int, float]:
        """Return the nodes that are left alone while what they have sent is not consumed, and for how long."""
        held: dict[int, float] = {}
        for place, fetched in self._fetcher._records.items():
            left = fetched.calculate_backoff()
            if left and place in self._leaders:
                held[self._leaders[place]] = max(left, held.get(self._leaders[place], 0.0))
        return held

    def _wanted(self, places: list[tuple[Any, Any]]) -> dict[Any, int] | None:
        """Return where to read each partition from, None when one of them is not plain."""
        records = self._fetcher._records
        wanted: dict[Any, int] = {}
        for place, state in places:
            if place not in records:
                if state._position is None or state._paused:
                    return None
                wanted[place] = state._position
        return wanted

    def _sort(self, assignment: Any, listed: Any) -> None:
        """Sort the partitions by their leaders; where one has none, or a rack was named, the library does it all."""
        self._assignment, self._listed = assignment, listed
        self._leaders, self._places = {}, {}
        cluster = self._fetcher._client.cluster
        leaders = {place: cluster.leader_for_partition(place) for place in assignment.tps}
        self._is_odd = bool(self._fetcher._client_rack) or not {None, -1}.isdisjoint(leaders.values())
        if self._is_odd:
            return
        self._leaders = leaders
        for place, leader in leaders.items():
            self._places.setdefault(leader, []).append((place, assignment.state_value(place)))
