"""The bytes of a journal: how a record is framed, how a segment begins, what can still be read of a damaged one.

    segment = header record*
    header  = magic 8 | version u32 | journal id 8 | first number u64 | crc32 u32
    record  = payload length u32 | crc32 u32 | number u64 | payload                  (all big-endian)

A record's CRC covers number and payload and starts from the journal's id and the length: when a damaged segment is
searched, neither a record of another journal nor bytes that a client brought into a payload are taken for a record.
Numbers only grow within a segment. Pure: bytes in, bytes out; knows no files and no clock.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

MAX_PAYLOAD_BYTES = 1 << 20  # a charge takes 600 bytes; what is a thousand times as long is a mistake of ours
MARK_EVERY_BYTES = 64 << 10  # finding a record reads at most this much in vain; 1,024 marks in a full segment
MAX_JUMP = 1 << 24  # records that can be lost in one gap: four full segments of empty payloads
VERSION = 1
HEADER_BYTES = 32
RECORD_BYTES = 16
ID_BYTES = 8

_MAGIC = b"trolljnl"
_HEADER = struct.Struct(">8sI8sQ")
_CRC = struct.Struct(">I")
_RECORD = struct.Struct(">IIQ")
_NUMBER = struct.Struct(">Q")
_NAME = re.compile(r"(\d{20})\.journal", re.ASCII)
_SAME_BYTES = 5  # numbers less than MAX_JUMP apart share their five high bytes, but for one carry


class UnknownVersionError(ValueError):
    """An intact segment of a newer program: it must be read by that program, not put aside by this one."""


class Header(NamedTuple):
    """How a segment begins."""

    journal_id: bytes
    first: int


class Found(NamedTuple):
    """Where an intact record lies in a segment."""

    number: int
    start: int
    end: int


class Segment:
    """What is known of a segment: its numbers, its length, and where some of its records begin."""

    __slots__ = ("first", "last", "marks", "size")

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first - 1
        self.size = HEADER_BYTES
        self.marks = [(first, HEADER_BYTES)]

    def __repr__(self) -> str:
        return f"Segment({self.first}..{self.last}, {self.size} bytes)"

    def add(self, number: int, size: int) -> None:
        if self.size - self.marks[-1][1] >= MARK_EVERY_BYTES:
            self.marks.append((number, self.size))
        self.last = number
        self.size += size

    def cut(self, last: int, size: int) -> None:
        """Forget what lies behind the record `last`, which ends at `size`."""
        self.last, self.size = last, size
        self.marks = [mark for mark in self.marks if mark[1] < size] or self.marks[:1]

    def locate(self, number: int) -> int:
        """A place from which reading on comes to `number`."""
        return self.marks[max(bisect_right(self.marks, (number, self.size)) - 1, 0)][1]

    def bytes_after(self, number: int) -> int:
        """How much lies behind the record `number`; up to MARK_EVERY_BYTES too much."""
        return 0 if number >= self.last else self.size - self.locate(number + 1)


class Survey(NamedTuple):
    """What can be read of a segment: the intact records from its start on, and those behind the first damage."""

    segment: Segment
    behind: list[Found]
    is_whole: bool


def segment_name(first: int) -> str:
    return f"{first:020}.journal"


def parse_name(name: str) -> int | None:
    """The number in a segment's name, None if it is no segment's."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def encode_header(header: Header) -> bytes:
    data = _HEADER.pack(_MAGIC, VERSION, header.journal_id, header.first)
    return data + _CRC.pack(crc32(data))


def decode_header(data: bytes) -> Header | None:
    """None if it is damaged or no header at all."""
    if len(data) < HEADER_BYTES or _CRC.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
        return None
    magic, version, journal_id, first = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        return None
    if version != VERSION:
        raise UnknownVersionError(f"The journal is of version {version}; this program knows version {VERSION}.")
    return Header(journal_id, first)


def seed_of(journal_id: bytes) -> int:
    """Where the CRCs of a journal start from."""
    return crc32(journal_id)


def frame(number: int, payload: bytes, seed: int) -> bytes:
    """The record, ready to be written."""
    length = len(payload)
    crc = crc32(payload, crc32(_NUMBER.pack(number), seed ^ length))
    return _RECORD.pack(length, crc, number) + payload


def take(
    chunk: bytes, start: int, *, seed: int, max_records: int, max_bytes: int
) -> tuple[list[tuple[int, bytes]], int]:
    """The intact records from `start` on with their numbers, and where they end; the first may be over `max_bytes`."""
    found: list[tuple[int, bytes]] = []
    size = len(chunk)
    while start + RECORD_BYTES <= size and len(found) < max_records:
        length, crc, number = _RECORD.unpack_from(chunk, start)
        end = start + RECORD_BYTES + length
        if end > size or length > MAX_PAYLOAD_BYTES or (found and length > max_bytes):
            break
        body = chunk[start + 8 : end]
        if crc32(body, seed ^ length) != crc:
            break
        found.append((number, body[8:]))
        max_bytes -= length
        start = end
    return found, start


def scan(data: bytes, *, seed: int, first: int, start: int = HEADER_BYTES) -> Iterator[Found]:
    """Every intact record from `start` on with a growing number, from `first` on. Where two do not touch is damage."""
    position, last = start, first - 1
    while position < len(data):
        found = _record_at(data, position, seed)
        if found is None or found.number <= last:
            found = _resynchronise(data, position + 1, seed=seed, last=last)
        if found is None:
            return
        yield found
        position, last = found.end, found.number


def survey(data: bytes, journal_id: bytes, first: int, *, before: int | None = None) -> Survey:
    """Read a whole segment, or as far as the one that begins with the record `before`."""
    segment, behind = Segment(first), list[Found]()
    is_sound = decode_header(data) == Header(journal_id, first)
    for found in scan(data, seed=seed_of(journal_id), first=first):
        if before is not None and found.number >= before:
            break
        is_sound = is_sound and found.start == segment.size
        if is_sound:
            segment.add(found.number, found.end - found.start)
        else:
            behind.append(found)
    return Survey(segment, behind, is_sound and segment.size == len(data))


def _record_at(data: bytes, start: int, seed: int) -> Found | None:
    if start + RECORD_BYTES > len(data):
        return None
    length, crc, number = _RECORD.unpack_from(data, start)
    end = start + RECORD_BYTES + length
    if length > MAX_PAYLOAD_BYTES or end > len(data) or crc32(data[start + 8 : end], seed ^ length) != crc:
        return None
    return Found(number, start, end)


def _resynchronise(data: bytes, start: int, *, seed: int, last: int) -> Found | None:
    """The next intact record at or behind `start`, found by the high bytes that its number must have.

    A damaged record's length is not believed: it may lead past records that are intact.
    """
    prefixes = {_NUMBER.pack(number)[:_SAME_BYTES] for number in (last + 1, last + MAX_JUMP)}
    pattern = re.compile(b"(?=%s)" % b"|".join(re.escape(prefix) for prefix in sorted(prefixes)), re.DOTALL)
    for match in pattern.finditer(data, start + 8):
        number_at = match.start()
        if number_at + 8 > len(data) or not last < _NUMBER.unpack_from(data, number_at)[0] <= last + MAX_JUMP:
            continue
        found = _record_at(data, number_at - 8, seed)
        if found is not None:
            return found
    return None
