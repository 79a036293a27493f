"""The journal on a real disk: what was put down is there, whatever fails or crashes, and nothing else is."""

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from tests.aio import run
from tests.integration.journal_lab import append, fill, make, opened, read_all, reopened, segments
from tests.unit.money.test_segments import Crash, FaultyDisk
from trollproxy.money import journal as journal_module
from trollproxy.money.journal import Journal, JournalUnavailable
from trollproxy.money.segments import HEADER_BYTES, RECORD_BYTES, Header, encode_header


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of damaged journals are opened here, and each says so."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# Damage


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    assert list(fill(tmp_path / "j", 5)) == [1, 2, 3, 4, 5]
    assert list(fill(tmp_path / "j", 5)) == [6, 7, 8, 9, 10]
    with opened(tmp_path / "j") as journal:
        assert (journal.first, journal.last, journal.durable, journal.id) == (1, 10, 10, b"journal1".hex())
        assert [number for number, _ in read_all(journal, 7)] == [8, 9, 10]
        assert journal.bytes_on_disk == sum(path.stat().st_size for path in segments(tmp_path / "j"))


def test_a_cut_anywhere_costs_what_lies_behind_it(tmp_path: Path) -> None:
    records = fill(tmp_path / "sample", 4, segment_bytes=1000)
    data = segments(tmp_path / "sample")[0].read_bytes()
    size = (len(data) - HEADER_BYTES) // 4
    for cut in range(len(data)):
        path = tmp_path / str(cut)
        shutil.copytree(tmp_path / "sample", path)
        os.truncate(segments(path)[0], cut)
        whole = max(cut - HEADER_BYTES, 0) // size
        assert reopened(path) == dict(list(records.items())[:whole]), cut
        assert not list(path.glob("*.quarantine"))


def test_a_flipped_bit_costs_its_own_record_only(tmp_path: Path) -> None:
    with opened(tmp_path / "sample", segment_bytes=70) as journal:
        records = {append(journal, payload): payload for payload in (b"a", b"b", b"c", b"d", b"e")}
    files = segments(tmp_path / "sample")
    assert len(files) == 3
    for file in files:
        for bit in range(file.stat().st_size * 8):
            path = tmp_path / "copy"
            shutil.copytree(tmp_path / "sample", path)
            data = bytearray(file.read_bytes())
            data[bit // 8] ^= 1 << bit % 8
            (path / file.name).write_bytes(data)
            found = reopened(path)
            lost = records.keys() - found.keys()
            assert found.items() <= records.items(), (file.name, bit)
            assert len(lost) == (bit >= HEADER_BYTES * 8), (file.name, bit)
            kept = [kept.read_bytes() for kept in path.glob("*.quarantine")]
            assert kept == ([] if lost == {5} else [bytes(data)]), (file.name, bit)
            shutil.rmtree(path)


def test_damage_that_comes_while_the_journal_is_open_is_stepped_over(tmp_path: Path) -> None:
    with opened(tmp_path / "j", segment_bytes=1000) as journal:
        for number in range(1, 9):
            assert append(journal, b"%d" % number) == number
        file = segments(tmp_path / "j")[0]
        data = bytearray(file.read_bytes())
        data[HEADER_BYTES + 3 * (RECORD_BYTES + 1)] ^= 128
        file.write_bytes(data)
        assert [number for number, _ in read_all(journal)] == [1, 2, 3, 5, 6, 7, 8]
        file.write_bytes(data[:-1] + b"?")
        assert [number for number, _ in read_all(journal, 4)] == [5, 6, 7]
        assert append(journal, b"9") == 9
        assert read_all(journal, 7) == [(9, b"9")]


def test_a_segment_damaged_twice_keeps_both_files(tmp_path: Path) -> None:
    fill(tmp_path / "j", 7)
    for place in (HEADER_BYTES + 20, HEADER_BYTES + 24):
        file = segments(tmp_path / "j")[0]
        data = bytearray(file.read_bytes())
        data[place] ^= 1
        file.write_bytes(data)
        with opened(tmp_path / "j") as journal:
            assert journal.quarantined == 1
    assert len(list((tmp_path / "j").glob("*.quarantine"))) == 2
    assert list(reopened(tmp_path / "j"))[-4:] == [4, 5, 6, 7]


def test_foreign_files_are_not_mixed_in(tmp_path: Path) -> None:
    records = fill(tmp_path / "j", 4)
    (tmp_path / "j" / "notes.txt").write_text("mine")
    foreign = tmp_path / "j" / f"{5:020}.journal"
    foreign.write_bytes(encode_header(Header(b"stranger", 5)))
    (tmp_path / "j" / f"{900:020}.new").write_bytes(b"half made")
    assert reopened(tmp_path / "j") == records
    assert foreign.with_suffix(".foreign").exists()
    assert (tmp_path / "j" / "notes.txt").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"6a6f75726e616c31 1 00000000\n"])
