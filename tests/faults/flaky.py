"""Providers of which 1 %, 10 % or 50 % of the calls fail, under load: how many clients notice, and what it costs.

    python -m tests.faults.flaky --requests 20000 --seed 42

One gateway process, and for each rate two providers of its own that fail independently, one spoken to in the client's
format and one in another. The rates take turns in blocks, so that a busy machine is busy for all of them. Failures are
of every kind that a client need not notice, evenly but for two: one in twenty hangs, and one in fifty is a 429, which
rests a key. What breaks after the first token cannot be hidden and is not among them (tests/integration has it).

Exit code 1 if too few requests succeed, or if the books are off by anything.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Self

import msgspec
import uvloop

from tests.e2e.talk import DIALECTS
from tests.faults.flaky_provider import FlakyProvider
from tests.faults.invariants import Evidence, Verdict, judge
from tests.faults.kills import tell_offences
from tests.faults.load import Crowd, Outcome
from tests.faults.people import PEPPER, PLENTY_NUSD
from tests.faults.plans import MIN_BODY, MULTIPLIER, TOKENS_A_PIECE, USD_PER_MTOK, Person, Plan
from tests.faults.serving import Serving
from tests.faults.shelf import Row, SqliteShelf
from trollproxy.control.accounts import AccountOffice
from trollproxy.control.audit import audit

RATES = (0, 1, 10, 50)  # per cent of the calls that fail
LEAST = {0: 1.0, 1: 0.9999, 10: 0.999, 50: 0.99}
BLOCK = 250
CLIENTS = 24
KEYS = 20
MAX_TOKENS = 40
DEADLINE = "1s"  # for the first byte, so that a hang costs no more


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked to do. `requests` are those of each rate; `margin` is for chance where they are few."""

    requests: int
    seed: str
    margin: float = 0.0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One rate's outcome. Durations are of requests that succeeded, to their last byte."""

    rate: int
    requests: int
    succeeded: int
    tries: int
    p50_ms: float
    p99_ms: float

    @property
    def success(self) -> float:
        return self.succeeded / self.requests


