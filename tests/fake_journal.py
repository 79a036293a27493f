"""The journal in memory, as the recorder and the writer use it. A test says what its disk takes and what it syncs."""

import asyncio
from typing import Literal

from trollproxy.money.entries import Entry, decode
from trollproxy.money.journal import Journal, JournalUnavailable
from trollproxy.money.segments import MAX_PAYLOAD_BYTES

Refusing = Literal["nothing", "unreserved", "everything", "writes"]


class MemoryJournal(Journal):
    """A list of records. `refusing` is what the disk turns away; a disk that is not `is_syncing` waits for `sync`."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.last = self.durable = self.acknowledged = 0
        self.unacknowledged_bytes = 0
        self.quarantined = 0
        self.is_open = True
        self.is_broken = False
        self.refusing: Refusing = "nothing"
        self.is_syncing = True
        self._added: list[bytes] = []
        self._id = b"w1"
        self._synced = asyncio.Condition()

    @property
    def bytes_on_disk(self) -> int:
        return sum(len(payload) for _, payload in self.records)

    @property
    def entries(self) -> list[Entry]:
        return [decode(payload) for _, payload in self.records]

    def add(self, payload: bytes, *, is_reserved: bool = False) -> int:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError("too long")
        if self.refusing == "everything" or (self.refusing == "unreserved" and not is_reserved):
            raise JournalUnavailable("The disk takes nothing.", retry_after_s=1.0)
        self._added.append(payload)
        return self.last + len(self._added)

    def put_down(self) -> None:
        added, self._added = self._added, []
        if self.refusing == "writes":
            raise JournalUnavailable("The disk takes nothing.", retry_after_s=1.0)
        for payload in added:
            self.last += 1
            self.records.append((self.last, payload))
            self.unacknowledged_bytes += len(payload)
        if self.is_syncing:
            self.durable = self.last

    def read(self, after: int, *, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for number, payload in self.records:
            if number <= after:
                continue
            max_bytes -= len(payload)
            if len(found) == max_records or (found and max_bytes < 0):
                break
            found.append((number, payload))
        return found

    def acknowledge(self, number: int) -> None:
        assert number <= self.last
        self.acknowledged = max(self.acknowledged, number)
        self.unacknowledged_bytes = sum(len(payload) for n, payload in self.records if n > self.acknowledged)

    async def wait_durable(self, number: int) -> None:
        assert number <= self.last
        async with self._synced:
            await self._synced.wait_for(lambda: self.durable >= number)

    async def sync_now(self) -> None:
        """Make everything durable, and wake those who wait for it."""
        async with self._synced:
            self.durable = self.last
            self._synced.notify_all()

    def reopened(self) -> "MemoryJournal":
        """What the next process finds: the records, and up to where they were acknowledged."""
        other = MemoryJournal()
        other.records = list(self.records)
        other.last = other.durable = self.last
        other.acknowledge(self.acknowledged)
        return other
