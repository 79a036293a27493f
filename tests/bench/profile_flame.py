"""A flame graph as SVG: how wide a box is, is how much of the time its frame was on the stack.

    profile_flame.draw("a whole answer", stacks, total_us=74.0)

The outermost frame is at the bottom. Pointing at a box tells its name and its time; a click makes it as wide as the
picture, and a click on the box below all shows everything again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from tests.bench.profile_stacks import Box, Kind

WIDTH, ROW, TOP = 1400, 17, 30
LEAST = 0.0005  # of the picture's width: narrower than a pixel
COLOURS: dict[Kind, tuple[str, str]] = {
    "all": ("#c4c4c4", "threads"),
    "ours": ("#f0a04b", "ours"),
    "loop": ("#8cc47e", "event loop and parser"),
    "kernel": ("#85aede", "kernel"),
    "other": ("#ecd9a8", "Python and libraries"),
}
STYLE = "text{font:12px sans-serif}g{cursor:pointer}g text{pointer-events:none}g rect{stroke:#fff;stroke-width:.5}"
SCRIPT = """
const boxes = document.querySelectorAll("g"), width = document.documentElement.viewBox.baseVal.width
function show(from, wide) {
  for (const box of boxes) {
    const [rect, text] = [box.querySelector("rect"), box.querySelector("text")]
    const start = (box.dataset.at - from) / wide, end = start + box.dataset.wide / wide
    const left = Math.max(0, start) * width, right = Math.min(1, end) * width
    box.style.display = right - left < 0.5 ? "none" : ""
    rect.setAttribute("x", left)
    rect.setAttribute("width", Math.max(0, right - left))
    text.setAttribute("x", left + 3)
    text.textContent = box.dataset.name.slice(0, Math.max(0, (right - left - 6) / 6.5))
  }
}
for (const box of boxes) box.onclick = () => show(+box.dataset.at, +box.dataset.wide)
show(0, 1)
"""


@dataclass
class Node:
    """A frame under the same frames: how many samples went through it, and what it called."""

    count: int = 0
    calls: dict[Box, "Node"] = field(default_factory=dict)


class Placed(NamedTuple):
    """A box in the picture, as shares of its width; rows count from the bottom."""

    box: Box
    at: float
    wide: float
    row: int


def draw(title: str, stacks: Mapping[tuple[Box, ...], int], *, total_us: float) -> str:
    root = grown(stacks)
    whole = Placed(Box("all", "all"), 0, 1, 0)
    placed = [each for each in (whole, *place(root, root.count, whole)) if each.wide >= LEAST]
    height = TOP + ROW * (1 + max(each.row for each in placed))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}><title>{escape(title)}</title><style>{STYLE}</style>',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/><text x="3" y="18">{escape(title)}</text>',
            *_legend(),
            *_boxes(placed, height, total_us),
            f"<script><![CDATA[{SCRIPT}]]></script></svg>\n",
        ]
    )


def grown(stacks: Mapping[tuple[Box, ...], int]) -> Node:
    root = Node()
    for stack, count in stacks.items():
        node = root
        node.count += count
        for box in stack:
            node = node.calls.setdefault(box, Node())
            node.count += count
    return root


def place(node: Node, total: int, under: Placed) -> Iterator[Placed]:
    """Names in their order, so that two pictures of the same program look alike."""
    at = under.at
    for box, called in sorted(node.calls.items()):
        placed = Placed(box, at, called.count / total, under.row + 1)
        yield placed
        yield from place(called, total, placed)
        at += placed.wide


def _boxes(placed: Iterable[Placed], height: float, total_us: float) -> Iterator[str]:
    for box, at, wide, row in placed:
        name, y = box.name, height - (row + 1) * ROW
        told = escape(f"{name}: {wide * total_us:.2f} µs, {wide:.1%}")
        yield f'<g data-at="{at:.6f}" data-wide="{wide:.6f}" data-name={quoteattr(name)}><title>{told}</title>'
        yield f'<rect y="{y}" height="{ROW}" fill="{COLOURS[box.kind][0]}"/><text y="{y + 12}"/></g>'


def _legend() -> Iterator[str]:
    for number, (colour, words) in enumerate(COLOURS.values()):
        x = WIDTH - 170 * (len(COLOURS) - number)
        yield f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}"/><text x="{x + 18}" y="18">{words}</text>'
