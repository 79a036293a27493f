"""Failing providers in small numbers, for every run of the tests; `python -m tests.faults.flaky` does it at length."""

import asyncio
import os
from pathlib import Path
from random import Random

import uvloop

from tests.faults.flaky import LEAST, Wanted, report, run
from tests.faults.kills import tell_offences

SEED = os.environ.get("FAULTS_SEED") or str(Random().randrange(10**6))
REQUESTS = 400  # at each rate; 99.99 % and 99.9 % of so few are all of them


def test_clients_do_not_notice(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        wanted = Wanted(requests=REQUESTS, seed=SEED, margin=0.01)
        bench, measured, verdict = runner.run(run(wanted, tmp_path))
    told = f"seed {SEED}\n{report(measured, verdict, bench.codes())}"
    assert bench.offences == [], f"{tell_offences(bench.offences)}\n{told}"
    assert [one.rate for one in measured] == list(LEAST)
    assert verdict.rows == verdict.requests, told
    by_rate = {one.rate: one.tries / one.requests for one in measured}
    assert by_rate[0] == 1, told
    assert 1 < by_rate[10] < by_rate[50] < 2.2, told
