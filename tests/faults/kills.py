"""A thousand kills: SIGKILL at random moments under load, for the gateway and for mongod, and the accounting after.

    python -m tests.faults.kills --gateway-kills 1000 --mongod-kills 200 --store mongo --seed 42

The seed is printed first; the same seed draws the same requests and the same moments, as far as two runs of several
processes can be the same. Exit code 1 and the first offences if anything is wrong, else one line of figures.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import uvloop

from tests.faults.lab import Lab
from tests.faults.shelf import MongoShelf, SqliteShelf
from tests.mongod import Mongod

CHECK_EVERY = 50
SHOWN = 3  # of each kind of offence
AT_START = 0.2  # of the kills of the gateway
START_S = 0.8  # about twice what a start takes: such a kill meets imports, recovery or the first requests
LIFE_S = 0.25
MONGOD_LIFE_S = 0.6
MONGOD_DOWN_S = 0.3
BOTH = 0.1  # of the kills of mongod, with the gateway at the same time
CROWD_WITHOUT_STORE = 4  # fewer clients, since each kill of mongod takes its seconds


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked to do."""

    store: str
    seed: str
    gateway_kills: int = 0
    mongod_kills: int = 0


async def run(wanted: Wanted, folder: Path) -> Lab:
    """All the kills, with an accounting every so often and at the end."""
    async with _open(wanted, folder) as (lab, mongod):
        for count in _portions(wanted.gateway_kills):
            await kill_gateway(lab, count)
            await lab.check()
            _tell(lab)
        for count in _portions(wanted.mongod_kills):
            assert mongod is not None
            await kill_mongod(lab, mongod, count)
            _tell(lab)
    return lab


async def run_until_told(wanted: Wanted, folder: Path) -> Lab:
    """The same; a SIGTERM ends its gateway and its mongod too."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(wanted, folder)


async def kill_gateway(lab: Lab, count: int) -> None:
    """The random moments are the point: a crash must be harmless wherever it falls."""
    for _ in range(count):
        rng = lab.rng
        if rng.random() < AT_START:
            code = await lab.die_at_start(rng.random() * START_S)
        else:
            code = await lab.live(kill_after_s=rng.random() * LIFE_S)
        assert code == -9, f"the gateway ended by itself, exit code {code}\n{lab.serving.log[-3000:]}"


async def kill_mongod(lab: Lab, mongod: Mongod, count: int) -> None:
    """Kill mongod again and again under one gateway, which goes on serving whom it knows; then do the accounts."""
    lab.crowd.size = CROWD_WITHOUT_STORE
    await lab.serving.start()
    crowd = asyncio.create_task(lab.crowd.run(lab.serving.port))
    for _ in range(count):
        await asyncio.sleep(lab.rng.random() * MONGOD_LIFE_S)  # the random moment
        mongod.kill()
        is_both = lab.rng.random() < BOTH
        if is_both:
            lab.serving.kill()
            await crowd
        before = lab.answered
        await asyncio.sleep(lab.rng.random() * MONGOD_DOWN_S)  # as random: how much piles up meanwhile
        await asyncio.to_thread(mongod.restart)
        lab.served_without_store += lab.answered - before
        if is_both:
            await lab.end_life()
            await lab.serving.start()
            crowd = asyncio.create_task(lab.crowd.run(lab.serving.port))
    lab.crowd.stop()
    await crowd
    await lab.rest()
    await lab.account()


@asynccontextmanager
async def _open(wanted: Wanted, folder: Path) -> AsyncIterator[tuple[Lab, Mongod | None]]:
    async with AsyncExitStack() as stack:
        mongod = None
        if wanted.store == "mongo":
            mongod = stack.enter_context(Mongod())
            shelf: MongoShelf | SqliteShelf = MongoShelf(mongod, "faults")
        else:
            shelf = SqliteShelf(folder)
        yield await stack.enter_async_context(Lab(folder, shelf, seed=wanted.seed)), mongod


def _portions(count: int) -> list[int]:
    whole, rest = divmod(count, CHECK_EVERY)
    return [CHECK_EVERY] * whole + ([rest] if rest else [])


def report(lab: Lab, wanted: Wanted) -> str:
    verdict = lab.verdict
    assert verdict is not None
    kills = [f"gateway kills {wanted.gateway_kills:,}"] if wanted.gateway_kills else []
    if wanted.mongod_kills:
        kills.append(f"mongod kills {wanted.mongod_kills:,} ({lab.served_without_store:,} answered until it was back)")
    facts = [
        f"{', '.join(kills)} (store {wanted.store})",
        f"requests {verdict.requests:,}",
        f"seen by upstream {verdict.seen:,}",
        f"rows {verdict.rows:,}",
        f"lost {len(verdict.lost)}",
        f"doubled {len(verdict.doubled)}",
        f"drift {verdict.drift_nusd} nusd",
        f"seed {wanted.seed}",
    ]
    return " · ".join(facts)


def _tell(lab: Lab) -> None:
    assert lab.verdict is not None
    endings = ", ".join(f"{name} {count}" for name, count in sorted(lab.verdict.endings.items()))
    _say(f"{time.strftime('%H:%M:%S')} rows {lab.verdict.rows:,} ({endings})")
    _say(tell_offences(lab.offences))


def tell_offences(offences: list[str]) -> str:
    """Some of each kind, so that a frequent one hides no rare one. The same are found again at every accounting."""
    kinds: dict[str, list[str]] = {}
    for offence in dict.fromkeys(offences):
        kinds.setdefault(re.sub(r"\d+", "", offence.rpartition(": ")[2]), []).append(offence)
    return "\n".join(f"{len(found)} like these:\n  " + "\n  ".join(found[:SHOWN]) for found in kinds.values())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n" if text else "")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=("sqlite", "mongo"), default="sqlite")
    parser.add_argument("--gateway-kills", type=int, default=0)
    parser.add_argument("--mongod-kills", type=int, default=0, help="with --store mongo")
    parser.add_argument("--seed", default=os.environ.get("FAULTS_SEED") or str(Random().randrange(10**6)))
    wanted = msgspec.convert(vars(parser.parse_args()), Wanted)
    _say(f"seed {wanted.seed}")
    with tempfile.TemporaryDirectory(prefix="trollproxy-faults-") as folder:
        lab = uvloop.run(run_until_told(wanted, Path(folder)))
    _say(report(lab, wanted))
    return 1 if lab.offences else 0


if __name__ == "__main__":
    sys.exit(main())
