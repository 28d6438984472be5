"""Find the x of everything in a layered graph: near to what it is joined with, and nowhere on its neighbour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ROUNDS = 10
"""How often all layers are pulled towards their neighbours, in turn down and up."""


def placed(
    layers: Sequence[Sequence[str]], links: Sequence[tuple[str, str]], widths: Mapping[str, float], between: float
) -> tuple[dict[str, float], float]:
    """Return the x of the middle of every name, and how wide all is together; the order within layers stays."""
    above: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    below: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    for tail, head in links:
        above[head].append(tail)
        below[tail].append(head)
    xs = {name: 0.0 for layer in layers for name in layer}
    for layer in layers:
        _settle(layer, [0.0] * len(layer), xs, widths, between)
    for turn in range(ROUNDS):
        downwards = turn % 2 == 0
        for layer in layers if downwards else reversed(layers):
            wished: list[float] = []
            for name in layer:
                near = (above if downwards else below)[name] or (below if downwards else above)[name]
                wished.append(sum(xs[other] for other in near) / len(near) if near else xs[name])
            _settle(layer, wished, xs, widths, between)
    left = min((xs[name] - widths[name] / 2 for name in xs), default=0.0)
    right = max((xs[name] + widths[name] / 2 for name in xs), default=0.0)
    return {name: x - left for name, x in xs.items()}, right - left


def _settle(
    layer: Sequence[str],
    wished: Sequence[float],
    xs: dict[str, float],
    widths: Mapping[str, float],
    between: float,
) -> None:
    """Put a layer as near to where it wishes as its order and widths allow: least squares, by pooling neighbours."""
    offsets: list[float] = []
    place = 0.0
    for number, name in enumerate(layer):
        if number:
            place += (widths[layer[number - 1]] + widths[name]) / 2 + between
        offsets.append(place)
    pools: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        total, count = wish - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            total, count = total + pools[-1][0], count + pools[-1][1]
            pools.pop()
        pools.append((total, count))
    settled = [total / count for total, count in pools for _ in range(count)]
    for name, base, offset in zip(layer, settled, offsets, strict=True):
        xs[name] = base + offset
