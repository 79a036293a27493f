"""Random kills in small numbers, for every run of the tests; `make faults` does the same a thousand times."""

import asyncio
import os
from pathlib import Path
from random import Random

import pytest
import uvloop

from tests.faults.kills import Wanted, report, run, tell_offences

SEED = os.environ.get("FAULTS_SEED") or str(Random().randrange(10**6))
RUNS = (
    Wanted(store="sqlite", seed=SEED, gateway_kills=25),
    Wanted(store="mongo", seed=SEED, gateway_kills=10),
    Wanted(store="mongo", seed=SEED, mongod_kills=4),
)


@pytest.mark.parametrize("wanted", RUNS, ids=["sqlite", "mongo", "mongod"])
def test_kills_lose_and_double_nothing(wanted: Wanted, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lab = runner.run(run(wanted, tmp_path))
    told = report(lab, wanted)
    assert lab.offences == [], f"{tell_offences(lab.offences)}\n{told}"
    assert lab.verdict is not None
    assert lab.verdict.seen > 0, told
    if wanted.mongod_kills:
        assert lab.served_without_store > 0, told
