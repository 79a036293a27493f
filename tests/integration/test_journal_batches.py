"""The records of one write: all of them are there or none, and the numbers of what was refused are given again."""

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aio import run
from tests.integration.journal_lab import append, make, opened, read_all, reopened, segments
from tests.unit.money.test_segments import FaultyDisk
from trollproxy.money import journal as journal_module
from trollproxy.money.journal import Journal, JournalUnavailable
from trollproxy.money.segments import HEADER_BYTES, RECORD_BYTES

ROOMY = 10_000  # bytes a segment


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Disks fail here on purpose, and each says so."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def add(journal: Journal, *payloads: bytes, is_reserved: bool = True) -> dict[int, bytes]:
    return {journal.add(payload, is_reserved=is_reserved): payload for payload in payloads}


def put_down(journal: Journal, *payloads: bytes) -> dict[int, bytes]:
    added = add(journal, *payloads)
    journal.put_down()
    return added


def refuse(journal: Journal, *payloads: bytes) -> dict[int, bytes]:
    """What would have been written."""
    added, last = add(journal, *payloads), journal.last
    with pytest.raises(JournalUnavailable):
        journal.put_down()
    assert journal.last == last
    assert journal.next == last + 1
    return added


def tear(disk: FaultyDisk, code: int = errno.EIO) -> None:
    """Half of the next write comes to the disk, and no other write does."""
    disk.faults = {len(disk.calls) + 1: "short"}
    disk.failing = {"write": code}


def test_what_was_added_together_is_one_write(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk, segment_bytes=ROOMY) as journal:
        append(journal, b"first")
        assert read_all(journal) == [(1, b"first")]
        calls = len(disk.calls)
        added = add(journal, b"a", b"b", b"c")
        assert list(added) == [2, 3, 4]
        assert (journal.last, journal.next) == (1, 5)
        assert disk.calls[calls:] == []
        assert read_all(journal, 1) == []
        calls = len(disk.calls)
        journal.put_down()
        assert (journal.last, journal.next) == (4, 5)
        journal.put_down()
        assert disk.calls[calls:] == ["write"]
        assert dict(read_all(journal)) == {1: b"first"} | added
    assert reopened(tmp_path / "j") == {1: b"first"} | added


def test_what_was_added_and_not_put_down_does_not_outlive_the_process(tmp_path: Path) -> None:
    disk = FaultyDisk()
    journal = make(tmp_path / "j", disk)
    journal.open()
    written = put_down(journal, b"a", b"b")
    add(journal, b"c")
    disk.release()
    assert reopened(tmp_path / "j") == written


def test_what_was_added_is_put_down_when_the_journal_closes(tmp_path: Path) -> None:
    with opened(tmp_path / "j") as journal:
        added = add(journal, b"a", b"b")
    assert reopened(tmp_path / "j") == added


def test_a_closed_journal_writes_no_more(tmp_path: Path) -> None:
    """The directory may be another process's by then."""
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk) as journal:
        added = put_down(journal, b"a")
        disk.failing = {"write": errno.EIO}
        add(journal, b"b")
    disk.failing.clear()
    calls = len(disk.calls)
    journal.put_down()
    assert len(disk.calls) == calls
    assert reopened(tmp_path / "j") == added


def test_a_write_longer_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path / "j", segment_bytes=200) as journal:
        written = put_down(journal, b"before")
        written |= put_down(journal, *(b"payload %d" % number for number in range(20)))
        written |= put_down(journal, b"after")
        assert [int(path.stem) for path in segments(tmp_path / "j")] == [1, 2, 22]
        assert dict(read_all(journal)) == written
        assert [number for number, _ in read_all(journal, 17)] == [18, 19, 20, 21, 22]
    assert reopened(tmp_path / "j") == written


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_of_a_write_that_fails_midway_nothing_is_left(tmp_path: Path, code: int) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk, segment_bytes=ROOMY) as journal:
        written = put_down(journal, b"before")
        tear(disk, code)
        refused = refuse(journal, b"r2", b"r3", b"r4", b"r5")
        assert dict(read_all(journal)) == written
        assert dict(read_all(journal, 1)) == {}
        disk.failing.clear()
        again = put_down(journal, b"n2", b"n3")
        assert set(again) < set(refused)
        assert dict(read_all(journal)) == written | again
    assert reopened(tmp_path / "j") == written | again


def test_of_a_write_that_fails_midway_a_restart_finds_nothing(tmp_path: Path) -> None:
    disk = FaultyDisk()
    journal = make(tmp_path / "j", disk, segment_bytes=ROOMY)
    journal.open()
    written = put_down(journal, b"before")
    tear(disk)
    refuse(journal, b"r2", b"r3", b"r4", b"r5")
    disk.release()
    assert reopened(tmp_path / "j") == written


@pytest.mark.parametrize("fault", ["short", "EIO", "ENOSPC", "EINTR"])
def test_a_write_that_fails_once_is_made_elsewhere(tmp_path: Path, fault: str) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk, segment_bytes=ROOMY) as journal:
        written = put_down(journal, b"before")
        disk.faults = {len(disk.calls) + 1: fault}
        written |= put_down(journal, b"a", b"b", b"c")
        assert dict(read_all(journal)) == written
    assert reopened(tmp_path / "j") == written


