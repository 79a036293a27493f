"""The printed page: tables of figures with their spread, goals, and the marked parts of the documents they go into."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.measures import Taken

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Goal(NamedTuple):
    """One of the goals of the design, the figure that was found, and whether it is met; None: not measured."""

    text: str
    figure: str
    is_met: bool | None


def at_most(text: str, value: float, bound: float, unit: str = "") -> Goal:
    return Goal(text, f"{value:.3g}{unit}", value <= bound)


def at_least(text: str, value: float, bound: float, unit: str = "") -> Goal:
    return Goal(text, f"{value:.3g}{unit}", value >= bound)


def goal_table(goals: Sequence[Goal]) -> Iterator[str]:
    words = {True: "met", False: "**not met**", None: "not measured"}
    yield "| goal | figure | |"
    yield "|---|---|---|"
    for goal in goals:
        yield f"| {goal.text} | {goal.figure} | {words[goal.is_met]} |"


def table(taken: Taken, *, against: str, systems: Sequence[str] = ()) -> Iterator[str]:
    """A row for each figure; with two systems or more, the last column is the median ratio of the last to `against`."""
    shown = list(systems or taken.by_system)
    ours = shown[-1]
    yield f"| | {' | '.join(shown)} | {ours} / {against} |"
    yield "|---" * (len(shown) + 2) + "|"
    for name in taken.by_system[ours]:
        cells = [spread(taken.by_system[system].get(name, [])) for system in shown]
        yield f"| {name} | {' | '.join(cells)} | {_ratio(taken, name, (ours, against))} |"


def rows_by_system(taken: Taken, names: Sequence[str], against: str) -> Iterator[str]:
    """The other way round, for many systems and few figures; the ratio is that of the first figure."""
    yield f"| | {' | '.join(names)} | x {against} |"
    yield "|---" * (len(names) + 2) + "|"
    for system, rounds in taken.by_system.items():
        cells = [spread(rounds.get(name, [])) for name in names]
        yield f"| {system} | {' | '.join(cells)} | {_ratio(taken, names[0], (system, against))} |"


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    low, middle, high = (number(value) for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write(page: str, part: str, lines: Sequence[str]) -> None:
    """Put lines between the marks of a part of a document."""
    path, marks = DOCS / page, (f"<!-- {part} -->", f"<!-- end of {part} -->")
    before, begun, rest = path.read_text().partition(marks[0])
    _, ended, after = rest.partition(marks[1])
    assert begun, f"{page} has no part {part}"
    assert ended, f"the part {part} of {page} has no end"
    path.write_text("\n".join([f"{before}{marks[0]}", *lines, f"{marks[1]}{after}"]))


def _ratio(taken: Taken, name: str, pair: tuple[str, str]) -> str:
    ours, theirs = (taken.by_system.get(system, {}).get(name, []) for system in pair)
    if not ours or len(ours) != len(theirs) or min(theirs) <= 0 or min(ours) < 0:
        return ""
    return f"{taken.ratio(name, *pair):.2f}"
