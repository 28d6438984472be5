"""Hold the stylesheet of every drawing, in light and in dark."""

from __future__ import annotations

import re

_LIGHT = """\
  --sg-ink: #1f2733; --sg-soft: #667085; --sg-line: #c9d1dc; --sg-grid: #e8ecf1;
  --sg-paper: #ffffff; --sg-panel: #f6f8fa;
  --sg-done: #2f9e63; --sg-open: #2f7de1; --sg-wait: #c3ccd8; --sg-refused: #d9822b; --sg-failed: #d33f49;
  --sg-undo: #8a63d2; --sg-event: #eef2f8; --sg-pivot: #1f2733;
  --sg-hue-0: #3a7bd5; --sg-hue-1: #1d9a8a; --sg-hue-2: #c2711f; --sg-hue-3: #9a5bc2;
  --sg-hue-4: #c74874; --sg-hue-5: #6b8e23; --sg-hue-6: #2b8fb8; --sg-hue-7: #8d6e63;
"""
_DARK = """\
  --sg-ink: #e4e9f0; --sg-soft: #98a4b5; --sg-line: #465061; --sg-grid: #2a313c;
  --sg-paper: #14181f; --sg-panel: #1d232c;
  --sg-done: #43b97c; --sg-open: #5b9df0; --sg-wait: #4a5566; --sg-refused: #e89b4c; --sg-failed: #ec6a72;
  --sg-undo: #a98be6; --sg-event: #242c38; --sg-pivot: #e4e9f0;
  --sg-hue-0: #6aa1ec; --sg-hue-1: #3fbfae; --sg-hue-2: #e0954a; --sg-hue-3: #bd87e0;
  --sg-hue-4: #e4759b; --sg-hue-5: #96b84e; --sg-hue-6: #56b4da; --sg-hue-7: #b59a8e;
"""
_RULES = """\
.sg { max-width: 100%; height: auto; color: var(--sg-ink);
  font: 12px ui-monospace, "SF Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.sg-scroll { overflow-x: auto; }
.sg-scroll > .sg { max-width: none; }
.sg-scroll > .sg-timeline { max-width: 100%; min-width: 780px; }
.sg-timeline, .sg-graph, .sg-sequence, .sg-topology { display: block; }
.sg text { fill: var(--sg-ink); }
.sg-paper { fill: var(--sg-paper); }
.sg a { cursor: pointer; text-decoration: none; }
.sg a:hover .sg-node, .sg a:focus-visible .sg-node { stroke: var(--sg-open); }
.sg a:hover .sg-name, .sg a:focus-visible .sg-name { text-decoration: underline; }
.sg text.sg-soft { fill: var(--sg-soft); }
.sg text.sg-small { font-size: 10.5px; fill: var(--sg-soft); }
.sg text.sg-strong { font-weight: 600; }
.sg text.sg-alarm { font-size: 10.5px; fill: var(--sg-failed); }
.sg text.sg-halo { paint-order: stroke; stroke: var(--sg-paper); stroke-width: 3px; stroke-linejoin: round; }
.sg text.sg-name { fill: var(--sg-ink); }
.sg-row { fill: var(--sg-panel); }
.sg-grid { stroke: var(--sg-grid); }
.sg-axis { stroke: var(--sg-line); }
.sg-gap { fill: var(--sg-paper); }
.sg-zigzag { stroke: var(--sg-soft); }
.sg-now { stroke: var(--sg-open); stroke-dasharray: 3 3; }
.sg-end { stroke: var(--sg-soft); stroke-dasharray: 1 3; }
.sg-tick { stroke: var(--sg-paper); stroke-width: 1.5; }
.sg-cross { stroke: var(--sg-failed); stroke-width: 2; }
.sg-bar, .sg-swatch, .sg-part { fill: var(--sg-wait); }
.sg-queue { fill: var(--sg-wait); opacity: .55; }
.sg-done { fill: var(--sg-done); }
.sg-open { fill: var(--sg-open); opacity: .75; }
.sg-intent { fill: var(--sg-open); }
.sg-doubt { fill: var(--sg-refused); stroke: var(--sg-failed); stroke-width: 1.5; stroke-dasharray: 4 2; }
.sg-waiting { fill: var(--sg-wait); }
.sg-untouched { fill: var(--sg-wait); }
.sg-refused { fill: var(--sg-refused); }
.sg-failed { fill: var(--sg-failed); }
.sg-undone { fill: var(--sg-undo); }
.sg-undoing { fill: var(--sg-undo); opacity: .6; }
.sg-undo-failed { fill: var(--sg-failed); }
.sg-guess { opacity: .6; }
.sg-folded { rx: 2px; }
.sg-node { fill: var(--sg-panel); stroke: var(--sg-line); stroke-width: 1.2; }
.sg-node.sg-pivot { stroke: var(--sg-pivot); stroke-width: 2.6; }
.sg-node.sg-outside { stroke-dasharray: 5 3; }
.sg-node.sg-pivot.sg-outside { stroke-dasharray: none; }
.sg-inner { stroke: var(--sg-line); }
.sg-dim { opacity: .45; }
.sg-event { fill: var(--sg-event); stroke: var(--sg-line); }
.sg-stack { fill: var(--sg-event); stroke: var(--sg-line); opacity: .7; }
.sg-edge { stroke: var(--sg-soft); stroke-width: 1.3; }
.sg-edge.sg-alt { stroke-dasharray: 5 3; }
.sg-edge.sg-every { stroke-width: 2.6; }
.sg-edge.sg-reply { stroke-dasharray: 4 3; }
.sg-edge.sg-back { stroke: var(--sg-undo); stroke-width: 1.8; stroke-dasharray: 5 3; }
.sg-edge.sg-command { stroke: var(--sg-ink); }
.sg-edge.sg-no { stroke: var(--sg-failed); }
.sg-head { fill: var(--sg-soft); }
.sg-head.sg-back { fill: var(--sg-undo); }
.sg-head.sg-command { fill: var(--sg-ink); }
.sg-head.sg-no { fill: var(--sg-failed); }
.sg-stop { fill: var(--sg-paper); stroke: var(--sg-soft); stroke-width: 1.3; }
.sg-life { stroke: var(--sg-line); stroke-dasharray: 2 4; }
.sg-bus { fill: var(--sg-panel); stroke: var(--sg-line); }
"""


def _hues() -> str:
    fills = "".join(f".sg-hue-{number} {{ fill: var(--sg-hue-{number}); }}\n" for number in range(8))
    texts = "".join(f".sg text.sg-hue-{number} {{ fill: var(--sg-hue-{number}); }}\n" for number in range(8))
    return fills + texts


def stylesheet() -> str:
    """Return the CSS of every drawing; dark where the page or its reader says so, and the page has the last word."""
    return (
        f".sg {{\n  color-scheme: light dark;\n{_LIGHT}}}\n"
        f"@media (prefers-color-scheme: dark) {{\n.sg {{\n{_DARK}}}\n}}\n"
        f"[data-theme=light] .sg {{\n{_LIGHT}}}\n[data-theme=dark] .sg {{\n{_DARK}}}\n{_RULES}{_hues()}"
    )


CLASSES = frozenset(re.findall(r"\.(sg(?:-[a-z0-9]+)*)", stylesheet()))
"""Every class that a drawing may use."""


def hue(services: tuple[str, ...], service: str) -> str:
    """Return the class of a service's colour: by its place among the services of the drawing."""
    return f"sg-hue-{services.index(service) % 8}" if service in services else "sg-hue-7"
