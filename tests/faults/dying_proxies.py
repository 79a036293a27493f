"""Outbound proxies killed one by one under load: whoever asks is served to the last of them, and never directly.

    python -m tests.faults.dying_proxies --proxies 8 --between 1000 --seed 42

A real gateway process before real CONNECT and SOCKS5 proxies, and a provider that it could reach directly, if it
wanted to. That it does not is seen from both sides: the provider knows who connected to it, and the kernel with whom
the gateway has sockets. At the end one proxy comes back, and is found without anybody's help. Exit code 1 if anything
is wrong.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec
import uvloop

from tests.faults.flaky import Drawer, settle_in
from tests.faults.flaky_provider import FlakyProvider
from tests.faults.invariants import Evidence, judge
from tests.faults.load import Crowd
from tests.faults.people import PEPPER, PLENTY_NUSD
from tests.faults.plans import MULTIPLIER, USD_PER_MTOK, Plan
from tests.faults.serving import Serving
from tests.faults.shelf import Row, SqliteShelf
from tests.faults.sockets import Watch
from tests.integration.proxy_server import ByteProxy

CLIENTS = 16
CLEAN = {"502 proxy_unavailable", "503 proxy_unavailable", "529 proxy_unavailable"}  # 529: Anthropic's word for 503
# Who was under way through the last proxy when it died may be told so.
CUT_SHORT = {"502 upstream_broken", "502 upstream_unavailable"}
WITHIN_S = 60.0
POLL_S = 0.01


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked to do. `between` two kills so many requests must be answered."""

    proxies: int
    between: int
    seed: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    requests: int
    answered: int
    cut_mid_stream: int
    refused_before_last: int
    refused_after_last: dict[str, int]
    connections: int
    looks: int
    offences: list[str]


