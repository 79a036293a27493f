"""The pool's promises over a virtual hour; `python -m scripts.pool_simulation` runs a day of them."""

import msgspec
import pytest

from scripts.pool_simulation import Plan, Simulation, told

ABUNDANT = Plan(day_s=1_800.0)
SCARCE = Plan(
    keys=4, day_s=3_600.0, requests_per_s=1.0, ills={"rate": (300.0, 60.0), "auth": (900.0, 300.0)}, revoked=1
)


def test_with_keys_to_spare_nobody_fails_but_by_his_own_fault() -> None:
    figures = Simulation(ABUNDANT).run()
    assert set(figures.failed) == {"content"}
    assert figures.illnesses > 30
    assert figures.idle_healthy == 0
    assert figures.answered + figures.failed["content"] == figures.requests
    assert len(told(ABUNDANT, figures)) == 9


@pytest.mark.parametrize("seed", [2, 3])
def test_where_keys_are_short_none_is_idle_and_none_is_tried_too_often(seed: int) -> None:
    """The run asserts both at each try and each failure."""
    figures = Simulation(msgspec.structs.replace(SCARCE, seed=seed)).run()
    assert figures.failed["no key"] > 0
    assert figures.dead_tries > 0
    assert figures.recoveries_s
