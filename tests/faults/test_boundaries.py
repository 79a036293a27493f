"""Death at every named step of the money path: nothing lost, nothing doubled, on both stores.

The gateway ends itself at the n-th passing of a boundary, under load or while it recovers from an earlier crash. That
it really did is asserted each time. The books of one store go through all the deaths, and are judged after each.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
import uvloop

from tests.faults.invariants import CRASHED as CRASHED_ROWS
from tests.faults.lab import Lab
from tests.faults.shelf import MongoShelf, Shelf, SqliteShelf
from tests.mongod import Mongod
from trollproxy.money.boundaries import BOUNDARIES, CRASHED

RECOVERY = ("before_recovery", "after_recovery")  # passed once a start, so they are not met under load
UNDER_LOAD = [(name, n) for name in BOUNDARIES if name not in RECOVERY for n in (1, 3)]
# What a start passes that finds a crash behind it: it charges by one write what was cut off, and flushes that before it
# listens.
IN_RECOVERY = [
    ("before_recovery", 1),
    ("before_charge", 1),
    ("before_charge", 3),
    ("before_put_down", 1),
    ("after_put_down", 1),
    ("after_recovery", 1),
    ("before_flush", 1),
    ("after_flush", 1),
    ("after_acknowledge", 1),
]


class Bench:
    """A lab that lives as long as its module, on a loop of its own."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self.seed = os.environ.get("FAULTS_SEED") or str(Random().randrange(10**6))
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.stack = AsyncExitStack()
        self.lab = self.runner.run(self.stack.enter_async_context(Lab(folder, shelf, seed=self.seed)))

    def close(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def judge(self) -> None:
        """What earlier deaths have left wrong is theirs to fail by."""
        known = set(self.lab.offences)
        verdict = self.runner.run(self.lab.check())
        assert [offence for offence in self.lab.offences if offence not in known] == [], f"seed {self.seed}"
        assert verdict.requests > 0


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with Mongod() as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "mongo"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp(f"boundaries-{request.param}")
    shelf: Shelf
    shelf = SqliteShelf(folder) if request.param == "sqlite" else MongoShelf(request.getfixturevalue("mongod"), "steps")
    made = Bench(folder, shelf)
    yield made
    made.close()


@pytest.mark.parametrize(("boundary", "n"), UNDER_LOAD)
def test_death_under_load(bench: Bench, boundary: str, n: int) -> None:
    assert bench.runner.run(bench.lab.live(crash_at=f"{boundary}:{n}")) == CRASHED
    bench.judge()


@pytest.mark.parametrize(("boundary", "n"), IN_RECOVERY)
def test_death_in_recovery(bench: Bench, boundary: str, n: int) -> None:
    """Killed while busy; then the starts that should clear up die too, twice, before anybody can ask for anything."""
    lab = bench.lab

    async def die() -> None:
        await lab.die_busy()
        asked = len(lab.planner.plans)
        assert await lab.live(crash_at=f"{boundary}:{n}") == CRASHED
        assert await lab.live(crash_at=_again(boundary)) == CRASHED
        assert len(lab.planner.plans) == asked

    bench.runner.run(die())
    bench.judge()
    assert lab.verdict is not None
    assert CRASHED_ROWS & lab.verdict.endings.keys()


def _again(boundary: str) -> str:
    """A boundary that the next start passes too, whatever the first death has already done."""
    return f"{boundary}:1" if boundary in RECOVERY else "before_recovery:1"


def test_every_boundary_is_tried() -> None:
    assert {name for name, _ in [*UNDER_LOAD, *IN_RECOVERY]} == set(BOUNDARIES)