def test_a_lost_acknowledgement_means_flushing_again(tmp_path: Path, content: bytes) -> None:
    records = fill(tmp_path / "j", 4)
    (tmp_path / "j" / "acknowledged").write_bytes(content)
    with opened(tmp_path / "j") as journal:
        assert (journal.acknowledged, journal.id) == (0, b"journal1".hex())
        assert dict(read_all(journal)) == records


def test_a_number_the_store_has_is_not_given_again(tmp_path: Path) -> None:
    """A power cut may take records that were flushed already; a new record in their place would never be flushed."""
    fill(tmp_path / "j", 4, segment_bytes=1000)
    with opened(tmp_path / "j", segment_bytes=1000) as journal:
        journal.acknowledge(4)
    os.truncate(segments(tmp_path / "j")[0], HEADER_BYTES + 30)
    with opened(tmp_path / "j", segment_bytes=1000) as journal:
        assert append(journal, b"new") == 5
        assert read_all(journal, journal.acknowledged) == [(5, b"new")]
    assert list(reopened(tmp_path / "j")) == [1, 5]


# Failing and crashing at each call


def batch(turn: int) -> list[bytes]:
    """One, two, three records, and so on: what one turn of the loop brings."""
    return [b"payload %d of %d" % (number, turn) for number in range(turn % 3 + 1)]


