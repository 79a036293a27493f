"""The batcher against a store that is scripted call by call: order, nothing lost, nobody blocked."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.aio import run
from tests.fakes import make_charge
from tests.unit.money.scripted_store import NEVER_S, ScriptedStore, make_writer, running, seqs
from trollproxy.errors import GatewayError, InvalidRequest, Overloaded, StoreUnavailable
from trollproxy.money import writer as module
from trollproxy.money.accounts import Accounts
from trollproxy.money.writer import Writer
from trollproxy.records import Batch, User


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_MIN_S", 0.0)
    monkeypatch.setattr(module, "_RETRY_MAX_S", 0.0)


def test_without_batching_every_charge_wakes_the_flusher() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        writer = make_writer(store)
        async with running(writer):
            for seq in (1, 2):
                writer.record(make_charge(seq))
                await store.calls_end(1)
        assert seqs(store.batches) == [[1], [2]]
        assert {batch.writer for batch in store.batches} == {"w1"}

    run(scenario())


def test_with_batching_charges_wait_for_the_timer() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        writer = make_writer(store, interval_s=0.001)
        for seq in (1, 2, 3):
            writer.record(make_charge(seq))
        assert writer.queued == 3
        async with running(writer):
            await store.calls_end(1)
        assert seqs(store.batches) == [[1, 2, 3]]

    run(scenario())


def test_a_full_batch_does_not_wait_for_the_timer() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        writer = make_writer(store, interval_s=NEVER_S)
        async with running(writer):
            for seq in range(module.MAX_BATCH + 1):
                writer.record(make_charge(seq))
            await store.calls_end(2)
        assert [len(batch.charges) for batch in store.batches] == [module.MAX_BATCH, 1]
        assert sorted(seq for batch in seqs(store.batches) for seq in batch) == list(range(module.MAX_BATCH + 1))

    run(scenario())


def test_an_outage_loses_nothing_and_keeps_the_order() -> None:
    async def scenario() -> None:
        store = ScriptedStore(*(StoreUnavailable("down") for _ in range(3)))
        writer = make_writer(store)
        writer.used("key-1", 5.0)
        async with running(writer):
            writer.record(make_charge(1))
            await store.calls_end(1)
            writer.record(make_charge(2))
            writer.used("key-1", 6.0)
            await store.calls_end(3)
        assert [seq for batch in seqs(store.batches) for seq in batch] == [1, 2]
        assert store.tried[-1].last_used == {"key-1": 6.0}
        assert (writer.failures, writer.queued) == (3, 0)

    run(scenario())


def test_a_last_use_alone_is_written() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        writer = make_writer(store, interval_s=0.001)
        writer.used("key-1", 5.0)
        async with running(writer):
            await store.calls_end(1)
        assert store.batches == [Batch(writer="w1", charges=(), last_used={"key-1": 5.0})]

    run(scenario())


def test_a_charge_is_in_the_account_until_the_store_has_it() -> None:
    async def scenario() -> None:
        store, accounts = ScriptedStore(StoreUnavailable("down")), Accounts()
        account = accounts.put(User(username="ann", credits_nusd=1_000))
        account.unflushed["legacy"] = 100
        writer = make_writer(store, accounts)
        async with running(writer):
            writer.record(make_charge(1))
            await store.calls_end(1)
            assert (account.user.credits_nusd, account.unflushed["legacy"]) == (1_000, 100)
            await store.calls_end(1)
            async with writer.quiet():
                assert (account.user.credits_nusd, account.unflushed["legacy"]) == (900, 0)

    run(scenario())


def test_one_that_is_refused_for_good_does_not_block_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        store.poison = {"req-2"}
        writer = make_writer(store, interval_s=NEVER_S)
        for seq in (1, 2, 3):
            writer.record(make_charge(seq))
        await writer.close(NEVER_S)
        assert seqs(store.tried) == [[1, 2, 3], [1], [2], [3]]
        assert seqs(store.batches) == [[1], [3]]
        assert (writer.queued, writer.failures) == (0, 0)

    run(scenario())
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert [record.fields["request_id"] for record in critical] == ["req-2"]  # type: ignore[attr-defined]
    assert critical[0].fields["reason"] == "ledger_conflict"  # type: ignore[attr-defined]


def test_an_outage_amid_single_writes_repeats_them_all() -> None:
    async def scenario() -> None:
        refusal = InvalidRequest("No.", code="ledger_conflict")
        store = ScriptedStore(refusal, None, StoreUnavailable("down"))
        writer = make_writer(store, interval_s=NEVER_S)
        for seq in (1, 2):
            writer.record(make_charge(seq))
        await writer.close(NEVER_S)
        assert seqs(store.tried) == [[1, 2], [1], [2], [1, 2]]
        assert sorted(store.charges) == ["req-1", "req-2"]
        assert writer.queued == 0

    run(scenario())


def test_nothing_is_flushed_in_a_quiet_moment() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        writer = make_writer(store)
        async with running(writer):
            async with writer.quiet():
                writer.record(make_charge(1))
                for _ in range(20):
                    await asyncio.sleep(0)
                assert store.tried == []
            await store.calls_end(1)
        assert seqs(store.batches) == [[1]]

    run(scenario())


def test_a_quiet_moment_waits_for_the_flush_that_runs() -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        store.gate.clear()
        writer = make_writer(store)
        async with running(writer):
            writer.record(make_charge(1))
            await store.entered.wait()
            quiet = asyncio.create_task(look(writer, lambda: writer.queued))
            for _ in range(20):
                await asyncio.sleep(0)
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
        writer = make_writer(store, interval_s=NEVER_S)
        task = asyncio.create_task(writer.run())
        await asyncio.sleep(0)
        writer.record(make_charge(1))
        await writer.close(NEVER_S)
        await task
        assert [seq for batch in seqs(store.batches) for seq in batch] == [1]

    run(scenario())


@pytest.mark.parametrize("hang", [True, False])
def test_what_the_store_does_not_take_by_the_deadline_is_logged(caplog: pytest.LogCaptureFixture, hang: bool) -> None:
    async def scenario() -> None:
        store = ScriptedStore()
        store.is_down = True
        if hang:
            store.gate.clear()
        writer = make_writer(store, interval_s=NEVER_S)
        for seq in (1, 2):
            writer.record(make_charge(seq))
        await writer.close(0.002)
        assert writer.queued == 2
        assert store.charges == {}

    run(scenario())
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert [record.fields["request_id"] for record in critical] == ["req-1", "req-2"]  # type: ignore[attr-defined]
    assert all(record.fields["cost_nusd"] == 100 for record in critical)  # type: ignore[attr-defined]


def test_a_full_queue_admits_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 2)

    async def scenario() -> None:
        store = ScriptedStore()
        writer = make_writer(store, interval_s=NEVER_S)
        for seq in (1, 2):
            writer.admit()
            writer.record(make_charge(seq))
        with pytest.raises(Overloaded):
            writer.admit()
        writer.record(make_charge(3))  # was admitted before: it is never turned away
        await writer.close(NEVER_S)
        writer.admit()
        assert len(store.charges) == 3

    run(scenario())


def test_last_uses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LAST_USED", 2)

    async def scenario() -> None:
        store = ScriptedStore()
        writer = make_writer(store)
        for name in "abc":
            writer.used(name, 1.0)
        await writer.close(NEVER_S)
        assert store.batches[0].last_used == {"a": 1.0, "b": 1.0}

    run(scenario())


def test_numbers_grow_from_where_the_ledger_ends() -> None:
    async def scenario() -> None:
        writer = make_writer(ScriptedStore())
        writer.continue_after(41)
        assert [writer.next_seq() for _ in range(3)] == [42, 43, 44]

    run(scenario())


def test_the_lag_is_that_of_the_oldest_charge() -> None:
    async def scenario() -> None:
        writer = make_writer(ScriptedStore(), interval_s=NEVER_S)
        assert writer.oldest_age_s(100.0) == 0
        writer.record(make_charge(1, started_at_s=90.0))
        writer.record(make_charge(2, started_at_s=95.0))
        assert writer.oldest_age_s(100.0) == 10
        assert writer.oldest_age_s(80.0) == 0

    run(scenario())


def test_a_cancelled_flush_can_be_repeated() -> None:
    """The call may have been applied all the same; the store knows what it has."""

    async def scenario() -> None:
        store = ScriptedStore()
        store.gate.clear()
        writer = make_writer(store)
        task = asyncio.create_task(writer.run())
        writer.record(make_charge(1))
        await store.entered.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert writer.queued == 1
        store.gate.set()
        await writer.close(NEVER_S)
        assert list(store.charges) == ["req-1"]

    run(scenario())


@pytest.mark.parametrize("error", [StoreUnavailable("down"), InvalidRequest("no"), GatewayError("bug")])
def test_no_error_of_the_taxonomy_ends_the_run(error: GatewayError) -> None:
    async def scenario() -> None:
        store = ScriptedStore(error)
        writer = make_writer(store)
        task = asyncio.create_task(writer.run())
        writer.record(make_charge(1))
        await store.calls_end(2)
        writer.record(make_charge(2))
        await store.calls_end(1)
        assert not task.done()
        assert sorted(store.charges) == ["req-1", "req-2"]
        await writer.close(NEVER_S)
        await task

    run(scenario())