def torn(path: Path, disk: FaultyDisk) -> tuple[Journal, dict[int, bytes]]:
    """An open journal behind whose end lie two whole records that were refused, and a part of the third of five."""
    journal = make(path, disk, segment_bytes=ROOMY)
    journal.open()
    written = put_down(journal, b"before")
    tear(disk)
    disk.failing["truncate"] = errno.EIO
    refuse(journal, *(b"r%d" % number for number in range(2, 7)))
    data = segments(path)[0].read_bytes()
    size = HEADER_BYTES + RECORD_BYTES + len(b"before") + 2 * (RECORD_BYTES + len(b"r2"))
    assert size < len(data) < size + RECORD_BYTES + len(b"r4")
    del disk.failing["write"]
    return journal, written


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("is_closed", [True, False])
def test_refused_records_that_stay_on_the_disk_are_not_read(tmp_path: Path, count: int, *, is_closed: bool) -> None:
    """What came later has their numbers: fewer of it than was refused, as many, and more."""
    disk = FaultyDisk()
    journal, written = torn(tmp_path / "j", disk)
    assert dict(read_all(journal)) == written
    written |= put_down(journal, *(b"n%d" % number for number in range(2, 2 + count)))
    assert list(written) == list(range(1, 2 + count))
    assert len(segments(tmp_path / "j")) == 2
    assert dict(read_all(journal)) == written
    if is_closed:
        journal.close()
    disk.release()
    assert b"r2" in segments(tmp_path / "j")[0].read_bytes()
    assert reopened(tmp_path / "j") == written
    assert not list((tmp_path / "j").glob("*.quarantine"))


def test_refused_records_stay_unread_in_what_a_start_does_not_look_through(tmp_path: Path) -> None:
    """The store has it all; it is read again when the store was set back."""
    disk = FaultyDisk()
    journal, written = torn(tmp_path / "j", disk)
    written |= put_down(journal, b"n2", b"n3", b"n4")
    journal.acknowledge(journal.last)
    journal.close()
    disk.release()
    with opened(tmp_path / "j", segment_bytes=ROOMY) as again:
        for after in range(5):
            expected = {number: payload for number, payload in written.items() if number > after}
            assert dict(read_all(again, after)) == expected
    assert b"r2" in segments(tmp_path / "j")[0].read_bytes()


def test_a_torn_end_is_mended_by_the_next_write(tmp_path: Path) -> None:
    disk = FaultyDisk()
    journal, written = torn(tmp_path / "j", disk)
    del disk.failing["truncate"]
    written |= put_down(journal, b"n2")
    assert len(segments(tmp_path / "j")) == 1
    assert dict(read_all(journal)) == written
    disk.release()
    assert reopened(tmp_path / "j") == written


def test_a_torn_end_is_mended_when_the_journal_closes(tmp_path: Path) -> None:
    """Nothing comes later that would make good for it."""
    disk = FaultyDisk()
    journal, written = torn(tmp_path / "j", disk)
    del disk.failing["truncate"]
    journal.close()
    assert reopened(tmp_path / "j") == written


def test_a_torn_end_can_come_twice_at_the_same_number(tmp_path: Path) -> None:
    disk = FaultyDisk()
    journal, written = torn(tmp_path / "j", disk)
    behind = ["truncate", "open", "write", "rename", "write", "write"]  # in the new segment the torn write goes on
    disk.faults = {len(disk.calls) + 5: "short", len(disk.calls) + 6: "EIO"}
    calls = len(disk.calls)
    refuse(journal, b"s2", b"s3", b"s4", b"s5")
    assert disk.calls[calls : calls + 6] == behind
    assert b"s3" in segments(tmp_path / "j")[1].read_bytes()
    written |= put_down(journal, b"n2")
    assert dict(read_all(journal)) == written
    disk.release()
    assert reopened(tmp_path / "j") == written


def test_a_failed_sync_does_not_mix_up_what_is_added_meanwhile(tmp_path: Path) -> None:
    """What was put down and is not durable is written again, before what waits."""
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk) as journal:
        written = put_down(journal, b"a", b"b", b"c")
        added = add(journal, b"d", b"e")
        disk.faults = {len(disk.calls) + 1: "EIO"}
        assert journal.sync()
        assert journal.durable == 3
        journal.put_down()
        assert dict(read_all(journal)) == written | added
        assert journal.sync()
        assert journal.durable == 5
    assert reopened(tmp_path / "j") == written | added


def test_what_is_only_added_cannot_be_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        with opened(tmp_path / "j") as journal:
            (number,) = add(journal, b"a")
            with pytest.raises(ValueError, match="no record"):
                await journal.wait_durable(number)
            with pytest.raises(ValueError, match="no record"):
                journal.acknowledge(number)

    run(scenario())


def test_the_limits_count_what_is_not_down_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RESERVE_BYTES", 100)
    record, disk = b"x" * (33 - RECORD_BYTES), FaultyDisk()
    with opened(tmp_path / "j", disk, max_bytes=200, segment_bytes=ROOMY) as journal:
        for _ in range(2):
            add(journal, *[record] * 6, is_reserved=False)
            with pytest.raises(JournalUnavailable, match="full"):
                journal.add(b"xxx")
            add(journal, *[record] * 3)
            with pytest.raises(JournalUnavailable, match="full"):
                journal.add(b"x" * 20, is_reserved=True)
            disk.failing = {"write": errno.EIO}
            with pytest.raises(JournalUnavailable, match="cannot be written"):
                journal.put_down()
            disk.failing.clear()
        assert journal.unacknowledged_bytes == 0
        put_down(journal, *[record] * 9)
        assert journal.unacknowledged_bytes == 297


def test_what_the_disk_has_not_synced_counts_with_what_is_not_down_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = b"x" * (33 - RECORD_BYTES)
    monkeypatch.setattr(journal_module, "MAX_UNSYNCED_BYTES", 100)
    with opened(tmp_path / "j", segment_bytes=ROOMY) as journal:
        put_down(journal, record)
        add(journal, *[record] * 2, is_reserved=False)
        with pytest.raises(JournalUnavailable, match="slow"):
            journal.add(record)
        journal.put_down()
        assert journal.sync()
        assert journal.add(record) == 4
