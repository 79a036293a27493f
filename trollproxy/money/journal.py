"""The journal: what must not be forgotten, on local disk before anyone is told of it.

Owns the segments' records and their numbers, which grow by one. What was added and put down, many by one write,
survives the process (page cache); what is `durable` survives the machine. What `add` or `put_down` refused is never
read, and its number is given again. It does not know what the records say, nor who reads them; that one process has the
directory is the data directory's lock. All methods belong to the event loop's thread; only waiting for the disk leaves
it.
"""

import asyncio
import logging
import math
import os
import time
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

from trollproxy.errors import Overloaded
from trollproxy.money.disk import Acknowledged, Disk, Folder, Recovered, read_all, recover, write_all
from trollproxy.money.segments import MAX_PAYLOAD_BYTES, Header, Segment, frame, scan, seed_of, take

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20  # removed as a whole: small against the hard limit, and read in a fifth of a second at a start
MAX_BYTES = 2 << 30  # not yet in the store: 3.5 million charges, hours of a store outage at full load
RESERVE_BYTES = 64 << 20  # beyond every limit, for the charges of 100,000 requests that were admitted before it
MAX_UNSYNCED_BYTES = 64 << 20  # also kept in memory; at 5 ms a sync this is only reached where the disk hangs
MIN_FREE = 0.1  # of the disk; the operator's database and logs need the rest
KEEP_S = 72 * 3600.0  # a store restored from an old backup, noticed after a weekend, can be charged again
SYNC_INTERVAL_S = 0.005  # what a power cut may take from us, and how many appends share a sync
RETRY_S = 0.05  # a full disk is asked again 20 times a second, not by every request
MAX_SYNC_PAUSE_S = 1.0  # between attempts on a disk that fails
_CHECK_S = 1.0  # free space and the file `acknowledged` may be known a second late
_MAX_REMOVED = 4  # segments removed at once for want of space: unlinking one holds the loop up for milliseconds
_CHUNK_BYTES = MAX_PAYLOAD_BYTES + 64  # a chunk holds the longest record

_first = attrgetter("first")


class JournalUnavailable(Overloaded):
    """The record was not written, and will not be found later."""


class _Appending:
    """A segment open for writing. `synced_size` is how much of it is known to be on disk."""

    __slots__ = ("file", "is_new", "is_torn", "segment", "synced_size")

    def __init__(self, segment: Segment, file: int, *, is_new: bool) -> None:
        self.segment = segment
        self.file = file
        self.is_new = is_new  # its name is not on disk yet
        self.is_torn = False  # there may be records, whole and in part, behind its end
        self.synced_size = segment.size


class _Sync:
    """One round of syncing: what it covers, as it was when the round began, and how it ended."""

    __slots__ = ("acknowledged", "error", "last", "parts")

    def __init__(self, last: int, parts: list[tuple[_Appending, int]], acknowledged: int | None) -> None:
        self.last = last
        self.parts = parts
        self.acknowledged = acknowledged
        self.error: OSError | None = None


