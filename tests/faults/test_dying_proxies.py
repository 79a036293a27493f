"""Dying proxies in small numbers, for every run of the tests; `python -m tests.faults.dying_proxies` does more."""

import asyncio
import os
from pathlib import Path
from random import Random

import uvloop

from tests.faults.dying_proxies import Wanted, report, run

SEED = os.environ.get("FAULTS_SEED") or str(Random().randrange(10**6))


def test_who_asks_is_served_to_the_last_proxy_and_never_directly(tmp_path: Path) -> None:
    wanted = Wanted(proxies=4, between=100, seed=SEED)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        shown = runner.run(run(wanted, tmp_path))
    told = report(shown, wanted)
    assert shown.offences == [], told
    assert shown.answered >= 5 * wanted.between, told
    assert shown.refused_before_last == 0, told
    assert shown.refused_after_last, told
    assert shown.looks > 10, told
