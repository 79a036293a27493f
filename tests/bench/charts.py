"""Charts as SVG: bars on a logarithmic scale, and curves over counts that grow tenfold.

Colours are those of the page that shows them, or nearly: mid-tones that stand out on white and on black.
"""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from tests.bench.page import number

WIDTH, LEFT, RIGHT, TOP = 760, 190, 70, 44
BAR_PX, GAP_PX = 22, 10
PLOT_PX = 260
COLOURS = ("#2f7ed8", "#d9822b", "#3a9d5d", "#a455b5")
INK, GRID = "#808080", "#80808055"


def bars(title: str, values: Mapping[str, float]) -> str:
    """One bar for each name, from the greatest power of ten below them all."""
    low = 10 ** math.floor(math.log10(min(values.values())))
    high = 10 ** math.ceil(math.log10(max(values.values()) * 1.01))
    scale = (WIDTH - LEFT - RIGHT) / math.log10(high / low)
    height = TOP + len(values) * (BAR_PX + GAP_PX) + 24
    parts = []
    for step in range(round(math.log10(high / low)) + 1):
        x = LEFT + step * scale
        parts += [_line((x, TOP - 6), (x, height - 20), GRID), _text((x, height - 6), number(low * 10**step), "middle")]
    for place, (name, value) in enumerate(values.items()):
        y = TOP + place * (BAR_PX + GAP_PX)
        width = max(1.0, math.log10(value / low) * scale)
        colour = COLOURS[1] if name.startswith("trollproxy") else COLOURS[0]
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR_PX}" rx="2" fill="{colour}"/>')
        parts.append(_text((LEFT - 8, y + 15), name, "end"))
        parts.append(_text((LEFT + width + 6, y + 15), number(value), "start"))
    return _drawing(title, height, parts)


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each name through its points, counts on a logarithmic axis, cost on a plain one from zero."""
    decades = max(1, math.ceil(max(math.log10(x) for points in lines.values() for x, _ in points)))
    top = 1.15 * max(y for points in lines.values() for _, y in points)
    left, wide = 70, WIDTH - 70 - RIGHT - 90
    bottom = TOP + PLOT_PX
    parts = [_line((left, bottom), (left + wide, bottom), INK), _line((left, TOP), (left, bottom), INK)]
    steps = range(decades + 1)
    parts += [_text((left + wide * step / decades, bottom + 18), number(10**step), "middle") for step in steps]
    for step in range(1, 5):
        y = bottom - PLOT_PX * step / 4
        parts += [_line((left, y), (left + wide, y), GRID), _text((left - 8, y + 4), number(top * step / 4), "end")]
    for place, (name, points) in enumerate(lines.items()):
        colour = COLOURS[place % len(COLOURS)]
        at = [(left + wide * math.log10(x) / decades, bottom - PLOT_PX * y / top) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in at]
        parts.append(_text((left + wide + 14, TOP + 18 + 20 * place), name, "start", colour))
    return _drawing(title, bottom + 30, parts)


def _drawing(title: str, height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img">'
    name = f'<title>{escape(title)}</title><text x="12" y="22" font-size="15" fill="{INK}">{escape(title)}</text>'
    return "\n".join([head, name, *parts, "</svg>", ""])


def _line(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(at: tuple[float, float], words: str, anchor: str, colour: str = INK) -> str:
    x, y = at
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
