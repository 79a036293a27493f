"""The in-process write batcher: carries charges from the journal to the store, on a timer.

The journal is the queue, so an outage costs disk and no memory; what is new in it is at hand in the recorder's memory
and need not be read. It is acknowledged only after the store has a batch; a store that fails is tried again until it
answers. Repeating is safe, since the store ignores what it has. Balances may
be re-read only inside `quiet()`, when no flush can move them. An intent's price is in the store before its charge.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import msgspec

from trollproxy.errors import GatewayError, StoreUnavailable
from trollproxy.money.boundaries import Boundary, pass_by
from trollproxy.money.entries import Entry, Settled, decode
from trollproxy.money.handover import MAX_CHARGES
from trollproxy.money.invariants import Violations
from trollproxy.money.journal import Journal
from trollproxy.money.prices import PriceShelf
from trollproxy.money.recorder import Recorder
from trollproxy.ports import Store
from trollproxy.records import Batch, Charge, Intent, Price

log = logging.getLogger(__name__)

MAX_RECORDS = 1500  # about 500 charges: one flush stays well inside the store's 5 s, and the loop is held for 2 ms
MAX_BYTES = 1024 * 1024
FLUSH_EARLY = MAX_CHARGES // 2  # waiting: not to have to read back what memory no longer holds
MAX_LAST_USED = 100_000  # key ids waiting for their last-used time; losing one costs a date, never money
SYNC_PATIENCE_S = 1.0  # a hundred times what a sync takes
LAST_USED_EVERY_S = 10.0
_RETRY_MIN_S, _RETRY_MAX_S = 0.1, 5.0


class Books(Protocol):
    """Who must know which charges have reached the store."""

    def inherit(self, charge: Charge) -> None: ...

    def charges_flushed(self, charges: Sequence[Charge]) -> None: ...


class WriterPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the writer paces itself. An interval of 0 switches batching off: every charge is written at once."""

    interval_s: float
    jitter: Callable[[], float]
    at: Boundary = pass_by


