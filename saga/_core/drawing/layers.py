"""Lay out a directed graph in layers: ranks along the arrows, few crossings, long arrows around what is between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from saga._core.drawing.marks import Point
from saga._core.drawing.placing import placed

SWEEPS = 12
"""How often the order within the layers is improved."""
BETWEEN = 26.0
"""The least pixels between two neighbours of a layer."""
APART = 48.0
"""The pixels between two parts that nothing joins."""
THIN = 10.0
"""How wide the way of a long arrow through a layer is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Be something with a place in the graph, and its size in pixels."""

    name: str
    width: float
    height: float


Arrow = tuple[str, str]
"""From the name of one spot to that of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Say where the middle of every spot lies, and through which points every arrow goes, ends included."""

    places: Mapping[str, Point]
    routes: Mapping[Arrow, tuple[Point, ...]]
    width: float
    height: float


def layout(spots: Sequence[Spot], arrows: Iterable[Arrow], gap: float = 34.0) -> Layout:
    """Return where everything lies, from the top down; arrows in a circle are let go up.

    What is not joined lies side by side. No two spots overlap, and all lie between 0 and the width and height
    returned. The same graph, in the same order, is laid out in the same way.
    """
    names = {spot.name for spot in spots}
    wanted = list(dict.fromkeys(a for a in arrows if a[0] in names and a[1] in names and a[0] != a[1]))
    places: dict[str, Point] = {}
    routes: dict[Arrow, tuple[Point, ...]] = {}
    right = height = 0.0
    for part in _parts(spots, wanted):
        within = {spot.name for spot in part}
        one = _joined(part, [arrow for arrow in wanted if arrow[0] in within], gap)
        left = right + APART if places else 0.0
        places |= {name: (x + left, y) for name, (x, y) in one.places.items()}
        routes |= {arrow: tuple((x + left, y) for x, y in points) for arrow, points in one.routes.items()}
        right, height = left + one.width, max(height, one.height)
    return Layout(places=places, routes=routes, width=right, height=height)


def _parts(spots: Sequence[Spot], arrows: Sequence[Arrow]) -> list[list[Spot]]:
    """Return the spots in groups that no arrow joins, in the order of their first members."""
    group = {spot.name: spot.name for spot in spots}

    def root(name: str) -> str:
        while group[name] != name:
            group[name] = name = group[group[name]]
        return name

    for tail, head in arrows:
        group[root(tail)] = root(head)
    parts: dict[str, list[Spot]] = {}
    for spot in spots:
        parts.setdefault(root(spot.name), []).append(spot)
    return list(parts.values())


def _joined(spots: Sequence[Spot], wanted: Sequence[Arrow], gap: float) -> Layout:
    by_name = {spot.name: spot for spot in spots}
    turned = _turned(list(by_name), wanted)
    down = list(dict.fromkeys((head, tail) if (tail, head) in turned else (tail, head) for tail, head in wanted))
    ranks = _ranks(list(by_name), down)
    widths = {name: spot.width for name, spot in by_name.items()}
    chains = _chains(down, ranks, widths)
    links = [link for chain in chains.values() for link in pairwise(chain)]
    layers = _ordered(ranks, links)
    xs, width = placed(layers, links, widths, BETWEEN)
    ys, bounds, height = _levels(layers, by_name, gap)
    routes: dict[Arrow, tuple[Point, ...]] = {}
    for tail, head in wanted:
        if (tail, head) in turned:
            routes[tail, head] = tuple(reversed(_route(chains[head, tail], xs, bounds)))
        else:
            routes[tail, head] = _route(chains[tail, head], xs, bounds)
    places = {name: (xs[name], ys[name]) for name in by_name}
    return Layout(places=places, routes=routes, width=width, height=height)


def _turned(names: Sequence[str], arrows: Sequence[Arrow]) -> frozenset[Arrow]:
    """Return the arrows that close a circle: those that lead back to where a walk is coming from."""
    heads: dict[str, list[str]] = {name: [] for name in names}
    for tail, head in arrows:
        heads[tail].append(head)
    done: set[str] = set()
    found: set[Arrow] = set()
    for root in names:
        if root in done:
            continue
        way, ahead = [root], [iter(heads[root])]
        while way:
            following = next(ahead[-1], None)
            if following is None:
                done.add(way.pop())
                ahead.pop()
            elif following in way:
                found.add((way[-1], following))
            elif following not in done:
                way.append(following)
                ahead.append(iter(heads[following]))
    return frozenset(found)


def _ranks(names: list[str], arrows: list[Arrow]) -> dict[str, int]:
    """Return the layer of everything: behind the last of its causes; what has none right before what it leads to."""
    causes: dict[str, list[str]] = {name: [] for name in names}
    heads: dict[str, list[str]] = {name: [] for name in names}
    for tail, head in arrows:
        causes[head].append(tail)
        heads[tail].append(head)
    waiting = {name: len(causes[name]) for name in names}
    ready = [name for name in names if not waiting[name]]
    ranks: dict[str, int] = {}
    for name in ready:
        ranks[name] = 1 + max((ranks[cause] for cause in causes[name]), default=-1)
        for head in heads[name]:
            waiting[head] -= 1
            if not waiting[head]:
                ready.append(head)
    for name in reversed(ready):
        if not causes[name] and heads[name]:
            ranks[name] = min(ranks[head] for head in heads[name]) - 1
    return ranks


def _chains(arrows: list[Arrow], ranks: dict[str, int], widths: dict[str, float]) -> dict[Arrow, tuple[str, ...]]:
    """Return every arrow as a chain through all layers between its ends; adds what stands for it there."""
    chains: dict[Arrow, tuple[str, ...]] = {}
    for tail, head in arrows:
        bends = [f"{tail}\n{head}\n{rank}" for rank in range(ranks[tail] + 1, ranks[head])]
        for rank, bend in enumerate(bends, ranks[tail] + 1):
            ranks[bend], widths[bend] = rank, THIN
        chains[tail, head] = (tail, *bends, head)
    return chains


def _ordered(ranks: Mapping[str, int], links: Sequence[Arrow]) -> list[list[str]]:
    """Return the layers with their members in an order with few crossings."""
    layers: list[list[str]] = [[] for _ in range(max(ranks.values(), default=-1) + 1)]
    above: dict[str, list[str]] = {name: [] for name in ranks}
    below: dict[str, list[str]] = {name: [] for name in ranks}
    for tail, head in links:
        above[head].append(tail)
        below[tail].append(head)
    for name in _walked(ranks, below):
        layers[ranks[name]].append(name)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        downwards = sweep % 2 == 0
        for number in range(1, len(layers)) if downwards else range(len(layers) - 2, -1, -1):
            _sort(layers[number], layers[number + (-1 if downwards else 1)], above if downwards else below)
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _walked(ranks: Mapping[str, int], below: Mapping[str, list[str]]) -> list[str]:
    """Return all names as a walk from the top meets them, so that what belongs together begins side by side."""
    found: dict[str, None] = {}
    open_ends = sorted(ranks, key=lambda name: ranks[name], reverse=True)
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found[name] = None
            open_ends += reversed(below[name])
    return list(found)


def _sort(layer: list[str], fixed: list[str], neighbours: Mapping[str, list[str]]) -> None:
    """Order a layer by the mean place of its neighbours in the layer beside it; what has none keeps its place."""
    places = {name: number for number, name in enumerate(fixed)}
    own = {name: float(number) for number, name in enumerate(layer)}
    for name in layer:
        near = [places[other] for other in neighbours[name]]
        if near:
            own[name] = sum(near) / len(near)
    layer.sort(key=lambda name: own[name])


def _crossings(layers: Sequence[Sequence[str]], below: Mapping[str, list[str]]) -> int:
    count = 0
    for upper, lower in pairwise(layers):
        places = {name: number for number, name in enumerate(lower)}
        seen = [0] * (len(lower) + 1)
        for name in upper:
            ends = sorted(places[head] for head in below[name])
            count += sum(sum(seen[end + 1 :]) for end in ends)
            for end in ends:
                seen[end] += 1
    return count


def _levels(
    layers: Sequence[Sequence[str]], spots: Mapping[str, Spot], gap: float
) -> tuple[dict[str, float], dict[str, tuple[float, float]], float]:
    """Return the middle of everything, its upper and lower end, and the height of all."""
    ys: dict[str, float] = {}
    bounds: dict[str, tuple[float, float]] = {}
    top = 0.0
    for layer in layers:
        height = max((spots[name].height for name in layer if name in spots), default=0.0)
        for name in layer:
            own = spots[name].height if name in spots else height
            ys[name] = top + height / 2
            bounds[name] = (ys[name] - own / 2, ys[name] + own / 2)
        top += height + gap
    return ys, bounds, max(top - gap, 0.0)


def _route(
    chain: Sequence[str],
    xs: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]],
) -> tuple[Point, ...]:
    tail, *bends, head = chain
    points = [(xs[tail], bounds[tail][1])]
    for bend in bends:
        # Upright past what lies in the layer, so that the curve does not cut its corners.
        points += [(xs[bend], bounds[bend][0]), (xs[bend], bounds[bend][1])]
    return (*points, (xs[head], bounds[head][0]))
