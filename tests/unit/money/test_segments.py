"""Framing: what was written is read, what was damaged is not, and what lies behind the damage is found.

Also the disk that fails, crashes and forgets as it is told, on which tests/integration/test_journal.py runs.
"""

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.money.disk import Disk
from trollproxy.money.segments import (
    HEADER_BYTES,
    MARK_EVERY_BYTES,
    RECORD_BYTES,
    Header,
    Segment,
    UnknownVersionError,
    decode_header,
    encode_header,
    frame,
    parse_name,
    scan,
    seed_of,
    segment_name,
    survey,
    take,
)

T = TypeVar("T")
ID = b"8 bytes!"
SEED = seed_of(ID)
payload_lists = st.lists(st.binary(max_size=40), max_size=8)
firsts = st.sampled_from([1, 500, (1 << 24) - 3, (1 << 40) - 2])


def segment_of(payloads: list[bytes], first: int = 1) -> bytes:
    records = [frame(number, payload, SEED) for number, payload in enumerate(payloads, first)]
    return encode_header(Header(ID, first)) + b"".join(records)


def intact(data: bytes, first: int = 1) -> dict[int, bytes]:
    found = scan(data, seed=SEED, first=first)
    return {record.number: data[record.start + RECORD_BYTES : record.end] for record in found}


def take_all(data: bytes, start: int = HEADER_BYTES) -> list[tuple[int, bytes]]:
    return take(data, start, seed=SEED, max_records=1000, max_bytes=1 << 20)[0]


@given(payload_lists, firsts)
def test_what_was_framed_is_read(payloads: list[bytes], first: int) -> None:
    data = segment_of(payloads, first)
    found = survey(data, ID, first)
    assert found.is_whole
    assert (found.segment.last, found.segment.size) == (first + len(payloads) - 1, len(data))
    assert take_all(data) == list(enumerate(payloads, first))
    assert intact(data, first) == dict(enumerate(payloads, first))


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), firsts)
def test_any_truncation_leaves_the_records_before_it(payloads: list[bytes], first: int) -> None:
    data = segment_of(payloads, first)
    ends = [HEADER_BYTES]
    for payload in payloads:
        ends.append(ends[-1] + RECORD_BYTES + len(payload))
    for size in range(len(data)):
        whole = sum(end <= size for end in ends[1:])
        assert intact(data[:size], first) == dict(enumerate(payloads[:whole], first))
        assert take_all(data[:size]) == list(enumerate(payloads[:whole], first))
        assert survey(data[:size], ID, first).is_whole == (size in ends)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), firsts, st.data())