class Writer:
    """The one flusher of a journal."""

    def __init__(
        self, store: Store, books: Books, recorder: Recorder, *, journal: Journal, policy: WriterPolicy
    ) -> None:
        self._store = store
        self.violations = Violations()
        self._prices = PriceShelf(store, self.violations)
        self._books = books
        self._recorder = recorder
        self._journal = journal
        self._policy = policy
        self._read_to = journal.acknowledged
        self._began_at = journal.last  # what is read up to here was recorded by an earlier run
        self._last_used: dict[str, float] = {}
        self._written_used: dict[str, float] = {}  # the dates that were taken last; MAX_LAST_USED at the most
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._is_closing = False
        self._queued = 0  # charges of this run that were put down and are not in the store
        self.failures = 0
        self.last_on_ledger = 0  # the highest number that the store has confirmed to this process
        self._set_aside: set[str] = set()  # a few in the life of a process: each is a bug or damage
        recorder.when_recorded = self._count
        recorder.when_intended = self._prices.take_of

    @property
    def journal_id(self) -> str:
        """Under which name this writer's numbers are in the store."""
        return self._journal.id

    @property
    def queued(self) -> int:
        """Charges of this run that wait for the store."""
        return self._queued + self._recorder.added

    @property
    def set_aside(self) -> int:
        """Charges that the store refused for good."""
        return len(self._set_aside)

    def replay_after(self, seq: int) -> None:
        """The store has nothing beyond this number: if it was set back, what it lost is written again.

        It may have been set back into the midst of a batch, which is in its ledger and not in its balances: the last
        batch is written again in any case.
        """
        self._read_to = max(0, min(self._read_to, seq - MAX_RECORDS))

    async def catch_up(self, deadline_s: float) -> None:
        """Put on the books what earlier runs left; what the store does not take by the deadline is owed meanwhile."""
        await self.flush(deadline_s)
        position = self._read_to
        while found := self._journal.read(position, max_records=MAX_RECORDS, max_bytes=MAX_BYTES):
            position = found[-1][0]
            for charge in _charges(_entries(found)):
                self._books.inherit(charge)

    def keep_prices(self, prices: Iterable[Price | None]) -> None:
        """See to it that these can be looked up in the store; at once, and with the next flush where that fails."""
        self._prices.take(prices)
        if self._prices.is_waiting:
            self._wake.set()

    def used(self, key_id: str, now_s: float) -> None:
        """People read the date: it is written down once in a while, not with each flush of a busy key."""
        is_due = now_s >= self._written_used.get(key_id, -math.inf) + LAST_USED_EVERY_S
        if not is_due or len(self._last_used) >= MAX_LAST_USED:
            return
        if len(self._written_used) >= MAX_LAST_USED:
            self._written_used.clear()
        self._last_used[key_id] = self._written_used[key_id] = now_s

    async def run(self) -> None:
        """Flush on the timer until closed; what an earlier run left, at once."""
        if self._read_to < self._began_at:
            self._wake.set()
        while not self._is_closing:
            await self._wait()
            await self._flush_all()

    async def flush(self, deadline_s: float) -> None:
        """Put what is waiting on the books now, as far as the store takes it by the deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._flush_all()

    async def close(self, deadline_s: float) -> None:
        """Flush what is left. What the store does not take by the deadline stays in the journal for the next start."""
        self._is_closing = True
        self._wake.set()
        await self.flush(deadline_s)
        if self.queued:
            log.warning("charges stay in the journal", extra={"fields": {"charges": self.queued}})

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """No flush runs inside: what is read of balances now is exactly what the charges still queued will change."""
        async with self._lock:
            yield

    def _count(self) -> None:
        self._queued += 1
        if not self._policy.interval_s or len(self._recorder.fresh) >= FLUSH_EARLY:
            self._wake.set()

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._policy.interval_s or None):
                await self._wake.wait()
        self._wake.clear()

    async def _flush_all(self) -> None:
        """Flush what waits now. What comes meanwhile waits for the next time, lest batches be small under load."""
        self._recorder.flush()
        until = self._journal.last
        is_due = self._read_to < until or bool(self._last_used) or self._prices.is_waiting
        pause_s = _RETRY_MIN_S
        while is_due:
            try:
                await self._flush_once()
                pause_s = _RETRY_MIN_S
                is_due = self._read_to < until
            except StoreUnavailable as error:
                self.failures += 1
                log.warning("flush failed", extra={"fields": {"queued": self.queued, "reason": error.message}})
                await asyncio.sleep(pause_s * (0.5 + self._policy.jitter()))
                pause_s = min(pause_s * 2, _RETRY_MAX_S)

    async def _flush_once(self) -> None:
        async with self._lock:
            last = self._journal.last
            await self._wait_for_disk(last)
            charges, read_to = self._next(last)
            self._policy.at("before_flush")
            await self._prices.write()
            await self._write_with_dates(charges)
            self._policy.at("after_flush")
            self._queued -= sum([charge.seq > self._began_at for charge in charges])
            self._books.charges_flushed(charges)
            self._advance(read_to)

    def _next(self, last: int) -> tuple[tuple[Charge, ...], int]:
        """The next charges, none behind `last`, and up to which number they are all."""
        read_to = min(last, self._read_to + MAX_RECORDS)
        charges = self._recorder.fresh.take(self._read_to, read_to)
        if charges is not None:
            return charges, read_to
        found = self._journal.read(self._read_to, max_records=MAX_RECORDS, max_bytes=MAX_BYTES)
        found = [record for record in found if record[0] <= last]
        if not found and self._read_to < last:
            log.critical("records cannot be read", extra={"fields": {"after": self._read_to, "last": last}})
        entries = _entries(found)
        self._prices.take(_prices(entries))
        return _charges(entries), found[-1][0] if found else last

    async def _wait_for_disk(self, number: int) -> None:
        """The store should not know what a power cut could still take from the journal: numbers would be given twice.

        A disk that does not sync is no reason to keep charges from a store that would.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_PATIENCE_S):
                await self._journal.wait_durable(number)

    def _advance(self, read_to: int) -> None:
        self._read_to = read_to
        self._recorder.fresh.drop(read_to)
        self._journal.acknowledge(self._recorder.done_before(read_to))
        self._policy.at("after_acknowledge")

    async def _write_with_dates(self, charges: tuple[Charge, ...]) -> None:
        last_used, self._last_used = self._last_used, {}
        try:
            if charges or last_used:
                await self._write(charges, last_used)
        except (StoreUnavailable, asyncio.CancelledError):  # cancelled: it may have arrived, and repeating is harmless
            self._last_used = last_used | self._last_used
            raise

    async def _write(self, charges: tuple[Charge, ...], last_used: dict[str, float]) -> None:
        """One batch; where the store refuses it for good, its charges one by one, so that one cannot block the rest."""
        try:
            await self._write_batch(charges, last_used)
        except StoreUnavailable:
            raise
        except GatewayError:
            log.exception("a batch was refused; writing its charges singly")
            for charge in charges:
                await self._write_single(charge)

    async def _write_single(self, charge: Charge) -> None:
        try:
            await self._write_batch((charge,), {})
        except StoreUnavailable:
            raise
        except GatewayError as error:
            if charge.request_id in self._set_aside:
                return
            self._set_aside.add(charge.request_id)
            if error.code == "ledger_conflict":
                self.violations.add("ledger_conflict", request_id=charge.request_id)
            fields = {"reason": error.code, **msgspec.to_builtins(charge)}
            log.critical("a charge was refused by the store", extra={"fields": fields})

    async def _write_batch(self, charges: tuple[Charge, ...], last_used: dict[str, float]) -> None:
        await self._store.write_batch(Batch(writer=self._journal.id, charges=charges, last_used=last_used))
        posted = (
            charge.seq for charge in reversed(charges) if charge.username
        )  # nobody pays for the environment's key
        self.last_on_ledger = max(self.last_on_ledger, next(posted, 0))


def _entries(found: list[tuple[int, bytes]]) -> list[Entry]:
    return [decode(data) for _, data in found]


def _charges(entries: list[Entry]) -> tuple[Charge, ...]:
    return tuple(entry.charge for entry in entries if isinstance(entry, Settled))


def _prices(entries: list[Entry]) -> Iterable[Price | None]:
    return (price for e in entries if isinstance(e, Intent) for price in (e.price, e.upstream_price))