def session(journal: Journal, told: dict[int, bytes]) -> list[bytes]:
    """A life with everything in it: recovery with a rescue, rotation, syncs, reading, acknowledging, removing."""
    refused = []
    with suppress(OSError):
        journal.open()
        for turn in range(9):
            payloads = batch(turn)
            try:
                numbers = [journal.add(payload) for payload in payloads]
                journal.put_down()
            except JournalUnavailable:
                refused += payloads
            else:
                told.update(zip(numbers, payloads, strict=True))
            if turn % 3 == 2:
                journal.sync()
                journal.acknowledge(min(turn // 2, journal.last))
                with suppress(OSError):
                    assert set(read_all(journal, 4)) <= told.items()
        journal.discard_before(now_s=1e12)
        journal.close()
    return refused


def prepared(path: Path) -> dict[int, bytes]:
    """A journal whose first segment is damaged, so that the session begins with a rescue."""
    records = fill(path, 4)
    file = segments(path)[0]
    data = bytearray(file.read_bytes())
    data[HEADER_BYTES + 20] ^= 1
    file.write_bytes(data)
    del records[1]
    return records


def count_calls(path: Path) -> int:
    prepared(path)
    disk = FaultyDisk()
    disk.adopt(path)
    told: dict[int, bytes] = {}
    session(make(path, disk), told)
    assert len(told) == sum(len(batch(turn)) for turn in range(9))
    wanted = {"open", "close", "write", "read", "fsync", "fdatasync", "rename", "link", "unlink", "list", "stat"}
    assert set(disk.calls) >= wanted
    return len(disk.calls)


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC", "short", "EINTR"])
def test_a_failure_at_any_call(tmp_path: Path, fault: str) -> None:
    """What was reported as written is readable, now and after a restart; what was refused is not."""
    for call in range(1, count_calls(tmp_path / "count") + 1):
        path, told = tmp_path / str(call), dict[int, bytes]()
        before = prepared(path)
        disk = FaultyDisk({call: fault})
        disk.adopt(path)
        journal = make(path, disk)
        refused = session(journal, told)
        disk.release()
        found = reopened(path)
        kept = {number: payload for number, payload in (before | told).items() if number > journal.acknowledged}
        assert kept.items() <= found.items(), (call, disk.calls[call - 1])
        assert found.items() <= (before | told).items(), (call, disk.calls[call - 1])
        assert not before.keys() & told.keys()
        assert refused == []  # one failure is always got round


@pytest.mark.parametrize("fault", ["before", "after", "torn"])
@pytest.mark.parametrize("power", [True, False], ids=["power is kept", "power is lost"])
def test_a_crash_at_any_call(tmp_path: Path, fault: str, *, power: bool) -> None:
    """The process dies: everything that was put down is there. The machine dies: everything durable is."""
    for call in range(1, count_calls(tmp_path / "count") + 1):
        path, told = tmp_path / str(call), dict[int, bytes]()
        before = prepared(path)
        disk = FaultyDisk({call: fault})
        disk.adopt(path)
        journal = make(path, disk)
        with suppress(Crash):
            session(journal, told)
        disk.release()
        if not power:
            disk.lose_power(path)
        safe = journal.last if power else journal.durable
        found = reopened(path)
        wanted = {number: payload for number, payload in told.items() if journal.acknowledged < number <= safe}
        assert wanted.items() <= found.items(), (call, disk.calls[-1])
        assert {number: before[number] for number in before if number > journal.acknowledged}.items() <= found.items()
        extra = found.items() - (before | told).items()
        turn = next(turn for turn in range(10) if batch(turn)[0] not in told.values())
        unfinished = batch(turn)[: len(extra)]  # what was being put down is there up to where it broke off
        assert [payload for _, payload in sorted(extra)] == unfinished
        shutil.rmtree(path)


def test_a_full_disk_refuses_and_works_again_by_itself(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk) as journal:
        assert append(journal, b"before") == 1
        for call in ("write", "truncate"):  # the second one: not even a torn record can be taken back
            disk.failing[call] = errno.ENOSPC
            disk.faults = {len(disk.calls) + 1: "short"}
            for _ in range(3):
                with pytest.raises(JournalUnavailable):
                    append(journal, b"refused", is_reserved=True)
            assert read_all(journal) == [(1, b"before")]
        disk.failing.clear()
        assert append(journal, b"after") == 2
        names = ["write", "truncate", "open", "write", "rename", "write"]  # the new segment takes no record either
        for refusal in (True, False):
            disk.faults = {len(disk.calls) + 1: "EIO"} | ({len(disk.calls) + len(names): "EIO"} if refusal else {})
            with pytest.raises(JournalUnavailable) if refusal else nullcontext():
                append(journal, b"again", is_reserved=True)
            assert [number for number, _ in journal.read(2, max_records=9, max_bytes=9)] == ([] if refusal else [3])
    assert reopened(tmp_path / "j") == {1: b"before", 2: b"after", 3: b"again"}


def test_a_torn_record_that_cannot_be_taken_back_is_left_behind(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk) as journal:
        append(journal, b"before")
        journal.sync()
        next_call = len(disk.calls) + 1
        disk.faults = {next_call: "short", next_call + 1: "EIO", next_call + 2: "EIO"}  # write, write, truncate
        assert append(journal, b"after") == 2
        assert len(segments(tmp_path / "j")) == 2
        assert read_all(journal) == [(1, b"before"), (2, b"after")]
    assert reopened(tmp_path / "j") == {1: b"before", 2: b"after"}
    assert not list((tmp_path / "j").glob("*.quarantine"))


def test_a_failing_disk_is_not_asked_by_every_request(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk) as journal:
        append(journal, b"before")
        journal._clock = lambda: 100.0
        disk.failing["write"] = errno.EIO
        for _ in range(5):
            with pytest.raises(JournalUnavailable):
                append(journal, b"refused")
        assert disk.calls[-6:].count("write") == 2
        disk.failing.clear()
        assert append(journal, b"charge of an admitted request", is_reserved=True) == 2
        journal._clock = lambda: 101.0
        assert append(journal, b"after") == 3


# Limits and retention


def test_the_hard_limit_and_what_lies_beyond_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RESERVE_BYTES", 100)
    with opened(tmp_path / "j", max_bytes=200) as journal:
        for _ in range(6):
            append(journal, b"x" * (33 - RECORD_BYTES))
        assert journal.unacknowledged_bytes == 198
        with pytest.raises(JournalUnavailable, match="full"):
            append(journal, b"xxx")
        for _ in range(3):
            append(journal, b"x" * (33 - RECORD_BYTES), is_reserved=True)
        with pytest.raises(JournalUnavailable, match="full"):
            append(journal, b"x" * 20, is_reserved=True)
        journal.acknowledge(9)
        assert journal.unacknowledged_bytes == 0
        monkeypatch.setattr(journal_module, "MAX_UNSYNCED_BYTES", 9 * 33)
        with pytest.raises(JournalUnavailable, match="slow"):
            append(journal, b"xxx")
        assert journal.sync()
        assert append(journal, b"xxx") == 10
        with pytest.raises(ValueError, match="most"):
            append(journal, bytes((1 << 20) + 1))
    with pytest.raises(JournalUnavailable):
        append(journal, b"closed")
    with opened(tmp_path / "j") as journal:
        assert (journal.acknowledged, len(read_all(journal, 9))) == (9, 1)


def test_a_nearly_full_disk_first_costs_what_the_store_has(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk) as journal:
        for _ in range(12):
            append(journal, b"x" * 24)
        journal.sync()
        journal.acknowledge(6)
        disk.room = 0.09
        journal._look_at = 0
        assert append(journal, b"there is room again") == 13
        assert journal.first == 3
        disk.room = 0.0
        journal._look_at = 0
        with pytest.raises(JournalUnavailable, match="nearly full"):
            append(journal, b"refused")
        assert journal.first == 7
        assert append(journal, b"reserved", is_reserved=True) == 14
        disk.room = 1.0
        journal._look_at = 0
        assert append(journal, b"again") == 15
        assert [number for number, _ in read_all(journal)] == list(range(7, 16))


def test_acknowledged_segments_are_kept_for_their_time(tmp_path: Path) -> None:
    fill(tmp_path / "j", 13)
    now_s = 1e9
    for file in segments(tmp_path / "j"):
        os.utime(file, (now_s, now_s))
    with opened(tmp_path / "j") as journal:
        journal.acknowledge(8)
        assert len(read_all(journal)) == 13
        assert journal.discard_before(now_s=now_s + 72 * 3600 - 1) == 0
        assert journal.discard_before(now_s=now_s + 72 * 3600 + 1) == 2
        assert (journal.first, len(read_all(journal))) == (7, 7)
        journal.acknowledge(13)
        assert journal.discard_before(0, now_s=now_s + 1) == 2
    assert list(reopened(tmp_path / "j")) == [13]


# Syncing


def test_one_sync_covers_many_appends(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = FaultyDisk()
        with opened(tmp_path / "j", disk, segment_bytes=1 << 20) as journal:
            task = asyncio.create_task(journal.sync_forever(0.001))
            await asyncio.sleep(0)
            for _ in range(3):
                numbers = [append(journal, b"x" * 100) for _ in range(100)]
                assert journal.durable < numbers[0]
                await asyncio.gather(*(journal.wait_durable(number) for number in numbers))
                assert journal.durable == journal.last == numbers[-1]
            await journal.wait_durable(1)
            assert disk.calls.count("fdatasync") == 2  # the new segment's first one is a full fsync
            with pytest.raises(ValueError, match="no record"):
                await journal.wait_durable(301)
            task.cancel()
            append(journal, b"after the task was cancelled, before it ended")

    run(scenario())


def test_waiting_ends_when_the_journal_closes(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = FaultyDisk()
        with opened(tmp_path / "j", disk) as journal:
            append(journal, b"x")
            waiting = asyncio.create_task(journal.wait_durable(1))
            given_up = asyncio.create_task(journal.wait_durable(1))
            await asyncio.sleep(0)
            assert given_up.cancel()
            disk.failing = {"fsync": errno.EIO, "fdatasync": errno.EIO}
        with pytest.raises(JournalUnavailable):
            await waiting

    run(scenario())


def test_what_a_failed_sync_covered_is_written_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = FaultyDisk()
        with opened(tmp_path / "j", disk) as journal:
            first = [append(journal, b"%d" % n) for n in range(3)]
            assert journal.sync()
            second = [append(journal, b"%d" % n) for n in range(3, 12)]  # over several segments
            disk.faults = {len(disk.calls) + 1: "EIO"}
            task = asyncio.create_task(journal.sync_forever(0))
            await journal.wait_durable(second[-1])
            task.cancel()
            assert "fdatasync" in disk.calls
            assert not journal.is_broken
            expected = [(number, b"%d" % (number - 1)) for number in first + second]
            assert read_all(journal) == expected
            assert len(segments(tmp_path / "j")) == 2
        assert reopened(tmp_path / "j") == dict(expected)

    run(scenario())


def test_a_disk_that_never_syncs_breaks_the_journal_until_it_does(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with opened(tmp_path / "j", disk) as journal:
        for call in ("fsync", "open"):
            number = append(journal, b"before")
            disk.failing = {"fsync": errno.EIO, "fdatasync": errno.EIO, call: errno.EIO}
            assert not journal.sync()
            assert journal.is_broken
            with pytest.raises(JournalUnavailable):
                append(journal, b"refused", is_reserved=True)
            assert not journal.sync()
            disk.failing.clear()
            assert journal.sync()
            assert (journal.is_broken, journal.durable) == (False, number)
    assert len(reopened(tmp_path / "j")) == 2


def test_a_sync_that_outlives_its_task_is_still_heard(tmp_path: Path) -> None:
    """Were its failure lost, the next sync of the same file would succeed without the data being there."""

    async def scenario() -> None:
        disk = FaultyDisk()
        with opened(tmp_path / "j", disk) as journal:
            append(journal, b"x")
            disk.faults = {len(disk.calls) + 1: "EIO"}
            task = asyncio.create_task(journal.sync_forever(0))
            while journal._round is None:
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert journal.sync()
            assert disk.calls.count("rename") == 3  # `acknowledged`, the segment, the segment again
            assert read_all(journal) == [(1, b"x")]

    run(scenario())