def test_a_flipped_bit_costs_its_own_record_only(payloads: list[bytes], first: int, data: st.DataObject) -> None:
    sound = segment_of(payloads, first)
    bit = data.draw(st.integers(HEADER_BYTES * 8, len(sound) * 8 - 1))
    damaged = bytearray(sound)
    damaged[bit // 8] ^= 1 << bit % 8
    hit = next(record.number for record in scan(sound, seed=SEED, first=first) if bit // 8 < record.end)
    expected = dict(enumerate(payloads, first))
    del expected[hit]
    assert intact(bytes(damaged), first) == expected
    assert not survey(bytes(damaged), ID, first).is_whole


@given(payload_lists, payload_lists, st.binary(min_size=1, max_size=60), firsts)
def test_records_behind_anything_are_found(before: list[bytes], behind: list[bytes], dirt: bytes, first: int) -> None:
    numbered = list(enumerate([*before, b"lost", *behind], first))
    data = segment_of(before, first) + dirt
    data += b"".join(frame(number, payload, SEED) for number, payload in numbered[len(before) + 1 :])
    assert intact(data, first) == dict(numbered[: len(before)] + numbered[len(before) + 1 :])


@given(st.binary(max_size=300))
def test_no_record_is_found_in_noise(noise: bytes) -> None:
    assert intact(encode_header(Header(ID, 1)) + noise) == {}
    assert intact(bytes(HEADER_BYTES + len(noise))) == {}


def test_a_record_in_a_payload_is_no_record() -> None:
    """Who knows the format but not the journal's id cannot have a record invented when a segment is damaged."""
    forged = frame(2, b"credit me", seed_of(b"unknown!"))
    data = bytearray(segment_of([forged, b"sound"]))
    data[HEADER_BYTES] ^= 1
    assert intact(bytes(data)) == {2: b"sound"}


def test_a_wrong_length_does_not_lead_past_an_intact_record() -> None:
    data = bytearray(segment_of([b"x" * 16] * 3))
    data[HEADER_BYTES + 3] = 48  # now the first record seems to end where the second does
    assert list(intact(bytes(data))) == [2, 3]


@pytest.mark.parametrize("bit", range(HEADER_BYTES * 8))
def test_a_header_is_whole_or_none(bit: int) -> None:
    data = bytearray(encode_header(Header(ID, 7)))
    assert decode_header(bytes(data)) == Header(ID, 7)
    data[bit // 8] ^= 1 << bit % 8
    assert decode_header(bytes(data)) is None
    assert decode_header(bytes(data[: bit // 8])) is None


def test_a_newer_version_is_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trollproxy.money.segments.VERSION", 2)
    data = encode_header(Header(ID, 1))
    monkeypatch.undo()
    with pytest.raises(UnknownVersionError):
        decode_header(data)


def test_take_stops_at_its_limits() -> None:
    data = segment_of([b"12345"] * 6)
    step = RECORD_BYTES + 5

    def count(max_records: int, max_bytes: int) -> tuple[int, int]:
        found, end = take(data, HEADER_BYTES, seed=SEED, max_records=max_records, max_bytes=max_bytes)
        return len(found), (end - HEADER_BYTES) // step

    assert count(2, 1000) == (2, 2)
    assert count(9, 14) == (2, 2)
    assert count(9, 15) == (3, 3)
    assert count(9, 0) == (1, 1)


def test_names() -> None:
    assert parse_name(segment_name(42)) == 42
    others = ["42.journal", "acknowledged", f"{42:020}.quarantine", f"{42:020}.journal~", "٤" * 20 + ".journal"]
    assert [parse_name(name) for name in others] == [None] * len(others)


@given(st.lists(st.integers(16, MARK_EVERY_BYTES), max_size=30), st.integers(0, 40))
def test_marks_lead_close_to_a_record(sizes: list[int], number: int) -> None:
    segment, starts = Segment(1), [HEADER_BYTES]
    for size in sizes:
        segment.add(segment.last + 1, size)
        starts.append(segment.size)
    start = segment.locate(number)
    wanted = starts[min(max(number, 1), len(starts)) - 1]
    assert start in starts
    assert start <= wanted < start + 2 * MARK_EVERY_BYTES
    assert segment.size - starts[min(number, len(sizes))] <= segment.bytes_after(number)
    assert segment.bytes_after(len(sizes)) == 0
    segment.cut(0, HEADER_BYTES)
    assert (segment.marks, segment.bytes_after(0)) == ([(1, HEADER_BYTES)], 0)


class Crash(BaseException):
    """The process ends here."""


class FaultyDisk(Disk):
    """A disk whose n-th call fails as told. `lose_power` leaves what was synced, as strictly as it may."""

    def __init__(self, faults: dict[int, str] | None = None) -> None:
        self.faults = faults or {}
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}  # every call of that name fails so
        self.room = 1.0
        self._is_dead = False
        self._files: dict[int, int | Path] = {}  # descriptor -> content, or directory
        self._names: dict[Path, int] = {}
        self._synced_names: dict[Path, int] = {}
        self._synced: dict[int, bytes] = {}
        self._made = 0

    def _call(self, name: str, action: Callable[[], T], torn: Callable[[], T] | None = None) -> T:
        if self._is_dead:
            raise Crash
        self.calls.append(name)
        fault = self.faults.get(len(self.calls), "")
        if fault in {"short", "torn"} and torn is not None:
            result = torn()
            if fault == "short":
                return result
        elif fault == "EINTR" and torn is not None:
            raise InterruptedError
        elif code := self.failing.get(name) or getattr(errno, fault, 0) * (fault != "EINTR"):
            raise OSError(code, os.strerror(code))
        elif fault != "before":
            result = action()
        if fault in {"before", "torn", "after"}:
            self._is_dead = True
            raise Crash
        return result

    def release(self) -> None:
        for file in self._files:
            os.close(file)
        self._files.clear()

    def adopt(self, directory: Path) -> None:
        """What stands in the directory is on disk."""
        for path in directory.iterdir():
            self._made += 1
            self._names[path] = self._synced_names[path] = self._made
            self._synced[self._made] = path.read_bytes()

    def lose_power(self, directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for path, content in self._synced_names.items():
            path.write_bytes(self._synced.get(content, b""))

    def _open(self, path: Path, flags: int) -> int:
        if flags & os.O_WRONLY:
            flags += os.O_RDWR - os.O_WRONLY  # a sync is modelled by reading what there is
        file = super().open(path, flags)
        if not flags & os.O_DIRECTORY and path not in self._names:
            self._made += 1
            self._names[path] = self._made
        self._files[file] = path if flags & os.O_DIRECTORY else self._names[path]
        return file

    def _close(self, file: int) -> None:
        del self._files[file]
        super().close(file)

    def _fsync(self, file: int) -> None:
        content = self._files[file]
        if isinstance(content, int):
            self._synced[content] = os.pread(file, 1 << 20, 0)
        else:
            elsewhere = {path: name for path, name in self._synced_names.items() if path.parent != content}
            here = {path: name for path, name in self._names.items() if path.parent == content}
            self._synced_names = elsewhere | here

    def _rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._names[target] = self._names.pop(source)

    def _link(self, source: Path, target: Path) -> None:
        super().link(source, target)
        self._names[target] = self._names[source]

    def _unlink(self, path: Path) -> None:
        super().unlink(path)
        self._names.pop(path, None)

    def _write(self, file: int, data: bytes | memoryview, share: int = 1) -> int:
        return super().write(file, data[: len(data) // share]) if len(data) >= share else 0

    def _free_bytes(self, directory: Path) -> tuple[int, int]:
        return int(self.room * 10_000), 10_000


def _override(name: str) -> Callable[..., object]:
    own = {"fdatasync": "_fsync"}.get(name, "_" + name)
    action = getattr(FaultyDisk, own, None) or getattr(Disk, name)

    def call(self: FaultyDisk, *arguments: object) -> object:
        torn = partial(action, self, *arguments, 2) if name == "write" else None
        return self._call(name, partial(action, self, *arguments), torn)

    return call


for _name in [name for name in vars(Disk) if not name.startswith("_")]:
    setattr(FaultyDisk, _name, _override(_name))
