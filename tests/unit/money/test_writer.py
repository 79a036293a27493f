"""The flusher against a store that is scripted call by call: order, nothing lost, nobody blocked."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.aio import run
from tests.unit.money.scripted_store import NEVER_S, Bench, ScriptedStore, running, seqs, turns
from trollproxy.errors import GatewayError, InvalidRequest, StoreUnavailable
from trollproxy.money import writer as module
from trollproxy.money.writer import Writer
from trollproxy.records import Batch, User


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_MIN_S", 0.0)
    monkeypatch.setattr(module, "_RETRY_MAX_S", 0.0)


def test_without_batching_every_charge_wakes_the_flusher() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store)
        async with running(bench.writer):
            for number in (1, 2):
                bench.record(number)
                await store.calls_end(1)
        assert seqs(store.batches) == [[1], [2]]
        assert {batch.writer for batch in store.batches} == {bench.journal.id}

    run(scenario())


def test_with_batching_charges_wait_for_the_timer() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=0.001)
        bench.record(1, 2, 3)
        assert bench.writer.queued == 3
        async with running(bench.writer):
            await store.calls_end(1)
        assert seqs(store.batches) == [[1, 2, 3]]

    run(scenario())


def test_many_charges_do_not_wait_for_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory keeps a bounded number of them at hand; those beyond it would have to be read back from the journal."""
    monkeypatch.setattr(module, "FLUSH_EARLY", 3)

    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=NEVER_S)
        async with running(bench.writer):
            bench.record(1, 2)
            await turns()
            assert store.batches == []
            bench.record(3)
            await store.calls_end(1)
        assert seqs(store.batches) == [[1, 2, 3]]

    run(scenario())


def test_with_batching_a_charge_wakes_nobody() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=NEVER_S)
        async with running(bench.writer):
            bench.record(1)
            await turns()
            assert store.tried == []

    run(scenario())


def test_more_than_a_batch_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 2)

    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=NEVER_S)
        bench.record(*range(1, 6))
        await bench.writer.flush(NEVER_S)
        assert seqs(store.batches) == [[1, 2], [3, 4], [5]]

    run(scenario())


def test_only_charges_go_to_the_store() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=NEVER_S)
        bench.intend(1, 2)
        await bench.writer.flush(NEVER_S)
        assert store.tried == []
        bench.record(2, 1)
        await bench.writer.flush(NEVER_S)
        assert seqs(store.batches) == [[3, 4]]

    run(scenario())


def test_an_outage_loses_nothing_and_keeps_the_order() -> None:
    async def scenario() -> None:
        store = ScriptedStore(*(StoreUnavailable("down") for _ in range(3)))
        bench = Bench(store)
        bench.writer.used("key-1", 5.0)
        async with running(bench.writer):
            bench.record(1)
            await store.calls_end(1)
            bench.record(2)
            bench.writer.used("key-1", 5.0 + module.LAST_USED_EVERY_S)
            await store.calls_end(3)
            await turns()
        assert [seq for batch in seqs(store.batches) for seq in batch] == [1, 2]
        assert store.tried[-1].last_used == {"key-1": 5.0 + module.LAST_USED_EVERY_S}
        assert (bench.writer.failures, bench.writer.queued) == (3, 0)

    run(scenario())


def test_a_last_use_alone_is_written() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=0.001)
        bench.writer.used("key-1", 5.0)
        async with running(bench.writer):
            await store.calls_end(1)
        assert store.batches == [Batch(writer=bench.journal.id, charges=(), last_used={"key-1": 5.0})]

    run(scenario())


def test_the_date_of_a_busy_key_is_written_once_in_a_while() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store)
        late_s = 5.0 + module.LAST_USED_EVERY_S
        for now_s in (5.0, 6.0, late_s - 0.1, late_s, late_s + 1.0):
            bench.writer.used("key-1", now_s)
            await bench.writer.flush(NEVER_S)
        assert [batch.last_used for batch in store.batches] == [{"key-1": 5.0}, {"key-1": late_s}]

    run(scenario())


def test_last_uses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LAST_USED", 2)

    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store)
        for name in "abc":
            bench.writer.used(name, 1.0)
        await bench.writer.close(NEVER_S)
        assert store.batches[0].last_used == {"a": 1.0, "b": 1.0}

    run(scenario())


def test_a_charge_is_in_the_account_until_the_store_has_it() -> None:
    async def scenario() -> None:
        store = ScriptedStore(StoreUnavailable("down"))
        bench = Bench(store)
        account = bench.accounts.put(User(username="ann", credits_nusd=1_000))
        account.unflushed["legacy"] = 100
        async with running(bench.writer):
            bench.record(1)
            await store.calls_end(1)
            assert (account.user.credits_nusd, account.unflushed["legacy"]) == (1_000, 100)
            await store.calls_end(1)
            async with bench.writer.quiet():
                assert (account.user.credits_nusd, account.unflushed["legacy"]) == (900, 0)

    run(scenario())


def test_one_that_is_refused_for_good_does_not_block_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        store.poison = {"req-2"}
        bench = Bench(store, interval_s=NEVER_S)
        bench.record(1, 2, 3)
        await bench.writer.close(NEVER_S)
        assert seqs(store.tried) == [[1, 2, 3], [1], [2], [3]]
        assert seqs(store.batches) == [[1], [3]]
        assert (bench.writer.queued, bench.writer.failures, bench.writer.set_aside) == (0, 0, 1)
        assert bench.journal.acknowledged == 3

    run(scenario())
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert [record.fields["request_id"] for record in critical] == ["req-2"]  # type: ignore[attr-defined]
    assert critical[0].fields["reason"] == "ledger_conflict"  # type: ignore[attr-defined]


