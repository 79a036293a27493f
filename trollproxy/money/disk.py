"""The system calls that the journal makes, and the folder that it makes them on.

`Disk` is the narrow port: each method is one system call, so that a test can fail or interrupt any of them. `Folder`
owns the names in the journal's directory and changes them so that a crash at any moment leaves the old or the new
state: a file is written under a temporary name and renamed into place. `recover` is what a start does there. Nothing
here knows what the records say, or who writes and reads them.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from trollproxy.money.segments import (
    HEADER_BYTES,
    ID_BYTES,
    RECORD_BYTES,
    Found,
    Header,
    Segment,
    decode_header,
    encode_header,
    parse_name,
    segment_name,
    survey,
)

log = logging.getLogger(__name__)

_PRIVATE = 0o600
_NEW = ".new"
_QUARANTINE = ".quarantine"
_FOREIGN = ".foreign"
_ACKNOWLEDGED = "acknowledged"
_PIECES_BYTES = 1 << 20  # records are written in pieces of this size when a segment is copied


class Disk:
    """The system calls, nothing added but that EINTR is not an error of theirs (PEP 475)."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, _PRIVATE)

    def close(self, file: int) -> None:
        os.close(file)

    def write(self, file: int, data: bytes | memoryview) -> int:
        return os.write(file, data)

    def read(self, file: int, size: int, offset: int) -> bytes:
        return os.pread(file, size, offset)

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def fsync(self, file: int) -> None:
        os.fsync(file)

    def fdatasync(self, file: int) -> None:
        os.fdatasync(file)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        target.hardlink_to(source)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def list(self, directory: Path) -> list[str]:
        return [path.name for path in directory.iterdir()]

    def stat(self, path: Path) -> os.stat_result:
        return path.stat()

    def make_directory(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def free_bytes(self, directory: Path) -> tuple[int, int]:
        """What is free for us, and how large the disk is."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


class Acknowledged(NamedTuple):
    """The content of the file `acknowledged`: whose journal, and up to which record the store has it."""

    journal_id: bytes
    number: int


class Folder:
    """The journal's directory. Between `open` and `close` it holds a descriptor of the directory, for its fsync."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.disk = disk
        self._directory = -1

    def open(self) -> None:
        self.disk.make_directory(self.path)
        self._sync_parent()
        self._directory = self.disk.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        if self._directory >= 0:
            self.release(self._directory)
            self._directory = -1

    def release(self, file: int) -> None:
        """Close a descriptor. That it fails says nothing of data which was or was not synced before."""
        try:
            self.disk.close(file)
        except OSError as error:
            log.warning("a file of the journal did not close", extra={"fields": {"reason": str(error)}})

    def sync(self) -> None:
        """Make what was created, renamed and removed durable."""
        self.disk.fsync(self._directory)

    def segment(self, first: int) -> Path:
        return self.path / segment_name(first)

    def list_segments(self) -> list[int]:
        """The segments' first numbers in order. What a crash left half made is removed, what is not ours reported."""
        found = []
        for name in sorted(self.disk.list(self.path)):
            first = parse_name(name)
            if first is not None:
                found.append(first)
            elif name.endswith(_NEW):
                self.disk.unlink(self.path / name)
            elif name != _ACKNOWLEDGED and not name.endswith((_QUARANTINE, _FOREIGN)):
                log.warning("a foreign file in the journal's directory", extra={"fields": {"name": name}})
        return found

    def read_header(self, first: int) -> Header | None:
        return decode_header(self._read(self.segment(first), HEADER_BYTES))

    def read_segment(self, first: int) -> bytes:
        path = self.segment(first)
        return self._read(path, self.disk.stat(path).st_size)

    def create(self, header: Header, records: Iterable[bytes]) -> int:
        """Put a segment in place of whatever has its name, and return it open for appending. Not yet durable."""
        temporary = self.segment(header.first).with_suffix(_NEW)
        file = self.disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            write_all(self.disk, file, encode_header(header))
            for record in records:
                write_all(self.disk, file, record)
            self.disk.rename(temporary, self.segment(header.first))
        except OSError:
            self.release(file)
            self._discard(temporary)
            raise
        return file

    def rescue(self, header: Header, data: bytes, found: list[Found]) -> None:
        """Replace a damaged segment by its intact records; the damaged file is kept under another name."""
        damaged, kept = self.segment(header.first), self._free_name(header.first, _QUARANTINE)
        if not found:
            self.disk.rename(damaged, kept)
            self.sync()
            return
        temporary = damaged.with_suffix(_NEW)
        file = self.disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(self.disk, file, encode_header(header))
            for piece in _pieces(data, found):
                write_all(self.disk, file, piece)
            self.disk.fsync(file)
        finally:
            self.release(file)
        # A second name first: there is no moment at which the damaged file has none, or the segment's name is free.
        self.disk.link(damaged, kept)
        self.disk.rename(temporary, damaged)
        self.sync()

    def put_aside(self, first: int) -> None:
        """Take a segment of another journal out of the way, so that its name is free."""
        self.disk.rename(self.segment(first), self._free_name(first, _FOREIGN))

    def remove(self, first: int) -> None:
        self.disk.unlink(self.segment(first))

    def cut(self, first: int, size: int) -> None:
        """Make a segment durable, without what lies behind `size`."""
        path = self.segment(first)
        file = self.disk.open(path, os.O_RDWR)
        try:
            if self.disk.stat(path).st_size > size:
                self.disk.truncate(file, size)
            self.disk.fsync(file)
        finally:
            self.release(file)

    def read_acknowledged(self) -> Acknowledged | None:
        """None if there is none, or none that can be read: then everything is flushed again, which is harmless."""
        path = self.path / _ACKNOWLEDGED
        try:
            words = self._read(path, self.disk.stat(path).st_size).split()
        except FileNotFoundError:
            return None
        if len(words) != len(("id", "number", "crc")) or words[2] != _checksum(words[0], words[1]):
            log.warning("the journal's file `acknowledged` is damaged and starts anew")
            return None
        return Acknowledged(bytes.fromhex(words[0].decode()), int(words[1]))

    def write_acknowledged(self, value: Acknowledged) -> None:
        temporary = self.path / (_ACKNOWLEDGED + _NEW)
        words = value.journal_id.hex().encode(), b"%d" % value.number
        file = self.disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_all(self.disk, file, b" ".join((*words, _checksum(*words))) + b"\n")
            self.disk.fsync(file)
        finally:
            self.release(file)
        self.disk.rename(temporary, self.path / _ACKNOWLEDGED)

    def _sync_parent(self) -> None:
        parent = self.disk.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.disk.fsync(parent)
        finally:
            self.release(parent)

    def _read(self, path: Path, size: int) -> bytes:
        file = self.disk.open(path, os.O_RDONLY)
        try:
            return read_all(self.disk, file, size)
        finally:
            self.release(file)

    def _discard(self, temporary: Path) -> None:
        try:
            self.disk.unlink(temporary)
        except OSError as error:
            log.warning("a half-made segment stays until the next start", extra={"fields": {"reason": str(error)}})

    def _free_name(self, first: int, suffix: str) -> Path:
        """A segment can be damaged a second time; what was kept of it the first time is not overwritten."""
        taken = set(self.disk.list(self.path))
        names = (f"{first:020}{'.' + str(count) if count else ''}{suffix}" for count in range(len(taken) + 1))
        return self.path / next(name for name in names if name not in taken)


class Recovered(NamedTuple):
    """What a start found in the folder: segments in order, all of them durable."""

    journal_id: bytes
    segments: list[Segment]
    acknowledged: int
    quarantined: int


def recover(folder: Folder, random_bytes: Callable[[int], bytes]) -> Recovered:
    """Bring the folder in order. Interrupted at any call, it does the rest the next time."""
    headers = {first: folder.read_header(first) for first in folder.list_segments()}
    known = folder.read_acknowledged()
    ids = [header.journal_id for header in headers.values() if header is not None]
    if known is None or (ids and known.journal_id not in ids):
        # The segments hold the money, the file only spares work: theirs is the word on whose journal this is.
        known = Acknowledged(ids[-1] if ids else random_bytes(ID_BYTES), 0)
        folder.write_acknowledged(known)
    recovery = _Recovery(folder, known)
    for first in [first for first, header in headers.items() if header and header.journal_id != known.journal_id]:
        log.critical("a segment of another journal was put aside", extra={"fields": {"segment": first}})
        folder.put_aside(first)
        del headers[first]
    following = dict(pairwise(headers))
    for first, header in headers.items():
        recovery.take(first, following.get(first), header)
    folder.sync()
    return Recovered(known.journal_id, recovery.segments, known.number, recovery.quarantined)


class _Recovery:
    """Goes through the segments from the oldest; `last` is the highest number it has come by."""

    def __init__(self, folder: Folder, known: Acknowledged) -> None:
        self.segments: list[Segment] = []
        self.quarantined = 0
        self._folder = folder
        self._known = known
        self._last = 0

    def take(self, first: int, following: int | None, header: Header | None) -> None:
        # What the store has is not read through at each start: that may be 72 hours' worth.
        is_needed = following is None or following - 1 > self._known.number or header != self._header(first)
        segment = self._inspect(first, following) if is_needed else self._trust(first, following or first)
        if segment is None:
            return
        if segment.last <= self._last:  # empty, or written again elsewhere after a failed sync
            self._folder.remove(first)
            return
        if self.segments and segment.first > self._last + 1:
            fields = {"from": self._last + 1, "to": segment.first - 1}
            log.warning("the journal has a gap", extra={"fields": fields})
        self._last = segment.last
        self.segments.append(segment)

    def _header(self, first: int) -> Header:
        return Header(self._known.journal_id, first)

    def _trust(self, first: int, following: int) -> Segment:
        segment = Segment(first)
        segment.last = following - 1
        segment.size = self._folder.disk.stat(self._folder.segment(first)).st_size
        return segment

    def _inspect(self, first: int, following: int | None) -> Segment | None:
        data = self._folder.read_segment(first)
        # It ends where the next begins: records behind that were refused, or written again there.
        before = following if following is not None and self._folder.read_header(following) is not None else None
        segment, behind, is_whole = survey(data, self._known.journal_id, first, before=before)
        has_header = decode_header(data) == self._header(first)
        if not is_whole and following is None and not has_header and len(data) < HEADER_BYTES + RECORD_BYTES:
            log.warning(
                "a segment that a crash left without a record was removed", extra={"fields": {"segment": first}}
            )
            self._folder.remove(first)
            return None
        # Damage at the journal's end is a write that a crash cut off; damage that the next segment makes good for is a
        # write that failed and was made there.
        is_harmless = has_header and (not behind if following is None else following <= segment.last + 1)
        if not is_whole and not is_harmless:
            return self._rescue(data, segment, behind)
        if not is_whole:
            fields = {"segment": first, "bytes": len(data) - segment.size}
            log.warning("the torn end of a segment was cut off", extra={"fields": fields})
        self._folder.cut(first, segment.size)
        return segment

    def _rescue(self, data: bytes, sound: Segment, behind: list[Found]) -> Segment | None:
        prefix = [Found(sound.last, HEADER_BYTES, sound.size)] if sound.last >= sound.first else []
        self._folder.rescue(self._header(sound.first), data, prefix + behind)
        self.quarantined += 1
        fields = {"segment": sound.first, "intact_to": sound.last, "found_behind": len(behind)}
        log.critical("a damaged segment was quarantined", extra={"fields": fields})
        if not prefix and not behind:
            return None
        return survey(self._folder.read_segment(sound.first), self._known.journal_id, sound.first).segment


def write_all(disk: Disk, file: int, data: bytes | memoryview) -> None:
    """Write all of `data`, in one call where the system takes it in one."""
    while data:
        try:
            written = disk.write(file, data)
        except InterruptedError:
            continue
        if written == len(data):
            return
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        data = memoryview(data)[written:]


def read_all(disk: Disk, file: int, size: int) -> bytes:
    """The first `size` bytes of a file, fewer if it is shorter."""
    pieces: list[bytes] = []
    offset = 0
    while offset < size:
        piece = disk.read(file, size - offset, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def _pieces(data: bytes, found: list[Found]) -> Iterable[bytes]:
    piece = bytearray()
    for record in found:
        piece += data[record.start : record.end]
        if len(piece) >= _PIECES_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _checksum(journal_id: bytes, number: bytes) -> bytes:
    return b"%08x" % crc32(journal_id + b" " + number) if len(journal_id) == ID_BYTES * 2 else b""
