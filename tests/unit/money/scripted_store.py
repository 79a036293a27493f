"""A store that is scripted call by call, and a recorder and a writer upon it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.fake_journal import MemoryJournal
from tests.fakes import FakeStore, make_charge, make_intent
from trollproxy.errors import InvalidRequest, StoreUnavailable
from trollproxy.money.accounts import Accounts
from trollproxy.money.boundaries import Boundary, pass_by
from trollproxy.money.recorder import Recorder
from trollproxy.money.writer import Writer, WriterPolicy
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


class Bench:
    """A journal in memory with its recorder and its writer."""

    def __init__(
        self, store: FakeStore, *, interval_s: float = 0.0, journal: MemoryJournal | None = None, at: Boundary = pass_by
    ) -> None:
        self.store = store
        self.accounts = Accounts()
        self.journal = journal or MemoryJournal()
        self.recorder = Recorder(self.journal, at=at)
        policy = WriterPolicy(interval_s=interval_s, jitter=lambda: 0.0, at=at)
        self.writer = Writer(store, self.accounts, self.recorder, journal=self.journal, policy=policy)

    def record(self, *numbers: int) -> None:
        for number in numbers:
            self.recorder.record(make_charge(number))

    def intend(self, *numbers: int) -> None:
        for number in numbers:
            self.recorder.intend(make_intent(number))


async def turns(count: int = 20) -> None:
    """Let everything happen that needs nothing from outside."""
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(writer: Writer) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
