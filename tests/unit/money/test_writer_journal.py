"""The writer's place in the journal: what is read again, what is acknowledged, what is waited for."""

import pytest

from tests.aio import run
from tests.fake_journal import MemoryJournal
from tests.unit.money.scripted_store import NEVER_S, Bench, ScriptedStore, running, seqs, turns
from trollproxy.errors import StoreUnavailable
from trollproxy.money import writer as module


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_MIN_S", 0.0)
    monkeypatch.setattr(module, "_RETRY_MAX_S", 0.0)


def test_nothing_is_acknowledged_before_the_stores_yes() -> None:
    async def scenario() -> None:
        store = ScriptedStore(StoreUnavailable("down"))
        bench = Bench(store)
        async with running(bench.writer):
            bench.intend(1)
            bench.record(1)
            await store.calls_end(1)
            assert bench.journal.acknowledged == 0
            store.gate.clear()
            await turns()
            assert seqs(store.tried) == [[2], [2]]
            assert bench.journal.acknowledged == 0
            store.gate.set()
            await store.calls_end(1)
            await turns()
            assert bench.journal.acknowledged == 2

    run(scenario())


def test_an_open_intent_is_never_acknowledged() -> None:
    async def scenario() -> None:
        bench = Bench(ScriptedStore(), interval_s=NEVER_S)
        reached = []
        bench.intend(1, 2)
        for number in (2, 1):
            bench.record(number)
            await bench.writer.flush(NEVER_S)
            reached.append(bench.journal.acknowledged)
        assert reached == [0, 4]
        assert seqs(bench.store.batches) == [[3], [4]]

    run(scenario())


def test_a_restart_amid_open_intents_charges_nothing_twice() -> None:
    async def scenario() -> None:
        first = Bench(ScriptedStore(), interval_s=NEVER_S)
        first.intend(1, 2)
        first.record(2)
        await first.writer.flush(NEVER_S)
        second = Bench(ScriptedStore(), interval_s=NEVER_S, journal=first.journal.reopened())
        second.writer.replay_after(3)
        assert second.recorder.recover() == 1
        await second.writer.flush(NEVER_S)
        found = [(charge.seq, charge.request_id) for batch in second.store.batches for charge in batch.charges]
        assert found == [(3, "req-2"), (4, "req-1")]  # the first under its old number: the store knows that it has it
        assert second.journal.acknowledged == 4

    run(scenario())


def test_what_a_store_lost_is_written_again_and_the_batch_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 1)

    async def scenario() -> None:
        first = Bench(ScriptedStore(), interval_s=NEVER_S)
        first.record(1, 2, 3)
        await first.writer.close(NEVER_S)
        assert first.journal.acknowledged == 3
        second = Bench(ScriptedStore(), interval_s=NEVER_S, journal=first.journal.reopened())
        second.writer.replay_after(2)
        await second.writer.flush(NEVER_S)
        assert seqs(second.store.batches) == [[2], [3]]
        assert second.writer.queued == 0

    run(scenario())


def test_a_store_that_is_ahead_of_the_acknowledgement_skips_nothing() -> None:
    async def scenario() -> None:
        first = Bench(ScriptedStore(), interval_s=NEVER_S)
        first.record(1, 2)
        second = Bench(ScriptedStore(), interval_s=NEVER_S, journal=first.journal.reopened())
        second.writer.replay_after(1)
        await second.writer.flush(NEVER_S)
        assert seqs(second.store.batches) == [[1, 2]]

    run(scenario())


def test_only_charges_of_this_run_are_queued() -> None:
    async def scenario() -> None:
        first = Bench(ScriptedStore(), interval_s=NEVER_S)
        first.record(1, 2)
        first.intend(3)
        second = Bench(ScriptedStore(), interval_s=NEVER_S, journal=first.journal.reopened())
        assert second.writer.queued == 0
        assert second.recorder.recover() == 1
        assert second.writer.queued == 1
        await second.writer.flush(NEVER_S)
        assert seqs(second.store.batches) == [[1, 2, 4]]
        assert second.writer.queued == 0

    run(scenario())


def test_without_batching_what_an_earlier_run_left_needs_no_new_charge() -> None:
    """The flush at the start is bounded; what it does not get done is written while serving."""

    async def scenario() -> None:
        first = Bench(ScriptedStore())
        first.record(1, 2)
        store = ScriptedStore()
        second = Bench(store, journal=first.journal.reopened())
        async with running(second.writer):
            await turns()
        assert seqs(store.batches) == [[1, 2]]

    run(scenario())


def test_the_store_waits_until_a_power_cut_cannot_take_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYNC_PATIENCE_S", NEVER_S)

    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store)
        bench.journal.is_syncing = False
        async with running(bench.writer):
            bench.record(1)
            await turns()
            assert store.tried == []
            await bench.journal.sync_now()
            await store.calls_end(1)
        assert seqs(store.batches) == [[1]]

    run(scenario())


def test_a_disk_that_does_not_sync_keeps_no_charge_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYNC_PATIENCE_S", 0.001)

    async def scenario() -> None:
        bench = Bench(ScriptedStore())
        bench.journal.is_syncing = False
        bench.record(1)
        await bench.writer.flush(NEVER_S)
        assert seqs(bench.store.batches) == [[1]]
        assert (bench.journal.durable, bench.writer.queued) == (0, 0)

    run(scenario())


def test_closing_tries_the_disk_once_more() -> None:
    """Else the next start takes an answered request for one that a crash cut off, and charges less or nothing."""

    async def scenario() -> None:
        bench = Bench(ScriptedStore(), interval_s=NEVER_S)
        bench.intend(1)
        bench.journal.refusing = "everything"
        bench.record(1)
        bench.journal.refusing = "nothing"
        await bench.writer.close(NEVER_S)
        assert bench.recorder.refused == 0
        assert seqs(bench.store.batches) == [[2]]

    run(scenario())


class Damaged(MemoryJournal):
    """Its last record cannot be read, as after damage or a quarantine. Whoever asks for it for ever fails."""

    asked = 0

    def read(self, after: int, *, max_records: int, max_bytes: int) -> list[tuple[int, bytes]]:
        found = super().read(after, max_records=max_records, max_bytes=max_bytes)
        readable = [(number, payload) for number, payload in found if number < self.last]
        self.asked += not readable
        assert self.asked < 100, "reads for ever, and the loop serves nobody"
        return readable


def test_a_record_that_cannot_be_read_does_not_hang_the_gateway() -> None:
    async def scenario() -> None:
        journal = Damaged()
        Bench(ScriptedStore(), interval_s=NEVER_S, journal=journal).record(1, 2)
        bench = Bench(ScriptedStore(), interval_s=NEVER_S, journal=journal)
        await bench.writer.flush(0.01)
        assert seqs(bench.store.batches) == [[1]]

    run(scenario())


def test_boundaries_are_passed_in_order() -> None:
    async def scenario() -> None:
        passed: list[str] = []
        bench = Bench(ScriptedStore(), interval_s=NEVER_S, at=passed.append)
        bench.intend(1)
        bench.record(1)
        passed.clear()
        await bench.writer.flush(NEVER_S)
        assert passed == ["before_flush", "after_flush", "after_acknowledge"]

    run(scenario())
