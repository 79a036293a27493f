"""The Store contract on audits: prices kept by version, balances beside the ledger, and every charge page by page."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from bson.int64 import Int64

from tests.conformance.store_lab import (
    AT_S,
    Lab,
    MongoLab,
    make_batch,
    make_charge,
    make_user,
    play,
)
from tests.fakes import make_price
from trollproxy.control.audit import ChargeAudit, Mispriced, audit
from trollproxy.errors import GatewayError, StoreUnavailable
from trollproxy.ports import Store
from trollproxy.records import Batch, Credit, Price, Statement


def price(version: str, **per_mtok_nusd: int) -> Price:
    return msgspec.structs.replace(make_price(**per_mtok_nusd), version=version, multiplier_micro=1_050_000)


# Prices


def test_a_price_is_kept_for_good_however_often_it_is_written(lab: Lab) -> None:
    free, dear = price("a", uncached=0), price("b", out_text=10**15)

    async def scene(store: Store) -> None:
        for _ in range(2):
            await store.write_prices([free, dear])
        await store.write_prices([])
        assert await store.read_prices(["b", "nothing"]) == [dear]
        assert sorted(await store.read_prices(["a", "b"]), key=lambda each: each.version) == [free, dear]
        assert await store.read_prices([]) == []
        assert len(lab.rows("prices")) == 2

    play(lab, scene)


def test_a_version_does_not_change_its_content(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.write_prices([price("a")])
        with pytest.raises(GatewayError) as caught:
            await store.write_prices([price("a", uncached=1), price("b")])
        assert caught.value.code == "price_conflict"
        assert not isinstance(caught.value, StoreUnavailable)
        assert await store.read_prices(["a"]) == [price("a")]

    play(lab, scene)


def test_many_prices_at_once(lab: Lab) -> None:
    prices = [price(f"v{number:04}") for number in range(1_100)]

    async def scene(store: Store) -> None:
        await asyncio.gather(*(store.write_prices(prices) for _ in range(3)))
        found = await store.read_prices([each.version for each in prices])
        assert sorted(found, key=lambda each: each.version) == prices

    play(lab, scene)


# Balances beside the ledger


def credit(entry_id: str, amount: int) -> Credit:
    return Credit(
        entry_id=entry_id, username="ann", wallet="new", kind="purchase", amount_nusd=amount, created_at_s=AT_S
    )


async def statement(store: Store, username: str = "ann") -> Statement:
    [found] = await store.read_statements([username])
    return found


def test_a_statement_tells_what_the_single_sums_tell(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user(credits_nusd=500, ref_credits_nusd=30))
        await store.add_user(make_user("bob"))
        await store.apply_credit(credit("c-1", 70))
        charges = (make_charge(1), make_charge(2, wallet="new"), make_charge(3, username="nobody"))
        await store.write_batch(make_batch(*charges))
        [ann, bob] = sorted(await store.read_statements(["bob", "ann", "nobody"]), key=lambda each: each.user.username)
        assert [ann.user, bob.user] == await store.read_users(["ann", "bob"])
        assert ann.ledger_nusd == {"legacy": 430, "new": -30}
        assert bob.ledger_nusd == {"legacy": 0, "new": 0}
        assert await store.read_statements([]) == []
        assert (await audit(store)).differences == ()

    play(lab, scene)


def test_statements_of_many(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        names = [f"u{number:04}" for number in range(300)]
        for name in names:
            await store.add_user(make_user(name, credits_nusd=1, credits_new_nusd=2))
        found = await store.read_statements([*names, *(f"nobody-{number}" for number in range(400))])
        assert len(found) == 300
        assert all(each.ledger_nusd == {"legacy": 1, "new": 2} for each in found)

    play(lab, scene)


def test_a_dead_charge_is_no_drift(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        lab.put_unmigrated_user("old")
        await store.write_batch(make_batch(make_charge(1, username="old")))
        assert (await statement(store, "old")).ledger_nusd == {"legacy": 0, "new": 0}

    play(lab, scene)


async def no_pause(_: float) -> None:
    await asyncio.sleep(0)


def test_a_balance_that_was_moved_by_hand_is_found(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        for name in ("ann", "bob"):
            await store.add_user(make_user(name, credits_nusd=500))
        lab.put("ledger", stray_entry())
        [found] = (await audit(store, pause=no_pause)).differences
        assert (found.username, found.wallet, found.drift_nusd) == ("bob", "legacy", -7)

    play(lab, scene)


def stray_entry() -> dict[str, object]:
    entry = {"_id": "x", "type": "purchase", "username": "bob", "wallet": "legacy", "amount": Int64(7)}
    return entry | {"state": "applied", "createdAt": AT_S}


def test_books_that_are_being_written_show_no_drift(lab: Lab) -> None:
    names = [f"u{number}" for number in range(20)]

    def batch(writer: str, seq: int) -> Batch:
        """One charge of each, no two batches alike."""
        charges = (
            make_charge(seq + place, request_id=f"{writer}-{seq + place}", username=name, cost_nusd=1 + seq * place)
            for place, name in enumerate(names)
        )
        return make_batch(*charges, writer=writer)

    async def scene(store: Store) -> None:
        for name in names:
            await store.add_user(make_user(name, credits_nusd=10**9))
        is_done = asyncio.Event()

        async def flush_for_ever(writer: str) -> None:
            seq = 1
            while not is_done.is_set():
                await store.write_batch(batch(writer, seq))
                await asyncio.sleep(0.01)
                seq += len(names)

        flushing = [asyncio.create_task(flush_for_ever(f"w{number}")) for number in range(3)]
        looks = [await audit(store, pause=lambda pause_s: asyncio.sleep(pause_s / 20)) for _ in range(5)]
        is_done.set()
        await asyncio.gather(*flushing)
        assert [look.differences for look in looks] == [()] * len(looks)
        last = await audit(store)
        assert (last.differences, last.restless) == ((), 0)

    play(lab, scene)


# Every charge


def test_every_charge_is_paged_through_once(lab: Lab) -> None:
    charges = [make_charge(seq, request_id=f"req-{seq:03}", username="ann" if seq % 2 else "") for seq in range(25)]

    async def scene(store: Store) -> None:
        await store.write_batch(make_batch(*charges))
        assert await store.page_charges(limit=10) == charges[:10]
        assert await store.page_charges(after="req-009", limit=10) == charges[10:20]
        assert await store.page_charges(after="req-024") == []

    play(lab, scene)


async def collected(found: AsyncIterator[Mispriced]) -> list[tuple[str, int | None]]:
    return [(each.charge.request_id, each.expected_nusd) async for each in found]


def test_charges_are_recomputed_from_what_is_stored(lab: Lab) -> None:
    right = make_charge(1, price_version="a", cost_nusd=23_100)  # 22 tokens at 0.00105 dollars a thousand

    async def scene(store: Store) -> None:
        await store.write_prices([price("a")])
        wrong = make_charge(2, price_version="a", cost_nusd=23_101)
        await store.write_batch(make_batch(right, wrong, make_charge(3, price_version="b")))
        assert await collected(ChargeAudit(store).mispriced()) == [("req-2", 23_100), ("req-3", None)]

    play(lab, scene)


def test_a_credit_cut_short_after_its_balance_moved_is_no_drift(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        await store.apply_credit(credit("c-1", 50))
        ledger = mongo_lab.client[mongo_lab.database]["ledger"]
        ledger.update_one({"_id": "c-1"}, {"$set": {"state": "pending"}})
        assert (await statement(store)).ledger_nusd == {"legacy": 0, "new": 50}
        ledger.insert_one(ledger.find_one({"_id": "c-1"}) | {"_id": "c-2"})  # type: ignore[operator]
        assert (await statement(store)).ledger_nusd == {"legacy": 0, "new": 50}

    play(mongo_lab, scene)


# What upstream keys have spent


def test_upstream_costs_are_summed_by_key_from_a_day_on(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        assert await store.sum_upstream_costs("") == {}
        spent = [
            make_charge(1, provider="a", upstream_key_id="k", upstream_cost_nusd=2**53, day="2026-01-01"),
            make_charge(2, provider="a", upstream_key_id="k", upstream_cost_nusd=2, day="2026-01-02"),
            make_charge(3, provider="b", upstream_key_id="k", upstream_cost_nusd=3, day="2026-02-01"),
            make_charge(4, provider="b", upstream_key_id="l", upstream_cost_nusd=None, day="2026-02-01"),
        ]
        await store.write_batch(make_batch(*spent))
        assert await store.sum_upstream_costs("") == {("a", "k"): 2**53 + 2, ("b", "k"): 3}
        assert await store.sum_upstream_costs("2026-01-02") == {("a", "k"): 2, ("b", "k"): 3}
        assert await store.sum_upstream_costs("2026-02") == {("b", "k"): 3}

    play(lab, scene)
