"""Price tables on their way to the store: each once, before the charges that name them, through any outage."""

import asyncio
from contextlib import suppress

import msgspec
import pytest

from tests.aio import run
from tests.fakes import make_charge, make_intent, make_price
from tests.unit.money.scripted_store import NEVER_S, Bench, ScriptedStore, running, turns
from trollproxy.errors import StoreUnavailable
from trollproxy.money import writer as module
from trollproxy.money.invariants import Violations
from trollproxy.money.prices import PriceShelf
from trollproxy.records import Batch, Price


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_MIN_S", 0.0)
    monkeypatch.setattr(module, "_RETRY_MAX_S", 0.0)


def price(version: str) -> Price:
    return msgspec.structs.replace(make_price(), version=version)


def test_a_price_is_written_once() -> None:
    async def scene() -> None:
        store = ScriptedStore()
        shelf = PriceShelf(store, Violations())
        await shelf.write()
        for _ in range(3):
            shelf.take([price("a"), None, price("b")])
            await shelf.write()
        assert not shelf.is_waiting
        assert (sorted(store.prices), store.calls["write_prices"]) == (["a", "b"], 1)

    run(scene())


def test_what_comes_while_others_are_written_waits() -> None:
    async def scene() -> None:
        store = ScriptedStore()
        shelf = PriceShelf(store, Violations())
        shelf.take([price("a")])
        task = asyncio.create_task(shelf.write())
        await turns(1)
        shelf.take([price("b")])
        await task
        assert shelf.is_waiting
        await shelf.write()
        assert sorted(store.prices) == ["a", "b"]

    run(scene())


def test_a_conflict_is_told_and_holds_up_nobody() -> None:
    async def scene() -> None:
        store, violations = ScriptedStore(), Violations()
        store.prices["a"] = msgspec.structs.replace(price("a"), multiplier_micro=1)
        shelf = PriceShelf(store, violations)
        shelf.take([price("a")])
        await shelf.write()
        assert not shelf.is_waiting
        assert violations.counts["price_conflict"] == 1

    run(scene())


@pytest.mark.parametrize("interval_s", [0.0, NEVER_S])
def test_the_writer_stores_prices_at_once_and_without_a_charge(interval_s: float) -> None:
    async def scene() -> None:
        store = ScriptedStore()
        bench = Bench(store, interval_s=interval_s)
        async with running(bench.writer):
            bench.writer.keep_prices([price("a")])
            await turns()
            assert list(store.prices) == ["a"]
            bench.writer.keep_prices([price("a")])
            await turns()
        assert (store.calls["write_prices"], store.tried) == (1, [])

    run(scene())


def test_an_outage_delays_prices_and_nobody_waits() -> None:
    async def scene() -> None:
        store = ScriptedStore()
        store.failing.extend(StoreUnavailable("down") for _ in range(3))
        bench = Bench(store, interval_s=NEVER_S)
        bench.writer.keep_prices([price("a")])
        async with running(bench.writer):
            await turns(40)
        assert (list(store.prices), store.calls["write_prices"], bench.writer.failures) == (["a"], 4, 3)

    run(scene())


class InOrder(ScriptedStore):
    """A store that takes no charge whose price it does not have."""

    async def write_batch(self, batch: Batch) -> None:
        assert {charge.price_version for charge in batch.charges} <= self.prices.keys()
        await super().write_batch(batch)


def test_an_intents_prices_are_stored_before_its_charge() -> None:
    """Also those that the configuration no longer has when the store comes back."""

    async def scene() -> None:
        store = InOrder()
        store.failing.append(StoreUnavailable("down"))
        bench = Bench(store, interval_s=NEVER_S)
        bench.recorder.intend(make_intent(1, price=price("old"), upstream_price=price("theirs")))
        bench.recorder.record(make_charge(1, price_version="old"))
        await bench.writer.flush(NEVER_S)
        assert sorted(store.prices) == ["old", "theirs"]
        assert list(store.charges) == ["req-1"]

    run(scene())


def test_an_intent_that_was_read_long_before_its_charge() -> None:
    async def scene() -> None:
        store = InOrder()
        bench = Bench(store, interval_s=NEVER_S)
        bench.recorder.intend(make_intent(1, price=price("old")))
        await bench.writer.flush(NEVER_S)
        assert list(store.prices) == ["old"]
        bench.recorder.record(make_charge(1, price_version="old"))
        later = Bench(store, interval_s=NEVER_S, journal=bench.journal.reopened())
        await later.writer.flush(NEVER_S)
        assert list(store.charges) == ["req-1"]

    run(scene())


def test_a_cancelled_flush_keeps_the_dates_of_last_use() -> None:
    async def scene() -> None:
        store = ScriptedStore()
        store.gate.clear()
        bench = Bench(store)
        bench.writer.used("key-1", 5.0)
        bench.writer.used("key-2", 5.0)
        task = asyncio.create_task(bench.writer.run())
        bench.record(1)
        await store.entered.wait()
        bench.writer.used("key-2", 50.0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        store.gate.set()
        await bench.writer.close(NEVER_S)
        assert store.batches[-1].last_used == {"key-1": 5.0, "key-2": 50.0}

    run(scene())


def test_a_charge_in_conflict_with_the_ledger_is_a_violation() -> None:
    async def scene() -> None:
        store = ScriptedStore()
        store.poison = {"req-1"}
        bench = Bench(store, interval_s=NEVER_S)
        bench.record(1, 2)
        await bench.writer.close(NEVER_S)
        assert bench.writer.violations.counts["ledger_conflict"] == 1
        assert bench.writer.last_on_ledger == 2

    run(scene())
