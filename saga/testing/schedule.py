"""Decide what goes wrong: a pure function of the seed and of what can go wrong at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from saga._core.events import Refusal
from saga.testing.faults import Crash, Cut, Delay, Duplicate, Fail, Fault, Hang, Moment, Refuse, Reorder, When

OFTEN = 10
"""How often a step fails that is meant to use up its attempts."""
MOST = 4
"""How many faults one schedule has at most."""
DOWN_SECONDS = (0.5, 8.0, 45.0)
LATE_SECONDS = (0.5, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Say where something can go wrong, as a run without faults has shown it.

    `commits` and `messages` are counted for each process. `steps` are the actions, `others` all other handlers.
    `late_seconds` is longer than any saga's timeout.
    """

    commits: tuple[tuple[str, int], ...]
    messages: tuple[tuple[str, int], ...]
    steps: tuple[str, ...]
    others: tuple[str, ...]
    refusals: tuple[tuple[str, Refusal], ...]
    late_seconds: float


def singles(extent: Extent) -> tuple[Fault, ...]:
    """Return every fault that a schedule may have at a place which the run without faults has passed."""
    return (*_in_steps(extent), *_in_commits(extent, 0), *_in_messages(extent, 0))


def schedule(seed: str, index: int, extent: Extent) -> tuple[Fault, ...]:
    """Return the faults of schedule `index`, the same for the same arguments.

    Every other schedule is one fault alone until all have had their turn; the rest combine two to `MOST`.
    """
    alone = list(singles(extent))
    Random(seed).shuffle(alone)  # noqa: S311 - must be the same every time
    if index % 2 == 0 and index // 2 < len(alone):
        return (alone[index // 2],)
    draw = Random(f"{seed}-{index}")  # noqa: S311 - likewise
    # Messages and commits are more when something else goes wrong too.
    more = max((number for _, number in (*extent.commits, *extent.messages)), default=0)
    steps, commits = list(_in_steps(extent)), list(_in_commits(extent, more))
    kinds = [kind for kind in (steps, commits, list(_in_messages(extent, more))) if kind]
    found: list[Fault] = []
    for _ in range(draw.randint(2, MOST) if kinds else 0):
        fault = draw.choice(draw.choice(kinds))
        if fault not in found:
            found.append(fault)
    return tuple(found)


def _in_steps(extent: Extent) -> Iterator[Fault]:
    for step in (*extent.steps, *extent.others):
        for when in When:
            yield Fail(step=step, when=when)
            yield Hang(step=step, when=when)
    for step in extent.steps:
        for when in When:
            yield Fail(step=step, times=OFTEN, when=when)
    for step in extent.others:
        yield Fail(step=step, times=2, when=When.AFTER)
    for step, refusal in extent.refusals:
        yield Refuse(step=step, refusal=refusal)


def _in_commits(extent: Extent, more: int) -> Iterator[Fault]:
    for process, commits in extent.commits:
        for number in range(1, commits + more + 1):
            down = DOWN_SECONDS[number % len(DOWN_SECONDS)]
            for moment in (Moment.BEFORE_COMMIT, Moment.AFTER_COMMIT):
                yield Crash(process=process, moment=moment, number=number, down_seconds=down)
            yield Cut(process=process, number=number)


def _in_messages(extent: Extent, more: int) -> Iterator[Fault]:
    for process, messages in extent.messages:
        for number in range(1, messages + more + 1):
            down = DOWN_SECONDS[number % len(DOWN_SECONDS)]
            yield Crash(process=process, moment=Moment.AFTER_PUBLISH, number=number, down_seconds=down)
            yield Reorder(process=process, number=number)
            for seconds in (*LATE_SECONDS, extent.late_seconds):
                yield Delay(process=process, number=number, seconds=seconds)
            for seconds in (0.0, LATE_SECONDS[-1], extent.late_seconds):
                yield Duplicate(process=process, number=number, seconds=seconds)


def shrink(faults: Sequence[Fault], fails: Callable[[Sequence[Fault]], bool]) -> tuple[Fault, ...]:
    """Return the fewest and smallest faults that still fail, as far as one change after another finds them."""
    kept = list(faults)
    changed = True
    while changed:
        changed = False
        for fault in list(kept):
            rest = [one for one in kept if one is not fault]
            if fails(rest):
                kept, changed = rest, True
    for index, fault in enumerate(kept):
        once = _once(fault)
        if once != fault and fails([*kept[:index], once, *kept[index + 1 :]]):
            kept[index] = once
    return tuple(kept)


def _once(fault: Fault) -> Fault:
    return replace(fault, times=1) if isinstance(fault, Refuse | Fail | Hang) else fault
