"""Show everything at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saga._core.overview import Card, Minute, Overview
from saga.console.house import House

CARDS = frozenset({Card.SAGAS, Card.LETTERS, Card.OUTBOX, Card.BREAKERS, Card.CONSUMERS})

GOING = ("running", "committed", "ready")
UNDOING = ("asking", "closing")
CHART_HEIGHT = 72
BAR_WIDTH = 10
BAR_GAP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Be one minute of the chart: heights above the line of what started, below it of how sagas ended."""

    minute: Minute
    x: int
    started: float
    completed: float
    compensated: float


async def overview_values(house: House) -> dict[str, object]:
    """Read what the first page shows."""
    seen = await house.overview.get()
    phases = seen.by_phase
    return {
        "seen": seen,
        "going": sum(phases.get(phase, 0) for phase in GOING),
        "undoing": sum(phases.get(phase, 0) for phase in UNDOING),
        "stuck": phases.get("stuck", 0),
        "open": sum(phases.values()),
        "completed": sum(minute.completed for minute in seen.minutes),
        "compensated": sum(minute.compensated for minute in seen.minutes),
        "started": sum(minute.started for minute in seen.minutes),
        "letters": sum(each.letters for each in seen.letters),
        "letter_seconds": max((each.oldest_seconds for each in seen.letters), default=0.0),
        "outbox_rows": sum(each.backlog.rows for each in seen.outboxes),
        "outbox_seconds": max((each.backlog.oldest_seconds for each in seen.outboxes), default=0.0),
        "lag": lag_of(seen),
        "bars": bars_of(seen.minutes),
        "chart": {"height": CHART_HEIGHT, "width": max(len(seen.minutes), 1) * (BAR_WIDTH + BAR_GAP), "bar": BAR_WIDTH},
        "names": names_of(seen),
        "hears": house.reader.hears,
    }


def lag_of(seen: Overview) -> float | None:
    """Return for how long a deadline has been overdue, None where no coordinator has ever been at work."""
    return max((each.overdue_seconds for each in seen.consumers.partitions), default=None)


def bars_of(minutes: Sequence[Minute]) -> list[Bar]:
    """Return the bars of a chart whose highest one fills half of it."""
    most = max((max(each.started, each.completed + each.compensated) for each in minutes), default=0)
    scale = CHART_HEIGHT / 2 / most if most else 0.0
    return [
        Bar(
            minute=each,
            x=number * (BAR_WIDTH + BAR_GAP),
            started=round(each.started * scale, 2),
            completed=round(each.completed * scale, 2),
            compensated=round(each.compensated * scale, 2),
        )
        for number, each in enumerate(minutes)
    ]


def names_of(seen: Overview) -> list[dict[str, object]]:
    """Return a line for each saga version: how many are open in which state, those with most first."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for each in seen.census.open:
        phases = found.setdefault((each.saga, each.version), {})
        phases[each.phase] = phases.get(each.phase, 0) + each.sagas
    lines: list[dict[str, object]] = [
        {
            "saga": saga,
            "version": version,
            "open": sum(phases.values()),
            "going": sum(phases.get(phase, 0) for phase in GOING),
            "undoing": sum(phases.get(phase, 0) for phase in UNDOING),
            "stuck": phases.get("stuck", 0),
        }
        for (saga, version), phases in found.items()
    ]
    return sorted(lines, key=lambda line: (-int(str(line["open"])), str(line["saga"])))