class Scene:
    """A gateway behind proxies, and everything around it."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self.wanted = wanted
        self.shelf = SqliteShelf(folder)
        self.plans: dict[str, Plan] = {}
        self.provider = FlakyProvider(self.plans, Random(wanted.seed))
        logins = [("troll", "bridge"), (None, None)]
        self.proxies = [
            ByteProxy(
                "http" if place % 2 else "socks5",
                username=logins[place // 2 % 2][0],
                password=logins[place // 2 % 2][1],
            )
            for place in range(wanted.proxies)
        ]
        self.crowd: Crowd
        self.serving: Serving
        self.watch: Watch
        self._folder = folder

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        person = await settle_in(self.shelf)
        self.crowd = Crowd(Drawer(0, person, rng=Random(self.wanted.seed), plans=self.plans), size=CLIENTS)
        for proxy in self.proxies:
            await proxy.listen()
        async with self.provider:
            self.serving = Serving(self._folder, self._config())
            await self.serving.start()
            self.watch = Watch(self.serving.pid)
            watching, load = asyncio.create_task(self.watch.run()), asyncio.create_task(self._load())
            try:
                yield
                self.crowd.stop()
                await load
            finally:
                watching.cancel()
                load.cancel()
                await asyncio.gather(watching, load, return_exceptions=True)
                await self.serving.end()
                for proxy in self.proxies:
                    await proxy.kill()

    @property
    def answered(self) -> int:
        return sum(outcome == "complete" for outcome in self.crowd.outcomes.values())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(POLL_S)

    async def until_answered(self, more: int) -> None:
        goal = self.answered + more
        await self.until(lambda: self.answered >= goal)

    async def _load(self) -> None:
        await self.crowd.run(self.serving.port)

    def _config(self) -> Row:
        login = [f"{proxy.username}:{proxy.password}@" if proxy.username else "" for proxy in self.proxies]
        urls = {
            f"p{place}": f"{proxy.kind}://{login[place]}127.0.0.1:{proxy.port}"
            for place, proxy in enumerate(self.proxies)
        }
        upstream = {
            "baseUrl": f"http://127.0.0.1:{self.provider.port}/0",
            "formats": ["openai", "anthropic"],
            "keys": ["one", "two"],
            "proxies": list(urls),
            "timeouts": {"connect": "2s"},
        }
        return {
            "demo": False,
            "proxies": urls,
            "upstreams": {"hidden": upstream},
            "models": [{"id": "m-*", "upstream": "hidden", "pricing": USD_PER_MTOK, "billingMultiplier": MULTIPLIER}],
            "limits": {"devRpm": 10_000_000, "proRpm": 10_000_000},
            "billing": {"flushInterval": "50ms"},
            "log": {"level": "error"},
            "pepper": PEPPER,
        }


async def run(wanted: Wanted, folder: Path) -> Shown:
    scene = Scene(folder, wanted)
    async with scene.open():
        await scene.until_answered(wanted.between)
        *others, last = scene.proxies
        for proxy in others:
            await proxy.kill()
            await scene.until_answered(wanted.between)
        before = scene.crowd.codes.copy()
        await last.kill()
        # Enough that nobody is left who was under way when it died.
        await scene.until(lambda: scene.crowd.codes.total() - before.total() > 10 * CLIENTS)
        refused = scene.crowd.codes - before
        await last.listen()
        await scene.until_answered(wanted.between)
        scene.crowd.stop()
        await scene.serving.wait_quiet()
        await scene.serving.drain()
    return _judge(scene, before, refused)


def _judge(scene: Scene, before: Counter[str], refused: Counter[str]) -> Shown:
    ways = {way for proxy in scene.proxies for way in proxy.ways}
    origin = ("127.0.0.1", scene.provider.port)
    verdict = judge(
        Evidence(
            plans=scene.plans,
            outcomes=scene.crowd.outcomes,
            seen=dict.fromkeys(scene.provider.seen, 1),
            page=scene.shelf.read(),
            credited={("ann", "legacy"): PLENTY_NUSD},
            friend_cap_nusd={},
        )
    )
    offences = [offence for offence in verdict.offences if not offence.endswith("the provider answered")]
    offences += [f"a direct connection from {peer}" for peer in scene.provider.peers - ways]
    offences += ["the gateway had a socket to the provider"] if origin in scene.watch.seen else []
    unseen = {("127.0.0.1", proxy.port) for proxy in scene.proxies} - scene.watch.seen
    offences += [f"the watch did not see the way to {peer}" for peer in unseen]
    offences += [f"refused while a proxy was left: {code}" for code in before]
    offences += [f"told {code}" for code in refused.keys() - CLEAN - CUT_SHORT]
    offences += ["cut short more often than there were clients"] * (sum(refused[code] for code in CUT_SHORT) > CLIENTS)
    offences += ["the log has a traceback"] * ("Traceback" in scene.serving.log)
    outcomes = Counter(scene.crowd.outcomes.values())
    return Shown(
        requests=outcomes.total(),
        answered=outcomes["complete"],
        cut_mid_stream=outcomes.total() - outcomes["complete"] - scene.crowd.codes.total(),
        refused_before_last=before.total(),
        refused_after_last=dict(refused),
        connections=len(scene.provider.peers),
        looks=scene.watch.looks,
        offences=offences,
    )


def report(shown: Shown, wanted: Wanted) -> str:
    return (
        f"proxies {wanted.proxies} · requests {shown.requests:,} · answered {shown.answered:,} · "
        f"cut behind their first token {shown.cut_mid_stream} · "
        f"refused while one was left {shown.refused_before_last} · "
        f"after the last {shown.refused_after_last} · connections at the provider {shown.connections:,}, "
        f"all of proxies · looks at the gateway's sockets {shown.looks:,} · seed {wanted.seed}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.dying_proxies", description=__doc__.splitlines()[0])
    parser.add_argument("--proxies", type=int, default=8)
    parser.add_argument("--between", type=int, default=1000, help="requests that are answered between two kills")
    parser.add_argument("--seed", default=os.environ.get("FAULTS_SEED") or str(Random().randrange(10**6)))
    wanted = msgspec.convert(vars(parser.parse_args()), Wanted)
    sys.stdout.write(f"seed {wanted.seed}\n")
    with tempfile.TemporaryDirectory(prefix="trollproxy-proxies-") as folder:
        shown = uvloop.run(run(wanted, Path(folder)))
    sys.stdout.write("\n".join([report(shown, wanted), *shown.offences[:20], ""]))
    return 1 if shown.offences else 0


if __name__ == "__main__":
    sys.exit(main())
