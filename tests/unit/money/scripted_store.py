"""A store that is scripted call by call, and a writer upon it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.fakes import FakeStore
from trollproxy.errors import InvalidRequest, StoreUnavailable
from trollproxy.money.accounts import Accounts
from trollproxy.money.writer import Writer
from trollproxy.records import Batch

NEVER_S = 3_600.0


class ScriptedStore(FakeStore):
    """Refuses by the script; `written` wakes whoever waits for the next call to end."""

    def __init__(self, *script: Exception | None) -> None:
        super().__init__()
        self.script = deque(script)
        self.poison: set[str] = set()
        self.is_down = False
        self.tried: list[Batch] = []
        self.ended = asyncio.Semaphore(0)
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()

    async def write_batch(self, batch: Batch) -> None:
        self.tried.append(batch)
        self.entered.set()
        await self.gate.wait()
        try:
            await self._decide(batch)
        finally:
            self.ended.release()

    async def _decide(self, batch: Batch) -> None:
        if self.is_down:
            raise StoreUnavailable("down")
        error = self.script.popleft() if self.script else None
        if error is not None:
            raise error
        if any(charge.request_id in self.poison for charge in batch.charges):
            raise InvalidRequest("No.", code="ledger_conflict")
        await super().write_batch(batch)

    async def calls_end(self, count: int) -> None:
        for _ in range(count):
            await self.ended.acquire()


def seqs(batches: list[Batch]) -> list[list[int]]:
    return [[charge.seq for charge in batch.charges] for batch in batches]


def make_writer(store: FakeStore, accounts: Accounts | None = None, *, interval_s: float = 0.0) -> Writer:
    return Writer(store, accounts or Accounts(), writer_id="w1", interval_s=interval_s, jitter=lambda: 0.0)


@asynccontextmanager
async def running(writer: Writer) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
