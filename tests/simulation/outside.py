"""Be the outside system: it answers the same key the same way, for as long as it remembers the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saga._core.answers import AnswerFromOutside, Emitted, Refused
from saga._core.rows import RunRow
from tests.simulation.books import REFUSED, Mark, Violation

if TYPE_CHECKING:
    from tests.simulation.station import Station
    from tests.simulation.world import World


def answer_to_call(world: World, station: Station, run: RunRow) -> AnswerFromOutside:
    """Let the action happen, or be refused, unless it has under this key; raises Violation when it does twice."""
    place = (run.step, run.branch)
    books = world.sagas[run.saga_id].books
    mark = books.marks.get(place)
    if mark is not None:
        if mark.generation != run.generation and mark.standing != REFUSED:
            raise Violation(f"effects once: {run.step} is called under another key though it has happened")
        if not _is_remembered(world, mark, run):
            raise Violation(f"effects once: {run.step} is called after its key was forgotten")
        world.count("the same key again")
        return _same(mark)
    step = station.topology_of(run.saga_id).steps[run.step]
    if step.refuses and world.random() < 0.3:
        books.was_refused(place, step.refuses[0])
    else:
        causes = station.causes_of(run)
        answer = station.events.outcome(step)
        books.happened(place, answer.type, causes, fan_out=answer.fan_out)
    mark = books.marks[place]
    mark.generation, mark.since = run.generation, world.now
    return _same(mark)


def answer_to_probe(world: World, run: RunRow) -> AnswerFromOutside | None:
    """Return what came of the call under this key, None when nothing is known of one."""
    mark = world.sagas[run.saga_id].books.marks.get((run.step, run.branch))
    if mark is None or not _is_remembered(world, mark, run):
        return None
    return _same(mark)


def compensated_outside(world: World, run: RunRow) -> None:
    """Take the action back; a compensation may be repeated."""
    world.sagas[run.saga_id].books.undone((run.step, run.branch), repeatable=True)
    world.count("compensated outside")


def _is_remembered(world: World, mark: Mark, run: RunRow) -> bool:
    assert mark.since is not None
    return mark.generation == run.generation and world.now < mark.since + world.kit.memory.key_ttl


def _same(mark: Mark) -> AnswerFromOutside:
    if mark.standing == REFUSED:
        return Refused(type=mark.emitted, payload=b"{}")
    return Emitted(type=mark.emitted, payload=b"", fan_out=mark.fan_out)
