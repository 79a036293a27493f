"""One run of the fault tests: provider, people, gateway and books, through as many lives of the gateway as wanted.

A life is a gateway under load until something ends it. `check` is the accounting after any number of lives.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Self, TypeVar

from tests.faults.invariants import Evidence, Verdict, judge
from tests.faults.load import Crowd
from tests.faults.people import PEPPER, People
from tests.faults.plans import Planner, models
from tests.faults.provider import Provider
from tests.faults.serving import Serving
from tests.faults.shelf import Row, Shelf
from trollproxy.control.audit import audit
from trollproxy.ports import Store

T = TypeVar("T")
CROWD = 12
# The driver's background thread logs one of its own when mongod is gone; that is the fault we made, and no bug.
OUR_TRACEBACK = re.compile(r"^(?!\S+ [A-Z]+ pymongo\.).*Traceback.*", re.MULTILINE)
LIFE_S = 60.0  # a life that nothing ends is a mistake of the test


class Lab:
    """Everything of one run; `async with` ends every process and connection of it."""

    provider: Provider
    serving: Serving
    crowd: Crowd
    planner: Planner

    def __init__(self, folder: Path, shelf: Shelf, *, seed: str) -> None:
        self.shelf = shelf
        self.rng = Random(seed)
        self.offences: list[str] = []
        self.verdict: Verdict | None = None
        self.served_without_store = 0
        self._folder = folder
        self._seed = seed
        self._people = People()
        self._log_read = 0

    async def __aenter__(self) -> Self:
        await self._with_store(self._people.settle_in)
        self.planner = Planner(self._people.all, Random(f"{self._seed}/plans"))
        self.crowd = Crowd(self.planner, size=CROWD)
        self.provider = Provider(self.planner.plans)
        await self.provider.__aenter__()
        self.serving = Serving(self._folder, self._config())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.serving.end()
        await self.provider.__aexit__(*error)

    @property
    def answered(self) -> int:
        return sum(outcome == "complete" for outcome in self.crowd.outcomes.values())

    async def live(self, *, crash_at: str = "", kill_after_s: float | None = None) -> int:
        """A life under load until the gateway has ended; its exit code. `kill_after_s` counts from when it listens."""
        await self.serving.spawn(crash_at=crash_at)
        if await self.serving.wait_ready():
            cancel = self._kill_after(kill_after_s)
            await self._load()
            cancel()
        return await self.end_life()

    async def die_at_start(self, kill_after_s: float) -> int:
        """A life that is killed so long after it was spawned, which may be before it listens."""
        await self.serving.spawn()
        cancel = self._kill_after(kill_after_s)
        if await self.serving.wait_ready():
            await self._load()
        cancel()
        return await self.end_life()

    async def die_busy(self) -> None:
        """A life that is killed while the provider is answering: it leaves intents without charges."""
        await self.serving.start()
        crowd = asyncio.create_task(self.crowd.run(self.serving.port))
        async with asyncio.timeout(10):
            while self.provider.busy < CROWD // 2:
                await asyncio.sleep(0)
        self.serving.kill()
        await crowd
        await self.end_life()

    async def check(self) -> Verdict:
        """Start once more, let the books come to rest, end cleanly, and judge them."""
        await self.serving.start()
        await self.rest()
        return await self.account()

    async def rest(self) -> None:
        """No request runs: nothing may be held and nothing set aside."""
        metrics = await self.serving.wait_quiet()
        for name in ("trollproxy_held_usd", "trollproxy_charges_set_aside", "trollproxy_journal_quarantined"):
            if metrics[name]:
                self.offences.append(f"{name} is {metrics[name]} at rest")
        await self.serving.drain()

    async def account(self) -> Verdict:
        """Judge the books of a gateway that has ended."""
        await self.provider.wait_idle()
        verdict = self.verdict = judge(
            Evidence(
                plans=self.planner.plans,
                outcomes=self.crowd.outcomes,
                seen=self.provider.seen,
                page=self.shelf.read(),
                credited=self._people.credited,
                friend_cap_nusd=self._people.cap_nusd,
            )
        )
        self.offences += verdict.offences
        self._read_log()
        await self._with_store(self._audit)
        return verdict

    async def _load(self) -> None:
        async with asyncio.timeout(LIFE_S):
            await self.crowd.run(self.serving.port)

    def _kill_after(self, delay_s: float | None) -> Callable[[], object]:
        if delay_s is None:
            return lambda: None
        return asyncio.get_running_loop().call_later(delay_s, self.serving.kill).cancel

    async def end_life(self) -> int:
        return await self.serving.wait_ended()

    def _read_log(self) -> None:
        """Our own bugs show as tracebacks."""
        fresh = self.serving.log[self._log_read :]
        self._log_read += len(fresh)
        self.offences += [f"the log has a traceback: {found[0][:2000]}" for found in OUR_TRACEBACK.finditer(fresh)]

    def _config(self) -> Row:
        upstream = {"baseUrl": f"http://127.0.0.1:{self.provider.port}", "formats": ["openai", "anthropic"]}
        return {
            "demo": False,
            "models": models(),
            "upstreams": {"scripted": {**upstream, "apiKey": "the-scripted-key"}},
            "limits": {"devRpm": 1_000_000, "proRpm": 1_000_000},
            "billing": {"flushInterval": "50ms"},
            "log": {"level": "warning"},
            "pepper": PEPPER,
            **self.shelf.settings(),
        }

    async def _with_store(self, act: Callable[[Store], Awaitable[T]]) -> T:
        store = self.shelf.make_store()
        await store.open()
        try:
            return await act(store)
        finally:
            await store.close()

    async def _audit(self, store: Store) -> None:
        """The gateway's own audit must come to the same; then there is pocket money for the lives to come."""
        self.offences += [f"audit: {difference}" for difference in (await audit(store)).differences]
        await self._people.top_up(store)
