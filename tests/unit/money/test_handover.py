"""Charges on their way from recorder to writer: each once, in order, be it from memory or from the journal."""

import pytest

from tests.aio import run
from tests.fake_journal import MemoryJournal
from tests.fakes import make_charge
from tests.unit.money.scripted_store import NEVER_S, Bench, ScriptedStore, running, seqs, turns
from trollproxy.errors import StoreUnavailable
from trollproxy.money import handover as module
from trollproxy.money import writer as writer_module
from trollproxy.money.handover import Handover
from trollproxy.money.recorder import Recorder
from trollproxy.records import Batch


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_MIN_S", 0.0)
    monkeypatch.setattr(writer_module, "_RETRY_MAX_S", 0.0)


class Unread(MemoryJournal):
    """Counts how often it is read."""

    asked = 0

    def read(self, after: int, *, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        self.asked += 1
        return super().read(after, max_records=max_records, max_bytes=max_bytes)


def numbers(handover: Handover, after: int, to: int) -> list[int] | None:
    found = handover.take(after, to)
    return None if found is None else [charge.seq for charge in found]


def filled(*seq: int, whole_after: int = 0) -> Handover:
    handover = Handover(whole_after)
    for number in seq:
        handover.put(make_charge(number))
    return handover


def test_what_is_taken_stays_until_it_is_on_the_books() -> None:
    handover = filled(2, 4, 7)
    assert numbers(handover, 0, 5) == numbers(handover, 0, 5) == [2, 4]
    handover.drop(5)
    assert (numbers(handover, 5, 9), len(handover)) == ([7], 1)
    assert numbers(handover, 4, 9) is None  # set back: what was dropped is in the journal alone


def test_what_was_there_before_is_the_journals() -> None:
    handover = filled(12, whole_after=10)
    assert numbers(handover, 9, 20) is None
    assert numbers(handover, 10, 20) == [12]


def test_the_oldest_make_room_and_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHARGES", 2)
    handover = filled(1, 3, 5, 7)
    assert len(handover) == 2
    assert numbers(handover, 2, 9) is None
    assert numbers(handover, 3, 9) == [5, 7]


def test_what_is_new_is_not_read_back() -> None:
    async def scenario() -> None:
        journal = Unread()
        bench = Bench(ScriptedStore(), interval_s=NEVER_S, journal=journal)
        for start in (1, 3):
            bench.intend(start, start + 1)
            bench.record(start + 1, start)
            await bench.writer.flush(NEVER_S)
        assert seqs(bench.store.batches) == [[3, 4], [7, 8]]
        assert (journal.asked, journal.acknowledged, len(bench.recorder.fresh)) == (0, 8, 0)
        charges = [charge for batch in bench.store.batches for charge in batch.charges]
        assert charges == [entry.charge for entry in journal.entries if hasattr(entry, "charge")]

    run(scenario())


@pytest.mark.parametrize("room", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("batch", [1, 3, 1500])
def test_an_outage_beyond_memory_loses_nothing(monkeypatch: pytest.MonkeyPatch, room: int, batch: int) -> None:
    monkeypatch.setattr(module, "MAX_CHARGES", room)
    monkeypatch.setattr(writer_module, "MAX_RECORDS", batch)

    async def scenario() -> None:
        store = ScriptedStore(*(StoreUnavailable("down") for _ in range(2)))
        bench = Bench(store, interval_s=NEVER_S)
        bench.intend(1, 2)
        bench.record(1, 2, 3)
        await bench.writer.flush(NEVER_S)
        store.script.append(StoreUnavailable("down"))
        bench.record(*range(4, 12))
        await bench.writer.flush(NEVER_S)
        bench.record(12)
        await bench.writer.close(NEVER_S)
        assert [seq for found in seqs(store.batches) for seq in found] == list(range(3, 15))
        assert (bench.writer.queued, bench.journal.acknowledged) == (0, 14)

    run(scenario())


def test_what_an_earlier_run_left_comes_before_what_is_new() -> None:
    async def scenario() -> None:
        first = Bench(ScriptedStore(), interval_s=NEVER_S)
        first.record(1, 2)
        journal = first.journal.reopened()
        second = Bench(ScriptedStore(), interval_s=NEVER_S, journal=journal)
        second.record(3)
        await second.writer.flush(NEVER_S)
        second.record(4)
        await second.writer.flush(NEVER_S)
        assert seqs(second.store.batches) == [[1, 2, 3], [4]]

    run(scenario())


def test_what_comes_while_the_disk_syncs_waits_for_the_next_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number could still be lost with the power, and be given again."""
    monkeypatch.setattr(writer_module, "SYNC_PATIENCE_S", NEVER_S)

    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store)
        bench.journal.is_syncing = False
        async with running(bench.writer):
            bench.record(1)
            await turns()
            await bench.journal.sync_now()
            bench.record(2)
            await turns()
            assert seqs(store.tried) == [[1]]
            await bench.journal.sync_now()
            await store.calls_end(2)
        assert seqs(store.batches) == [[1], [2]]

    run(scenario())


class Busy(ScriptedStore):
    """During each write another charge comes."""

    bench: Bench

    async def write_batch(self, batch: Batch) -> None:
        self.bench.record(100 + len(self.batches))
        self.bench.writer.used("key-1", 1.0)
        await super().write_batch(batch)


def test_under_load_charges_wait_for_the_timer_and_go_together() -> None:
    async def scenario() -> None:
        store = Busy()
        bench = store.bench = Bench(store, interval_s=NEVER_S)
        bench.record(1, 2)
        await bench.writer.flush(NEVER_S)
        assert seqs(store.batches) == [[1, 2]]
        bench.record(3)
        await bench.writer.flush(NEVER_S)
        assert seqs(store.batches) == [[1, 2], [3, 4]]

    run(scenario())


def test_a_charge_that_the_disk_refused_is_handed_over_once_it_is_down() -> None:
    journal = MemoryJournal()
    recorder = Recorder(journal)
    journal.refusing = "everything"
    recorder.record(make_charge(1))
    assert len(recorder.fresh) == 0
    journal.refusing = "nothing"
    recorder.flush()
    assert numbers(recorder.fresh, 0, 9) == [1]
