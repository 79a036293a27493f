"""The paths of most requests must not become dearer unseen: CPU of the real gateway against a fixed reference.

How it is measured, and why so, is told in tests/bench/budget.py. Where a path is meant to cost more, or has become
cheaper: `python -m tests.bench.budget --write`, and say in the commit what it buys.
"""

from pathlib import Path

from tests.bench.budget import GROWTH, Measuring, read_budgets

TRIES = 4  # a machine may be disturbed for the whole of one measurement; code that has become dearer is so in each


def test_no_path_costs_a_tenth_more_than_its_budget(tmp_path: Path) -> None:
    budgets = read_budgets()
    least = dict.fromkeys(budgets, float("inf"))
    with Measuring(tmp_path) as measuring:
        for _ in range(TRIES):
            costs = measuring.measure()
            assert costs.keys() == budgets.keys()
            least = {path: min(least[path], cost) for path, cost in costs.items()}
            if all(least[path] <= GROWTH * budget for path, budget in budgets.items()):
                return
    dearer = {path: f"{cost / budgets[path]:.0%} of its budget" for path, cost in least.items()}
    raise AssertionError(dearer)
