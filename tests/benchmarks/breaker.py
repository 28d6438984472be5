"""Measure a gateway that is gone for a minute, with a breaker and without: `python -m tests.benchmarks.breaker`.

Two services and the coordinator run in one app on SQLite in memory and the memory transport, in virtual time: the
numbers are calls, not speed, and the same on every machine but for the order in which retries are drawn. The gateway
answers within 50 ms; while it is gone a call ends after its timeout of one second. Sagas are placed all the time.

Prints one line of JSON and writes the plot of the calls that began in each second to docs/images/breaker.svg.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import trio.testing

from saga import Breaker
from tests.runtime.outage_world import Shop, up

PLOT = Path(__file__).parents[2] / "docs" / "images" / "breaker.svg"
BEFORE_SECONDS, OUTAGE_SECONDS, AFTER_SECONDS = 30, 60, 150
SECONDS = BEFORE_SECONDS + OUTAGE_SECONDS + AFTER_SECONDS

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 360, 56, 48, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Be what one run has shown; `calls` began in each second."""

    calls: Sequence[int]
    unanswered: int
    most_for_one_run: int
    ended: dict[str, int]

    def numbers(self, per_second: int) -> dict[str, object]:
        """Return the numbers to print."""
        after = self.calls[BEFORE_SECONDS + OUTAGE_SECONDS :]
        return {
            "unanswered": self.unanswered,
            "most_for_one_run": self.most_for_one_run,
            "peak_after": max(after),
            "peak_after_to_usual": round(max(after) / per_second, 1),
            "ended": self.ended,
        }


async def run(breaker: Breaker | None, per_second: int) -> Outage:
    """Place sagas through an outage and return what the gateway has seen."""
    shop = Shop(breaker=breaker)
    async with up(shop):
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shop.place_steadily, per_second, SECONDS)
            await anyio.sleep(BEFORE_SECONDS)
            shop.gateway.up = False
            await anyio.sleep(OUTAGE_SECONDS)
            shop.gateway.up = True
        await shop.all_ended(per_second * SECONDS, within_seconds=600)
    return Outage(
        calls=shop.gateway.per_second(began, began + SECONDS),
        unanswered=shop.gateway.unanswered.total(),
        most_for_one_run=max(shop.gateway.unanswered.values()),
        ended={ending.value: count for ending, count in shop.ended.items()},
    )


def measure(breaker: Breaker | None, per_second: int) -> Outage:
    """Run one outage in virtual time."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return anyio.run(run, breaker, per_second, backend="trio", backend_options={"clock": clock})


# --- the plot --------------------------------------------------------------------------------------------------


def plot(without: Sequence[int], guarded: Sequence[int]) -> str:
    """Return an SVG of calls per second: two stepped lines over the time of the outage."""
    top = max(*without, *guarded)
    top += 10 - top % 10
    wide, high = WIDTH - LEFT - 16, HEIGHT - TOP - BOTTOM

    def x(second: float) -> float:
        return LEFT + wide * second / SECONDS

    def y(calls: float) -> float:
        return TOP + high * (1 - calls / top)

    def line(calls: Sequence[int], color: str) -> str:
        steps = " ".join(f"{x(s):.1f},{y(n):.1f} {x(s + 1):.1f},{y(n):.1f}" for s, n in enumerate(calls))
        return f'<polyline points="{steps}" fill="none" stroke="{color}" stroke-width="1.5"/>'

    def text(at_x: float, at_y: float, words: str, more: str = "") -> str:
        return f'<text x="{at_x:.0f}" y="{at_y:.0f}" {more}>{words}</text>'

    down = x(BEFORE_SECONDS + OUTAGE_SECONDS) - x(BEFORE_SECONDS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        '<g font-family="sans-serif" font-size="13" fill="#333">',
        "<title>Calls to the gateway in each second, with a breaker and without</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<rect x="{x(BEFORE_SECONDS):.1f}" y="{TOP}" width="{down:.1f}" height="{high}" fill="#f3e3e3"/>',
        text(x(BEFORE_SECONDS) + 8, TOP + 18, "the gateway is gone"),
    ]
    for calls in range(0, top + 1, max(10, top // 50 * 10)):
        parts.append(f'<path d="M{LEFT} {y(calls):.1f}h{wide}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y(calls) + 4, str(calls), 'text-anchor="end"'))
    marks = range(0, SECONDS + 1, 30)
    parts += [text(x(second), HEIGHT - 16, f"{second} s", 'text-anchor="middle"') for second in marks]
    parts += [line(without, "#c0392b"), line(guarded, "#1f5fa8")]
    parts.append(text(LEFT, 24, "calls per second", 'font-weight="bold"'))
    parts.append(text(WIDTH - 300, 24, "without a breaker", 'fill="#c0392b"'))
    parts.append(text(WIDTH - 140, 24, "with a breaker", 'fill="#1f5fa8"'))
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def main() -> None:
    """Run both and write what has come of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--per-second", type=int, default=10, help="sagas placed in a second (10)")
    parser.add_argument("--plot", type=Path, default=PLOT, help="where the plot goes")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    without, guarded = measure(None, given.per_second), measure(Breaker(), given.per_second)
    given.plot.parent.mkdir(parents=True, exist_ok=True)
    given.plot.write_text(plot(without.calls, guarded.calls))
    numbers = {
        "per_second": given.per_second,
        "outage_seconds": OUTAGE_SECONDS,
        "without": without.numbers(given.per_second),
        "with": guarded.numbers(given.per_second),
    }
    sys.stdout.write(json.dumps(numbers) + "\n")


if __name__ == "__main__":
    main()
