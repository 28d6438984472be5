"""Draw a trace as Jaeger's timeline shows it: `python -m tests.telemetry.picture docs/images/trace-compensated.svg`.

An order whose card is declined late goes through the payment example, with its spans in a real Jaeger; what is drawn is
read back through its query API. Spans of sending are left out, as they are in the way of the picture's point.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path

import anyio

from tests.telemetry.shop import COORDINATOR, NAMES, Played, play, traced_shop
from tests.telemetry.tracereader import ReadSpan, Trace, found_in_jaeger
from tests.testbed.jaeger import LocalJaeger
from transports.memory import MemoryTransport

ROW, TOP, LABELS, WIDTH, INDENT, MARGIN = 22, 84, 610, 1120, 12, 16
COLOURS: dict[str, str] = dict(
    zip((*NAMES, COORDINATOR), ("#2f7fd1", "#2a9d6f", "#c2762b", "#8a5cc9", "#6b7280"), strict=True)
)
STYLE = """
svg { --ink: #1d2430; --soft: #66707f; --line: #e3e7ec; --paper: #ffffff; --back: #fdeceb; --failed: #c92a2a; }
@media (prefers-color-scheme: dark) {
svg { --ink: #e6e9ee; --soft: #9aa4b2; --line: #2c333d; --paper: #14181e; --back: #3a2224; --failed: #ff8787; } }
text { font: 12px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); } .title { font-size: 15px; font-weight: 600; } .service { font-weight: 600; }
.paper { fill: var(--paper); } .back { fill: var(--back); } .line { stroke: var(--line); }
.failed { fill: var(--failed); }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Be one line of the picture; `is_back` says that it is part of undoing."""

    span: ReadSpan
    depth: int
    is_back: bool


def rows_of(trace: Trace) -> list[Row]:
    """Return the spans that are drawn, parents before their children, these by time."""
    children: dict[str, list[ReadSpan]] = {}
    for span in trace.spans:
        children.setdefault(span.parent_id, []).append(span)

    def below(span: ReadSpan, depth: int, *, is_back: bool) -> Iterator[Row]:
        is_back = is_back or span.name.startswith("undo ")
        yield Row(span=span, depth=depth, is_back=is_back)
        for child in sorted(children.get(span.span_id, ()), key=_order):
            if not child.name.startswith("send "):
                yield from below(child, depth + 1, is_back=is_back)

    (root,) = trace.roots
    return list(below(root, 0, is_back=False))


def _order(span: ReadSpan) -> tuple[bool, int, str]:
    # The whole comes first, as its bar is the measure of the others.
    return not span.name.startswith("saga "), span.began_us, span.name


def svg_of(trace: Trace) -> str:
    """Return the picture."""
    rows = rows_of(trace)
    began = min(row.span.began_us for row in rows)
    took = max(row.span.began_us + row.span.took_us for row in rows) - began
    height = TOP + ROW * len(rows) + MARGIN
    title = f"{rows[0].span.name}: {len(trace.spans)} spans of {len({s.service for s in trace.spans})} services"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="{MARGIN}" y="28">{escape(title)}, {took / 1000:.0f} ms</text>',
        *_legend(),
        *_scale(took, height),
    ]
    for number, row in enumerate(rows):
        parts += _line(row, TOP + ROW * number, began, took)
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> Iterator[str]:
    x = MARGIN
    for name, colour in COLOURS.items():
        yield f'<rect x="{x}" y="42" width="12" height="12" rx="2" fill="{colour}"/>'
        yield f'<text x="{x + 17}" y="53">{name}</text>'
        x += 40 + 8 * len(name)
    yield f'<rect class="back" x="{x}" y="42" width="12" height="12" rx="2"/>'
    yield f'<text x="{x + 17}" y="53">the way back</text>'


def _scale(took: int, height: int) -> Iterator[str]:
    for quarter in range(5):
        x = LABELS + (WIDTH - LABELS - MARGIN) * quarter / 4
        anchor = "end" if quarter == 4 else "start"
        yield f'<line class="line" x1="{x:.0f}" x2="{x:.0f}" y1="{TOP - 6}" y2="{height - MARGIN}"/>'
        at = f"{took * quarter / 4000:.0f} ms"
        yield f'<text class="soft" x="{x:.0f}" y="{TOP - 10}" text-anchor="{anchor}">{at}</text>'


def _line(row: Row, y: int, began: int, took: int) -> Iterator[str]:
    span, colour = row.span, COLOURS[row.span.service]
    scale = (WIDTH - LABELS - MARGIN) / took
    x, width = LABELS + (span.began_us - began) * scale, max(2.0, span.took_us * scale)
    if row.is_back:
        yield f'<rect class="back" x="0" y="{y}" width="{WIDTH}" height="{ROW}"/>'
    left = MARGIN + INDENT * row.depth
    yield f'<rect x="{left}" y="{y + 4}" width="3" height="{ROW - 8}" fill="{colour}"/>'
    words = f'<tspan class="service">{escape(span.service)}</tspan> {escape(span.name)}{escape(_note(span))}'
    yield f'<text class="{"failed" if span.is_error else "ink"}" x="{left + 8}" y="{y + 15}">{words}</text>'
    yield f'<rect x="{x:.1f}" y="{y + 6}" width="{width:.1f}" height="{ROW - 12}" rx="2" fill="{colour}"/>'


def _note(span: ReadSpan) -> str:
    """Return what the picture says beside a span's name: of a handling its step, of a refusal its type."""
    refusal = span.attributes.get("saga.refusal")
    if refusal and not span.name.startswith("saga "):
        return f" · refused: {refusal}"
    if span.name.startswith("process "):
        said = [str(span.attributes.get(key, "")) for key in ("saga.command", "saga.step")]
        return f" · {' '.join(said).strip()}" if any(said) else ""
    return ""


async def compensated() -> tuple[Played, Trace]:
    """Play an order that is declined late, and read its trace back from a Jaeger of its own."""
    with closing(LocalJaeger()) as jaeger, tempfile.TemporaryDirectory() as folder:
        jaeger.start()
        async with traced_shop(Path(folder), jaeger.otlp, MemoryTransport()) as gateway:
            await play(gateway, "all-well")  # so that the picture does not show what runs for the first time
            played = await play(gateway, "declined-late")
        (trace,) = found_in_jaeger(jaeger.query, "orders", {"saga.id": played.saga_id})
    return played, trace


if __name__ == "__main__":
    _, drawn = anyio.run(compensated)
    Path(sys.argv[1]).write_text(svg_of(drawn))