class Drawer:
    """Draws the plans of one rate. A request is known by its model's name, which no two share."""

    def __init__(self, rate: int, person: Person, *, rng: Random, plans: dict[str, Plan]) -> None:
        self._rate, self._person, self._rng, self.plans = rate, person, rng, plans

    def draw(self) -> Plan:
        rng = self._rng
        marker = f"m-{self._rate}-{len(self.plans)}"
        dialect, stream, pieces = rng.choice(DIALECTS), rng.random() < 0.6, rng.randint(1, 6)
        body = msgspec.json.encode(dialect.ask(MIN_BODY, model=marker, max_tokens=MAX_TOKENS, stream=stream))
        plan = self.plans[marker] = Plan(
            marker=marker,
            dialect=dialect.name,
            person=self._person,
            stream=stream,
            body=body,
            uncached=-(-len(body) // 4) + rng.randint(0, 9),
            read=rng.randint(0, 9),
            out=pieces * TOKENS_A_PIECE + rng.randint(0, 20),
            pieces=pieces,
            pause_s=rng.random() * 0.004,
            fate="answer",
            cut="never",
        )
        return plan


class _Block(Crowd):
    """A crowd that asks so many times and notes how long each answer took."""

    left = 0

    def __init__(self, drawer: Drawer) -> None:
        super().__init__(drawer, size=CLIENTS)
        self.durations_s: list[float] = []
        self.failed: list[str] = []

    async def run_block(self, port: int, count: int) -> None:
        self.left = count
        await self.run(port)

    async def _ask(self, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Outcome:
        self.left -= 1
        if self.left <= 0:
            self.stop()
        began_s = time.perf_counter()
        outcome = await super()._ask(plan, reader, writer)
        if outcome == "complete":
            self.durations_s.append(time.perf_counter() - began_s)
        return outcome


class Bench:
    """Everything of one run."""

    serving: Serving

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self._folder = folder
        self._wanted = wanted
        self._shelf = SqliteShelf(folder)
        self.plans: dict[str, Plan] = {}
        self.provider = FlakyProvider(self.plans, Random(f"{wanted.seed}/failures"))
        self.blocks: dict[int, _Block] = {}
        self.offences: list[str] = []

    async def __aenter__(self) -> Self:
        person = await settle_in(self._shelf)
        for rate in RATES:
            drawer = Drawer(rate, person, rng=Random(f"{self._wanted.seed}/{rate}"), plans=self.plans)
            self.blocks[rate] = _Block(drawer)
        await self.provider.__aenter__()
        self.serving = Serving(self._folder, self._config())
        await self.serving.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.serving.end()
        await self.provider.__aexit__(*error)

    async def measure(self) -> list[Measured]:
        for rate in RATES:  # the first of everything is slow, and no rate's fault
            await self.blocks[rate].run_block(self.serving.port, CLIENTS)
            self.blocks[rate].durations_s.clear()
        done = 0
        while done < self._wanted.requests:
            count = min(BLOCK, self._wanted.requests - done)
            for rate in RATES:
                await self.blocks[rate].run_block(self.serving.port, count)
            done += count
        return [self._measured(rate) for rate in RATES]

    async def account(self) -> Verdict:
        """End the gateway and lay its books beside what clients and providers saw."""
        metrics = await self.serving.wait_quiet()
        self.offences += [f"{name} is {metrics[name]}" for name in ("trollproxy_held_usd",) if metrics[name]]
        await self.serving.drain()
        outcomes = {marker: outcome for block in self.blocks.values() for marker, outcome in block.outcomes.items()}
        verdict = judge(
            Evidence(
                plans=self.plans,
                outcomes=outcomes,
                seen=dict.fromkeys(self.provider.seen, 1),  # more than once is what retries are
                page=self._shelf.read(),
                credited={("ann", "legacy"): PLENTY_NUSD},
                friend_cap_nusd={},
            )
        )
        # "The provider answered" is no offence here: that it would have, no failed request could know.
        self.offences += [offence for offence in verdict.offences if not offence.endswith("the provider answered")]
        self.offences += ["the log has a traceback"] if "Traceback" in self.serving.log else []
        store = self._shelf.make_store()
        await store.open()
        self.offences += [f"audit: {difference}" for difference in (await audit(store)).differences]
        await store.close()
        return verdict

    def codes(self) -> Counter[str]:
        return sum((block.codes for block in self.blocks.values()), Counter())

    def _measured(self, rate: int) -> Measured:
        block = self.blocks[rate]
        counted = Counter(block.outcomes.values())
        durations_ms = sorted(duration * 1000 for duration in block.durations_s)
        return Measured(
            rate=rate,
            requests=counted.total(),
            succeeded=counted["complete"],
            tries=sum(count for marker, count in self.provider.seen.items() if marker.startswith(f"m-{rate}-")),
            p50_ms=durations_ms[len(durations_ms) // 2],
            p99_ms=durations_ms[len(durations_ms) * 99 // 100],
        )

    def _config(self) -> Row:
        upstreams: Row = {}
        models = []
        for rate in RATES:
            names = {"openai": f"first-{rate}", "anthropic": f"second-{rate}"}
            for kind, name in names.items():
                url = f"http://127.0.0.1:{self.provider.port}/{rate}"
                keys = [f"key-{place}-of-{name}" for place in range(KEYS)]
                upstreams[name] = {"baseUrl": url, "type": kind, "keys": keys, "timeouts": {"firstByte": DEADLINE}}
            named = {"pricing": USD_PER_MTOK, "billingMultiplier": MULTIPLIER}
            first, second = names.values()
            models.append({"id": f"m-{rate}-*", "upstream": first, "fallbacks": [{"upstream": second}], **named})
        return {
            "demo": False,
            "models": models,
            "upstreams": upstreams,
            "limits": {"devRpm": 10_000_000, "proRpm": 10_000_000},
            "billing": {"flushInterval": "50ms"},
            "log": {"level": "error"},
            "pepper": PEPPER,
        }


async def settle_in(shelf: SqliteShelf) -> Person:
    """One user with plenty of money."""
    store = shelf.make_store()
    await store.open()
    office = AccountOffice(store, pepper=PEPPER.encode(), random_bytes=os.urandom, wall=time.time)
    await office.open_account("ann")
    secret = (await office.issue_key("ann")).secret
    await office.credit("ann", PLENTY_NUSD, wallet="legacy", kind="purchase")
    await store.close()
    return Person(username="ann", secret=secret, weight=1)


async def run(wanted: Wanted, folder: Path) -> tuple[Bench, list[Measured], Verdict]:
    async with Bench(folder, wanted) as bench:
        measured = await bench.measure()
        verdict = await bench.account()
    for one in measured:
        margin = wanted.margin if one.rate == max(RATES) else 0.0  # below that, failures are too rare to meet by chance
        if one.success < LEAST[one.rate] - margin:
            bench.offences.append(f"{one.rate} % failing: only {one.success:.4%} of requests succeed")
    return bench, measured, verdict


def report(measured: list[Measured], verdict: Verdict, codes: Counter[str]) -> str:
    still = measured[0]
    lines = ["failing  requests  succeeded      tries    p50 ms (added)    p99 ms (added)"]
    lines += [
        f"{one.rate:5} %  {one.requests:8,}  {one.success:9.4%}  {one.tries:9,}"
        f"  {one.p50_ms:7.1f} {one.p50_ms - still.p50_ms:+7.1f}  {one.p99_ms:8.1f} {one.p99_ms - still.p99_ms:+8.1f}"
        for one in measured
    ]
    lines.append(
        f"requests {verdict.requests:,} · rows {verdict.rows:,} · lost {len(verdict.lost)} · "
        f"doubled {len(verdict.doubled)} · drift {verdict.drift_nusd} nusd · refused {dict(codes)}"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.flaky", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000, help="at each rate")
    parser.add_argument("--seed", default=os.environ.get("FAULTS_SEED") or str(Random().randrange(10**6)))
    wanted = msgspec.convert(vars(parser.parse_args()), Wanted)
    sys.stdout.write(f"seed {wanted.seed}\n")
    with tempfile.TemporaryDirectory(prefix="trollproxy-flaky-") as folder:
        bench, measured, verdict = uvloop.run(run(wanted, Path(folder)))
    sys.stdout.write(f"{report(measured, verdict, bench.codes())}\n{tell_offences(bench.offences)}\n")
    return 1 if bench.offences else 0


if __name__ == "__main__":
    sys.exit(main())