class _Reader:
    """Reads one segment onwards; keeps what it has read ahead, so that the next call need not ask the system."""

    def __init__(self, folder: Folder, segment: Segment, *, after: int, seed: int) -> None:
        self.segment = segment
        self.after = after
        self._folder = folder
        self._disk = folder.disk
        self._seed = seed
        self._file = self._disk.open(folder.segment(segment.first), os.O_RDONLY)
        self._offset = segment.locate(after + 1)
        self._chunk = b""
        self._start = 0

    def close(self) -> None:
        self._folder.release(self._file)

    def read(self, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Nothing: the segment's end, as far as it is written."""
        while True:
            found, self._start = take(
                self._chunk, self._start, seed=self._seed, max_records=max_records, max_bytes=max_bytes
            )
            if found and not self.after < found[0][0] <= found[-1][0] <= self.segment.last:
                found = [record for record in found if self.after < record[0] <= self.segment.last]
            elif not found and not self._fill():
                return []
            if found:
                self.after = found[-1][0]
                return found

    def _fill(self) -> bool:
        """Read on from where the last record ended, and say whether there is anything."""
        unread = len(self._chunk) - self._start
        self._offset, self._start = self._offset + self._start, 0
        size = min(self.segment.size - self._offset, _CHUNK_BYTES)
        self._chunk = self._disk.read(self._file, size, self._offset) if size > 0 else b""
        return len(self._chunk) > unread or (size > 0 and self._skip())

    def _skip(self) -> bool:
        """Step over damage that came after the start; the next start puts the segment into quarantine."""
        data = read_all(self._disk, self._file, self.segment.size)
        found = next(scan(data, seed=self._seed, first=self.after + 1, start=self._offset), None)
        fields = {"segment": self.segment.first, "after": self.after, "next": found and found.number}
        log.critical("the journal is damaged; records were skipped", extra={"fields": fields})
        self._offset, self._chunk = (found.start if found else self.segment.size), b""
        return found is not None


class Journal:
    """Append, read, acknowledge; `sync_forever` runs beside them. The attributes are for reading only."""

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.last = 0  # the highest number of a record that was put down
        self.durable = 0  # up to here the records are known to be on disk
        self.acknowledged = 0  # up to here the store has them
        self.unacknowledged_bytes = 0
        self.quarantined = 0  # segments found damaged at the start
        self.is_open = False
        self.is_broken = False  # the disk failed to sync twice in a row, and has not succeeded since
        self._folder = Folder(directory, disk or Disk())
        self._disk = self._folder.disk
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._clock = clock
        self._random_bytes = random_bytes
        self._id = b""
        self._seed = 0
        self._segments: list[Segment] = []
        self._active: _Appending | None = None
        self._sealed: list[_Appending] = []  # full, and not yet known to be on disk
        self._added: list[bytes] = []  # records to be put down together: those of one turn of the loop
        self._added_bytes = 0
        self._unsynced: list[bytes] = []  # the records behind `durable`: a failed fsync may have lost them in the cache
        self._unsynced_bytes = 0
        self._is_suspect = False  # a sync failed, and what it covered has not been written again
        self._is_rewritten = False  # it has, and not been synced
        self._round: tuple[_Sync, Future[None]] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._wake: asyncio.Future[None] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._reader: _Reader | None = None
        self._retry_at = 0.0
        self._look_at = 0.0
        self._is_low = False
        self._written_acknowledged = 0
        self._write_acknowledged_at = 0.0

    @property
    def id(self) -> str:
        return self._id.hex()

    @property
    def next(self) -> int:
        """The number that the next record gets."""
        return self.last + len(self._added) + 1

    @property
    def first(self) -> int:
        """The number from which on records may be read."""
        return self._segments[0].first if self._segments else self.last + 1

    @property
    def bytes_on_disk(self) -> int:
        return sum(segment.size for segment in self._segments)

    # Opening and closing

    def open(self) -> None:
        """Recover what is there. OSError if the disk cannot be read and written now."""
        try:
            self._folder.open()
            self._load(recover(self._folder, self._random_bytes))
        except OSError:
            self._folder.close()
            raise
        self._executor = ThreadPoolExecutor(1, "journal")
        self.is_open = True

    def _load(self, found: Recovered) -> None:
        self._id, self._seed = found.journal_id, seed_of(found.journal_id)
        self._segments, self.quarantined = found.segments, found.quarantined
        self.acknowledged = self._written_acknowledged = found.acknowledged
        self.last = max(found.acknowledged, self._segments[-1].last if self._segments else 0)
        self.durable = self.last
        self._count_unacknowledged()
        if self._segments and self._segments[-1].size < self._segment_bytes:
            file = self._disk.open(self._folder.segment(self._segments[-1].first), os.O_RDWR | os.O_APPEND)
            self._active = _Appending(self._segments[-1], file, is_new=False)

    def close(self) -> None:
        """Sync once more and let go; `sync_forever` must have ended."""
        if not self.is_open:
            return
        with suppress(JournalUnavailable, OSError):  # what was added is not lost, what was refused is not left
            self.put_down()
            if self._active is not None and self._active.is_torn:
                self._mend(self._active)
        self.is_open = False
        if not self.sync():
            log.critical("the journal was closed with records that are not on disk", extra={"fields": self._fields()})
        if self._executor is not None:
            self._executor.shutdown()
        if self.acknowledged > self._written_acknowledged:
            self._write_acknowledged(self.acknowledged)
        for _, waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(_unavailable("The gateway's books are closed."))
        self._waiting.clear()
        for part in self._writable():
            self._folder.release(part.file)
        self._sealed, self._active = [], None
        self._close_reader()
        self._folder.close()

    # Appending

    def add(self, payload: bytes, *, is_reserved: bool = False) -> int:
        """Take a record that the next `put_down` writes, and return its number. `is_reserved`: it belongs to what was
        admitted before, and may pass the limits by RESERVE_BYTES. JournalUnavailable: it was not taken.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"A record of {len(payload)} bytes; {MAX_PAYLOAD_BYTES} is the most.")
        self._admit(len(payload), is_reserved=is_reserved)
        number = self.next
        record = frame(number, payload, self._seed)
        self._added.append(record)
        self._added_bytes += len(record)
        return number

    def put_down(self) -> None:
        """Write what was added. JournalUnavailable: none of it was written, and its numbers are given again."""
        if not self._added:
            return
        added, size = self._added, self._added_bytes
        self._added, self._added_bytes = [], 0
        segment = self._put(self.last + 1, b"".join(added)).segment
        for number, record in enumerate(added, self.last + 1):
            segment.add(number, len(record))
        self.last += len(added)
        self.unacknowledged_bytes += size
        self._unsynced += added
        self._unsynced_bytes += size
        if self._wake is not None:
            self._wake_up(self._wake)

    def _admit(self, size: int, *, is_reserved: bool) -> None:
        reserve = RESERVE_BYTES if is_reserved else 0
        size += self._added_bytes
        if self.unacknowledged_bytes + size > self._max_bytes + reserve:
            raise _unavailable("The gateway's books are full: the store has not taken charges for too long.")
        if self._unsynced_bytes + size > MAX_UNSYNCED_BYTES + reserve:
            raise _unavailable("The gateway's disk is too slow to keep its books.")
        if self.is_broken or not self.is_open:
            raise _unavailable("The gateway's books cannot be written.")
        if not is_reserved:
            self._admit_new(self._clock())

    def _admit_new(self, now_s: float) -> None:
        if now_s >= self._look_at:
            self._look_at = now_s + _CHECK_S
            self._make_room()
        if self._is_low:
            raise _unavailable("The gateway's disk is nearly full.")
        if now_s < self._retry_at:
            raise _unavailable("The gateway's books cannot be written.")

    def _put(self, first: int, records: bytes) -> _Appending:
        """Write to the current segment; where that fails, to a new one."""
        try:
            part = self._active
            if part is None or part.segment.size + len(records) > self._segment_bytes:
                part = self._begin(first)
            self._write(part, records)
        except OSError as error:
            log.warning("a write failed; trying a new segment", extra={"fields": {"reason": str(error)}})
            part = self._put_elsewhere(first, records)
        return part

    def _put_elsewhere(self, first: int, records: bytes) -> _Appending:
        try:
            part = self._begin(first)
            self._write(part, records)
        except OSError as error:
            self._retry_at = self._clock() + RETRY_S
            log.critical("the journal cannot be written", extra={"fields": {"reason": str(error)}})
            raise _unavailable("The gateway's books cannot be written.") from error
        return part

    def _write(self, part: _Appending, records: bytes) -> None:
        if part.is_torn:
            self._mend(part)
        part.is_torn = True
        try:
            write_all(self._disk, part.file, records)
        except OSError:
            try:
                self._mend(part)
            except OSError as error:
                log.warning("what is torn stays until the next write", extra={"fields": {"reason": str(error)}})
            raise
        part.is_torn = False

    def _mend(self, part: _Appending) -> None:
        self._disk.truncate(part.file, part.segment.size)
        part.is_torn = False

    def _begin(self, first: int) -> _Appending:
        """Go on in a new segment. It takes the place of an earlier attempt at the same number, which holds nothing."""
        part = self._create(first, [])
        if self._active is not None:
            self._sealed.append(self._active)  # a round may be syncing it
        if self._segments and self._segments[-1].first == first:
            self._segments.pop()
            self._close_reader()
        self._segments.append(part.segment)
        self._active = part
        return part

    def _create(self, first: int, records: list[bytes]) -> _Appending:
        file = self._folder.create(Header(self._id, first), records)
        part = _Appending(Segment(first), file, is_new=True)
        for number, record in enumerate(records, first):
            part.segment.add(number, len(record))
        return part

    # Syncing

    async def sync_forever(self, interval_s: float = SYNC_INTERVAL_S) -> None:
        """Make appends durable, all of an interval by one sync. At rest it costs nothing."""
        loop = asyncio.get_running_loop()
        pause_s = interval_s
        while True:
            if self.durable == self.last:
                self._wake = loop.create_future()
                await self._wake
            await asyncio.sleep(pause_s)
            started = self._start_round()
            if started is not None:
                # The round goes on when this task is cancelled: `close` waits for it, and learns how it ended.
                await asyncio.shield(asyncio.wrap_future(started))
            is_synced = self._end_round()
            pause_s = interval_s if is_synced else min(max(pause_s, interval_s, 0.001) * 2, MAX_SYNC_PAUSE_S)

    def sync(self) -> bool:
        """Make all that was appended durable before returning, and say whether that worked."""
        self._end_round()
        for _ in range(2):  # the second time for what a failed round made be written again
            if self._start_round(in_thread=False) is not None:
                self._end_round()
            if self.durable == self.last:
                break
        return self.durable == self.last

    def _wake_up(self, wake: asyncio.Future[None]) -> None:
        self._wake = None
        if not wake.done():  # it is, when the task was cancelled a moment ago
            wake.set_result(None)

    async def wait_durable(self, number: int) -> None:
        """Wait until a power cut cannot take the record; JournalUnavailable if the journal is closed before."""
        if number > self.last:
            raise ValueError(f"There is no record {number} yet.")
        if number > self.durable:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append((number, waiting))
            await waiting

    def _start_round(self, *, in_thread: bool = True) -> Future[None] | None:
        self._end_round()
        if self._is_suspect and not self._rewrite():
            return None
        if self.durable == self.last:
            return None
        now_s, acknowledged = self._clock(), None
        if now_s >= self._write_acknowledged_at and self.acknowledged > self._written_acknowledged:
            self._write_acknowledged_at = now_s + _CHECK_S
            acknowledged = self.acknowledged
        sync = _Sync(self.last, [(part, part.segment.size) for part in self._writable()], acknowledged)
        if in_thread and self._executor is not None:
            done = self._executor.submit(self._run_round, sync)
        else:
            done = Future()
            self._run_round(sync)
            done.set_result(None)
        self._round = sync, done
        return done

    def _run_round(self, sync: _Sync) -> None:
        """The part that waits for the disk. It runs beside appends, and touches nothing of theirs."""
        try:
            for part, size in sync.parts:
                if part.is_new:
                    self._disk.fsync(part.file)
                elif size > part.synced_size:
                    self._disk.fdatasync(part.file)
            if any(part.is_new for part, _ in sync.parts):
                self._folder.sync()
        except OSError as error:
            sync.error = error
            return
        if sync.acknowledged is not None:
            self._write_acknowledged(sync.acknowledged)

    def _end_round(self) -> bool:
        """Take in how the last round ended, and say whether it succeeded; it is waited for if it still runs."""
        if self._round is None:
            return False
        sync, done = self._round
        done.result()
        self._round = None
        if sync.error is not None:
            self._suspect(sync.error)
            return False
        for part, size in sync.parts:
            part.is_new, part.synced_size = False, size
        synced = self._unsynced[: sync.last - self.durable]
        del self._unsynced[: len(synced)]
        self._unsynced_bytes -= sum(map(len, synced))
        self.durable = sync.last
        self.is_broken = self._is_rewritten = False
        for part in [part for part in self._sealed if part.synced_size == part.segment.size]:
            self._sealed.remove(part)
            self._folder.release(part.file)
        self._tell_waiting()
        return True

    def _tell_waiting(self) -> None:
        for number, waiting in self._waiting:
            if number <= self.durable and not waiting.done():
                waiting.set_result(None)
        self._waiting = [pair for pair in self._waiting if not pair[1].done()]

    def _suspect(self, error: OSError) -> None:
        """After a failed fsync the kernel may call lost pages clean: those files are never synced again."""
        fields = {"reason": str(error), **self._fields()}
        log.critical("a sync of the journal failed; its records are written again", extra={"fields": fields})
        self.is_broken = self._is_rewritten
        self._is_suspect = True
        self._rewrite()

    def _rewrite(self) -> bool:
        """Write what is not durable to a new segment, in place of the segments that hold it now."""
        first = self.durable + 1
        try:
            new = self._create(first, self._unsynced)
        except OSError as error:
            log.critical("the journal cannot be written again", extra={"fields": {"reason": str(error)}})
            self.is_broken = True
            return False
        self._close_reader()
        for part in self._writable():
            self._folder.release(part.file)
            part.segment.cut(min(part.segment.last, self.durable), part.synced_size)
        for segment in self._segments:
            if segment.first > first:
                self._remove_file(segment.first)
        self._segments = [*(segment for segment in self._segments if segment.first < first), new.segment]
        self._sealed, self._active = [], new
        self._is_suspect, self._is_rewritten = False, True
        return True

    # Reading

    def read(self, after: int, *, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Records behind `after` in order, with their numbers; none only if there are none. The first may be longer
        than `max_bytes`. What was just appended is among them: a power cut may yet take what is not `durable`.
        """
        assert max_records > 0
        reader = self._reader
        if reader is None or reader.after != after:
            at = max(bisect_right(self._segments, after + 1, key=_first) - 1, 0)
            reader = self._open_reader(at, after)
        while reader is not None:
            found = reader.read(max_records, max_bytes)
            if found:
                return found
            reader = self._open_reader(bisect_right(self._segments, reader.segment.first, key=_first), after)
        return []

    def _open_reader(self, at: int, after: int) -> _Reader | None:
        if at >= len(self._segments):
            return None
        self._close_reader()
        self._reader = _Reader(self._folder, self._segments[at], after=after, seed=self._seed)
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # Retention

    def acknowledge(self, number: int) -> None:
        """The store has everything up to `number`. Written down within a second of appending, and by `close`."""
        if number > self.last:
            raise ValueError(f"There is no record {number} yet.")
        if number > self.acknowledged:
            self.acknowledged = number
            self._count_unacknowledged()

    def discard_before(self, age_s: float = KEEP_S, *, now_s: float) -> int:
        """Remove the oldest segments that the store has and that were last written before `age_s`; say how many."""
        count = 0
        while self._is_spare() and self._last_written_s() < now_s - age_s and self._remove_oldest():
            count += 1
        return count

    def _make_room(self) -> None:
        """Look whether the disk has room. What the store has already goes before a request is refused."""
        try:
            free, total = self._disk.free_bytes(self._folder.path)
        except OSError as error:
            log.warning("the disk does not say what is free", extra={"fields": {"reason": str(error)}})
            return
        removed = 0
        while free < total * MIN_FREE and removed < _MAX_REMOVED and self._is_spare():
            free += self._segments[0].size
            if not self._remove_oldest():
                break
            removed += 1
        self._is_low = free < total * MIN_FREE

    def _is_spare(self) -> bool:
        """The last segment stays: it holds the last number."""
        return len(self._segments) > 1 and self._segments[0].last <= min(self.acknowledged, self.durable)

    def _last_written_s(self) -> float:
        try:
            return self._disk.stat(self._folder.segment(self._segments[0].first)).st_mtime
        except FileNotFoundError:
            return 0.0  # removed by hand
        except OSError:
            return math.inf

    def _remove_oldest(self) -> bool:
        segment = self._segments[0]
        if self._reader is not None and self._reader.segment is segment:
            self._close_reader()
        if not self._remove_file(segment.first):
            return False
        del self._segments[0]
        return True

    def _remove_file(self, first: int) -> bool:
        """Remove a segment's file and say whether it is gone."""
        try:
            self._folder.remove(first)
        except FileNotFoundError:
            return True
        except OSError as error:
            log.warning("a segment could not be removed", extra={"fields": {"reason": str(error)}})
            return False
        return True

    def _count_unacknowledged(self) -> None:
        at = bisect_right(self._segments, self.acknowledged, key=_first)
        behind = self._segments[max(at - 1, 0) :]
        self.unacknowledged_bytes = sum(segment.bytes_after(self.acknowledged) for segment in behind)

    # Parts of the above

    def _writable(self) -> list[_Appending]:
        return [*self._sealed, *([self._active] if self._active is not None else [])]

    def _write_acknowledged(self, number: int) -> None:
        try:
            self._folder.write_acknowledged(Acknowledged(self._id, number))
            self._written_acknowledged = number
        except OSError as error:
            log.warning("`acknowledged` could not be written", extra={"fields": {"reason": str(error)}})

    def _fields(self) -> dict[str, int]:
        return {"durable": self.durable, "last": self.last}


def _unavailable(message: str) -> JournalUnavailable:
    return JournalUnavailable(message, retry_after_s=_CHECK_S)
