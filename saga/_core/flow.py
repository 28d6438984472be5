"""Tell a plan in words: its flow line by line, and what in it looks wrong."""

from __future__ import annotations

from collections.abc import Mapping

from saga._core.plan import Plan, PlanStep, topology_of
from saga._core.words import StepKind


def flow_lines(plan: Plan) -> tuple[str, ...]:
    """Return the flow in words: a line up to the first fork, then one for each way on from a fork.

    A step that several ways lead to is followed only once.
    """
    reacting = topology_of(plan).reacting
    lines: list[str] = []
    drawn: set[str] = set()
    open_ways = [(plan.start, plan.start)]
    while open_ways:
        line, name = open_ways.pop()
        fork: list[tuple[str, str]] = []
        while name and name not in drawn:
            drawn.add(name)
            ways = _ways(plan, name, reacting)
            if len(ways) != 1:
                fork = ways
                break
            arrow, child = ways[0]
            line += arrow + _label(plan, child)
            name = child
        open_ways += [(_label(plan, name) + arrow + _label(plan, child), child) for arrow, child in reversed(fork)]
        # A start that forks at once stands at the head of each of its lines.
        if not fork or line != plan.start:
            lines.append(line)
    return tuple(lines)


def _ways(plan: Plan, name: str, reacting: Mapping[str, tuple[PlanStep, ...]]) -> list[tuple[str, str]]:
    """Return (arrow, step) for every way on; the step is `""` where an alternative ends the way."""
    step = next((step for step in plan.steps if step.name == name), None)
    emits, ends = ((plan.start_event,), False) if step is None else (step.emits, step.ends)
    alternatives = len(emits) + ends > 1
    ways: list[tuple[str, str]] = []
    for event in emits:
        arrow = f" -> if {event}: " if alternatives else " -> "
        children = reacting.get(event, ())
        ways += [(arrow, child.name) for child in children]
        if alternatives and not children:
            ways.append((arrow, ""))
    if alternatives and ends:
        ways.append((" -> if nothing: ", ""))
    return ways


def _label(plan: Plan, name: str) -> str:
    if not name:
        return "end"
    pivots = [step.name for step in plan.steps if step.kind is StepKind.PIVOT]
    return f"{name} (pivot)" if name in pivots else name


def plan_warnings(plan: Plan) -> tuple[str, ...]:
    """Return what is legal and yet looks wrong: step timeouts that add up to more than the saga's."""
    longest: dict[str, tuple[int, tuple[str, ...]]] = {}
    reacting = topology_of(plan).reacting
    for step in reversed(plan.steps):
        ways = [longest[child.name] for event in step.emits for child in reacting.get(event, ())]
        rest, way = max(ways, default=(0, ()))
        longest[step.name] = (rest + step.timeout_ms, (step.name, *way))
    total, way = max(longest.values(), default=(0, ()))
    if total <= plan.timeout_ms:
        return ()
    warning = (
        f"{plan.saga} v{plan.version}: the timeouts on the way {' -> '.join(way)} add up to {total} ms, "
        f"more than the saga's {plan.timeout_ms} ms; lengthen the saga's timeout or shorten theirs"
    )
    return (warning,)
