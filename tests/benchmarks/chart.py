"""Charts of concurrency and throughput over time, and stacked bars, as SVG for light and dark backgrounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

__all__ = ["Bar", "Panel", "bars", "chart", "lines"]

Line: TypeAlias = Sequence[tuple[float, float]]
"""(seconds, value)"""

WIDTH = 760
LEFT, RIGHT = 56, 16
HEIGHT = 86
"""Of one set of axes."""
GAP = 14
TITLE = 44
BOTTOM = 34
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a; }
  .title { font-weight: 600; fill: #24292f; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .slots { stroke: #0969da; } .in-use { stroke: #0969da; opacity: .45; } .rate { stroke: #bc4c00; }
  text.slots { stroke: none; fill: #0969da; } text.rate { stroke: none; fill: #bc4c00; }
  path { fill: none; stroke-width: 1.8; stroke-linejoin: round; } path.in-use { stroke-width: 1.2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1; } .title { fill: #f0f6fc; } .grid { stroke: #3d444d; }
    .slots, .in-use { stroke: #4493f8; } .rate { stroke: #f0883e; }
    text.slots { fill: #4493f8; } text.rate { fill: #f0883e; }
  }
"""


COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf8700", "#cf222e", "#1b7c83", "#6e7781")
"""Of the parts of a bar: dark enough for white figures."""
BAR_LEFT, BAR_HEIGHT, BAR_GAP = 96, 34, 14
LEGEND_WIDTH, LEGEND_HEIGHT = 166, 22
NARROW = 26
"""Width below which a part has no figure in it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar whose parts are drawn one after the other."""

    name: str
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """The chart of one batch: two sets of axes over the same time.

    Attributes:
        slots, in_use: (seconds, slots), drawn together.
        rates: (seconds, rows per second).
    """

    title: str
    slots: Line
    in_use: Line
    rates: Line


def chart(panels: Sequence[Panel]) -> str:
    """Return an SVG picture of the panels, one below the other."""
    each = TITLE + 2 * HEIGHT + GAP + BOTTOM
    parts = [_panel(panel, number * each) for number, panel in enumerate(panels)]
    size = f'width="{WIDTH}" height="{each * len(panels)}" viewBox="0 0 {WIDTH} {each * len(panels)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{"".join(parts)}</svg>\n'


def bars(each: Sequence[Bar], *, unit: str) -> str:
    """Return an SVG picture of bars with the same parts, on one scale, with the sum behind each and a legend below."""
    names = list(each[0].parts)
    colours = dict(zip(names, COLOURS, strict=False))
    scale = (WIDTH - BAR_LEFT - 80) / max(sum(bar.parts.values()) for bar in each)
    drawn = [
        _bar(bar, number * (BAR_HEIGHT + BAR_GAP) + BAR_GAP, scale, colours, unit) for number, bar in enumerate(each)
    ]
    below = len(each) * (BAR_HEIGHT + BAR_GAP) + 2 * BAR_GAP
    columns = (WIDTH - BAR_LEFT) // LEGEND_WIDTH
    for number, name in enumerate(names):
        x = BAR_LEFT + number % columns * LEGEND_WIDTH
        y = below + number // columns * LEGEND_HEIGHT
        drawn.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colours[name]}"/>\n')
        drawn.append(f'<text x="{x + 18}" y="{y + 11}">{escape(name)}</text>\n')
    height = below + math.ceil(len(names) / columns) * LEGEND_HEIGHT + BAR_GAP
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    style = f"{STYLE}  .figure {{ fill: #ffffff; font-size: 11px; }}\n"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{style}</style>\n{"".join(drawn)}</svg>\n'