def test_an_outage_amid_single_writes_repeats_them_all() -> None:
    async def scenario() -> None:
        refusal = InvalidRequest("No.", code="ledger_conflict")
        store = ScriptedStore(refusal, None, StoreUnavailable("down"))
        bench = Bench(store, interval_s=NEVER_S)
        bench.record(1, 2)
        await bench.writer.close(NEVER_S)
        assert seqs(store.tried) == [[1, 2], [1], [2], [1, 2]]
        assert sorted(store.charges) == ["req-1", "req-2"]
        assert (bench.writer.queued, bench.writer.set_aside) == (0, 0)

    run(scenario())


def test_one_that_is_refused_twice_is_set_aside_once() -> None:
    async def scenario() -> None:
        refusal = InvalidRequest("No.", code="ledger_conflict")
        store = ScriptedStore(refusal, refusal, StoreUnavailable("down"))
        store.poison = {"req-1"}
        bench = Bench(store, interval_s=NEVER_S)
        bench.record(1, 2)
        await bench.writer.close(NEVER_S)
        assert list(store.charges) == ["req-2"]
        assert bench.writer.set_aside == 1

    run(scenario())


def test_nothing_is_flushed_in_a_quiet_moment() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store)
        async with running(bench.writer):
            async with bench.writer.quiet():
                bench.record(1)
                await turns()
                assert store.tried == []
            await store.calls_end(1)
        assert seqs(store.batches) == [[1]]

    run(scenario())


def test_a_quiet_moment_waits_for_the_flush_that_runs() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        store.gate.clear()
        bench = Bench(store)
        async with running(bench.writer):
            bench.record(1)
            await store.entered.wait()
            quiet = asyncio.create_task(look(bench.writer, lambda: bench.writer.queued))
            await turns()
            assert not quiet.done()
            store.gate.set()
            assert await quiet == 0

    run(scenario())


async def look(writer: Writer, read: Callable[[], int]) -> int:
    async with writer.quiet():
        return read()


def test_closing_flushes_what_is_left_and_ends_the_run() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=NEVER_S)
        task = asyncio.create_task(bench.writer.run())
        await turns(1)
        bench.record(1)
        await bench.writer.close(NEVER_S)
        await task
        assert [seq for batch in seqs(store.batches) for seq in batch] == [1]

    run(scenario())


@pytest.mark.parametrize("hang", [True, False])
def test_what_the_store_does_not_take_by_the_deadline_stays_in_the_journal(
    caplog: pytest.LogCaptureFixture, hang: bool
) -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        store.is_down = True
        if hang:
            store.gate.clear()
        bench = Bench(store, interval_s=NEVER_S)
        bench.record(1, 2)
        await bench.writer.close(0.002)
        assert (bench.writer.queued, bench.journal.acknowledged) == (2, 0)
        assert store.charges == {}
        later = ScriptedStore()
        await Bench(later, journal=bench.journal.reopened()).writer.close(NEVER_S)
        assert seqs(later.batches) == [[1, 2]]

    run(scenario())
    [warned] = [record for record in caplog.records if record.message == "charges stay in the journal"]
    assert warned.fields == {"charges": 2}  # type: ignore[attr-defined]


def test_a_flush_gives_up_at_its_deadline_and_another_goes_on() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        store.gate.clear()
        bench = Bench(store, interval_s=NEVER_S)
        bench.record(1)
        await bench.writer.flush(0.002)
        assert bench.writer.queued == 1
        store.gate.set()
        await bench.writer.flush(NEVER_S)
        assert (bench.writer.queued, list(store.charges)) == (0, ["req-1"])

    run(scenario())


def test_two_flushes_at_once_write_nothing_twice() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        bench = Bench(store)
        bench.record(1, 2)
        await asyncio.gather(*(bench.writer.flush(NEVER_S) for _ in range(3)))
        assert seqs(store.tried) == [[1, 2]]
        assert bench.writer.queued == 0

    run(scenario())


def test_a_cancelled_flush_can_be_repeated() -> None:
    """The call may have been applied all the same; the store knows what it has."""

    async def scenario() -> None:
        store = ScriptedStore()
        store.gate.clear()
        bench = Bench(store)
        task = asyncio.create_task(bench.writer.run())
        await turns(1)
        bench.record(1)
        await store.entered.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert bench.writer.queued == 1
        store.gate.set()
        await bench.writer.close(NEVER_S)
        assert list(store.charges) == ["req-1"]

    run(scenario())


@pytest.mark.parametrize("error", [StoreUnavailable("down"), InvalidRequest("no"), GatewayError("bug")])
def test_no_error_of_the_taxonomy_ends_the_run(error: GatewayError) -> None:
    async def scenario() -> None:
        store = ScriptedStore(error)
        bench = Bench(store)
        task = asyncio.create_task(bench.writer.run())
        bench.record(1)
        await store.calls_end(2)
        bench.record(2)
        await store.calls_end(1)
        assert not task.done()
        assert sorted(store.charges) == ["req-1", "req-2"]
        await bench.writer.close(NEVER_S)
        await task

    run(scenario())
