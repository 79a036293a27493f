"""The paths of most requests must not become dearer unseen: CPU of the real gateway against a fixed reference.

How it is measured, and why so, is told in tests/bench/budget.py. Where a path is meant to cost more, or has become
cheaper: `python -m tests.bench.budget --write`, and say in the commit what it buys.
"""

from pathlib import Path

from tests.bench.budget import GROWTH, Costs, measure, read_budgets

TRIES = 8  # of 4 s: a machine may be disturbed for the whole of one; code that has become dearer is so in all


def test_no_path_costs_a_tenth_more_than_its_budget(tmp_path: Path) -> None:
    budgets = read_budgets()
    least_us: Costs = {}
    for number in range(TRIES):
        costs = measure(tmp_path / str(number), least_us)
        assert costs.keys() == budgets.keys()
        dearer = {path: cost / budgets[path] for path, cost in costs.items() if cost > GROWTH * budgets[path]}
        if not dearer:
            return
    raise AssertionError({path: f"{share:.0%} of its budget" for path, share in dearer.items()})