def lines(title: str, each: Mapping[str, Line]) -> str:
    """Return an SVG picture of named lines over the same time, on one set of axes with the names above it."""
    until_s = max(at_s for line in each.values() for at_s, _ in line)
    most = _round_up(max(value for line in each.values() for _, value in line))
    top, height = TITLE + GAP, TITLE + GAP + HEIGHT + BOTTOM
    parts = [f'<text class="title" x="{LEFT}" y="18">{escape(title)}</text>\n', _axes(top, most)]
    styles = []
    for number, (name, line) in enumerate(each.items()):
        x = LEFT + number * LEGEND_WIDTH * 0.8
        parts.append(f'<text class="line-{number}" x="{x:.0f}" y="38">{escape(name)}</text>\n')
        parts.append(_path(f"line-{number}", line, until_s, top, most))
        styles.append(
            f"  path.line-{number} {{ stroke: {COLOURS[number]}; }} text.line-{number} {{ fill: {COLOURS[number]}; }}"
        )
    parts.append(_seconds(top + HEIGHT + 18, until_s))
    style = "\n".join([STYLE, *styles])
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{style}\n</style>\n{"".join(parts)}</svg>\n'


def _bar(bar: Bar, y: int, scale: float, colours: Mapping[str, str], unit: str) -> str:
    middle, x = y + BAR_HEIGHT / 2 + 4, float(BAR_LEFT)
    parts = [f'<text class="title" text-anchor="end" x="{BAR_LEFT - 10}" y="{middle}">{escape(bar.name)}</text>\n']
    for name, value in bar.parts.items():
        width = value * scale
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{colours[name]}">'
            f"<title>{escape(name)}: {value:.0f} {unit}</title></rect>\n"
        )
        if width >= NARROW:
            at = x + width / 2
            parts.append(f'<text class="figure" text-anchor="middle" x="{at:.1f}" y="{middle}">{value:.0f}</text>\n')
        x += width
    return "".join([*parts, f'<text x="{x + 8:.1f}" y="{middle}">{sum(bar.parts.values()):.0f} {unit}</text>\n'])


def _panel(panel: Panel, top: float) -> str:
    until_s = max(at_s for at_s, _ in panel.rates)
    until_s = max(until_s, max(at_s for at_s, _ in panel.slots))
    first, second = top + TITLE, top + TITLE + HEIGHT + GAP
    most_slots = _round_up(max(value for _, value in (*panel.slots, *panel.in_use)))
    most_rows = _round_up(max(value for _, value in panel.rates))
    return "".join(
        [
            f'<text class="title" x="{LEFT}" y="{top + 18}">{escape(panel.title)}</text>\n',
            f'<text class="slots" x="{LEFT}" y="{top + 36}">slots (thin: rows in flight)</text>\n',
            f'<text class="rate" x="{LEFT + 170}" y="{top + 36}">rows finished a second</text>\n',
            _axes(first, most_slots),
            _path("in-use", panel.in_use, until_s, first, most_slots),
            _path("slots", panel.slots, until_s, first, most_slots),
            _axes(second, most_rows),
            _path("rate", panel.rates, until_s, second, most_rows),
            _seconds(second + HEIGHT + 18, until_s),
        ]
    )


def _axes(top: float, most: float) -> str:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = top + HEIGHT * (1 - share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>\n')
        parts.append(f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{most * share:g}</text>\n')
    return "".join(parts)


def _path(kind: str, line: Line, until_s: float, top: float, most: float) -> str:
    points = [
        f"{LEFT + (WIDTH - LEFT - RIGHT) * at_s / until_s:.1f} {top + HEIGHT * (1 - value / most):.1f}"
        for at_s, value in line
    ]
    return f'<path class="{kind}" d="M{"L".join(points)}"/>\n'


def _seconds(y: float, until_s: float) -> str:
    step_s = _round_up(until_s / 8)
    parts = []
    for number in range(math.floor(until_s / step_s) + 1):
        x = LEFT + (WIDTH - LEFT - RIGHT) * number * step_s / until_s
        unit = " s" if number == 0 else ""
        parts.append(f'<text text-anchor="middle" x="{x:.1f}" y="{y:.1f}">{number * step_s:g}{unit}</text>\n')
    return "".join(parts)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 4, 5, 10, 20 … that is not less."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 2, 4, 5, 10) if unit * step >= value)
