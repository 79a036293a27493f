"""The in-process write batcher: takes charges synchronously, puts them on the books on a timer.

A charge leaves the queue only after the store has it; a store that fails is tried again until it answers. Repeating is
safe, since the store ignores what it has. While the queue is full new paid requests are refused, so nothing is ever
dropped. Balances may be re-read only inside `quiet()`, when no flush can move them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Protocol

import msgspec

from trollproxy.errors import GatewayError, Overloaded, StoreUnavailable
from trollproxy.ports import Store
from trollproxy.records import Batch, Charge, Wallet

log = logging.getLogger(__name__)

MAX_BATCH = 500  # one flush stays well inside the store's 5 s deadline, and inside SQLite's and MongoDB's batch limits
MAX_QUEUED = 100_000  # about 100 MB of charges: minutes of a store outage at full load, then new requests wait outside
MAX_LAST_USED = 100_000  # key ids waiting for their last-used time; losing one costs a date, never money
_RETRY_MIN_S, _RETRY_MAX_S = 0.1, 5.0


class Books(Protocol):
    """Who must know that a charge has reached the store."""

    def charge_flushed(self, username: str, wallet: Wallet, cost_nusd: int) -> None: ...


class Writer:
    """The one flusher of this process; `writer_id` with a growing `seq` makes its writes idempotent."""

    def __init__(
        self,
        store: Store,
        books: Books,
        *,
        writer_id: str,
        interval_s: float,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._books = books
        self._writer_id = writer_id
        self._seq = 0
        self._interval_s = interval_s  # 0 switches batching off: every charge wakes the flusher
        self._jitter = jitter
        self._queue: deque[Charge] = deque()
        self._last_used: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._is_closing = False
        self.failures = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    def oldest_age_s(self, now_s: float) -> float:
        """How far the store is behind, by the start of the oldest charge that waits."""
        return max(0.0, now_s - self._queue[0].started_at_s) if self._queue else 0.0

    def continue_after(self, seq: int) -> None:
        """Number charges from here on: above all that an earlier run has on the books."""
        self._seq = seq

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def admit(self) -> None:
        if len(self._queue) >= MAX_QUEUED:
            raise Overloaded("The gateway cannot write its books at the moment. Try again in a minute.")

    def record(self, charge: Charge) -> None:
        self._queue.append(charge)
        if not self._interval_s or len(self._queue) >= MAX_BATCH:
            self._wake.set()

    def used(self, key_id: str, now_s: float) -> None:
        if len(self._last_used) < MAX_LAST_USED:
            self._last_used[key_id] = now_s

    async def run(self) -> None:
        """Flush on the timer until closed; then until nothing is left."""
        while not self._is_closing:
            await self._wait()
            await self._flush_all()

    async def flush(self, deadline_s: float) -> None:
        """Put what is waiting on the books now, as far as the store takes it by the deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._flush_all()

    async def close(self, deadline_s: float) -> None:
        """Flush what is left. What the store will not take by the deadline is logged in full, one line a charge."""
        self._is_closing = True
        self._wake.set()
        await self.flush(deadline_s)
        for charge in self._queue:
            log.critical("charge not stored", extra={"fields": msgspec.to_builtins(charge)})

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """No flush runs inside: what is read of balances now is exactly what the charges still queued will change."""
        async with self._lock:
            yield

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._interval_s or None):
                await self._wake.wait()
        except TimeoutError:
            pass  # the timer's turn
        self._wake.clear()

    async def _flush_all(self) -> None:
        pause_s = _RETRY_MIN_S
        while self._queue or self._last_used:
            try:
                await self._flush_once()
                pause_s = _RETRY_MIN_S
            except StoreUnavailable as error:
                self.failures += 1
                log.warning("flush failed", extra={"fields": {"queued": len(self._queue), "reason": error.message}})
                await asyncio.sleep(pause_s * (0.5 + self._jitter()))
                pause_s = min(pause_s * 2, _RETRY_MAX_S)

    async def _flush_once(self) -> None:
        async with self._lock:
            charges = tuple(islice(self._queue, MAX_BATCH))
            last_used, self._last_used = self._last_used, {}
            try:
                await self._write(charges, last_used)
            except StoreUnavailable:
                self._last_used = last_used | self._last_used
                raise
            for charge in charges:
                self._queue.popleft()
                self._books.charge_flushed(charge.username, charge.wallet, charge.cost_nusd)

    async def _write(self, charges: tuple[Charge, ...], last_used: dict[str, float]) -> None:
        """One batch; where the store refuses it for good, its charges one by one, so that one cannot block the rest."""
        try:
            await self._store.write_batch(Batch(writer=self._writer_id, charges=charges, last_used=last_used))
        except StoreUnavailable:
            raise
        except GatewayError:
            log.exception("a batch was refused; writing its charges singly")
            for charge in charges:
                await self._write_single(charge)

    async def _write_single(self, charge: Charge) -> None:
        try:
            await self._store.write_batch(Batch(writer=self._writer_id, charges=(charge,)))
        except StoreUnavailable:
            raise
        except GatewayError as error:
            fields = {"reason": error.code, **msgspec.to_builtins(charge)}
            log.critical("a charge was refused by the store", extra={"fields": fields})
