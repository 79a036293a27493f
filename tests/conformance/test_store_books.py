"""The Store contract on money: every charge and credit counts once, however it is grouped, repeated or interrupted."""

import itertools

import msgspec
import pytest
from bson.int64 import Int64
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conformance.store_lab import (
    AT_S,
    Lab,
    MongoLab,
    balances,
    make_batch,
    make_charge,
    make_client_key,
    make_friend_key,
    make_user,
    play,
    read_user,
)
from trollproxy.chat import Usage
from trollproxy.errors import GatewayError, NotFound, StoreUnavailable
from trollproxy.policy import wallets
from trollproxy.ports import Store
from trollproxy.records import Charge, Credit, CreditKind, ModelLimit, Wallet
from trollproxy.store import tally
from trollproxy.store.migrations import FIRST_APART

EXAMPLES = itertools.count()
ODD_MODELS = ("gpt-4.1", "$where", "a.$b|c", "模型-é", "x" * 300)
# Shrinking would run a hundred more scenes on a real server; the example found is short enough to read.
NO_SHRINK = (Phase.explicit, Phase.reuse, Phase.generate)
SLOW = settings(
    deadline=None, max_examples=15, phases=NO_SHRINK, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def make_credit(
    entry_id: str = "c-1", *, amount: int = 50, kind: CreditKind = "purchase", wallet: Wallet = "legacy"
) -> Credit:
    return Credit(
        entry_id=entry_id, username="ann", wallet=wallet, kind=kind, amount_nusd=amount, note="n", created_at_s=AT_S
    )


# Reading back


def test_a_charge_is_read_as_it_was_written(lab: Lab) -> None:
    full = make_charge(
        1,
        request_id="req.$1",
        model="模型.$x",
        friend_key_id="fk-1",
        is_estimated=True,
        usage=Usage(*range(1, 10)),
        cost_nusd=3_000_000_000,
        upstream_cost_nusd=7,
        lost_cost_nusd=11,
        started_at_s=AT_S + 0.000123,
        code="upstream_broken",
        ended_by="provider_error_mid_stream",
    )
    bare = make_charge(2, first_token_ms=None, stream=False, usage=Usage(), cost_nusd=0, username="bob")

    async def scene(store: Store) -> None:
        await store.write_batch(make_batch(full, bare))
        assert await store.read_charge("req.$1") == full
        assert await store.read_charge("req-2") == bare
        assert await store.read_charge("req-3") is None
        assert await store.list_charges("ann") == [full]

    play(lab, scene)


def test_a_charge_from_before_lost_costs_were_recorded_has_none(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.write_batch(make_batch(make_charge(1)))
        [row] = lab.rows("request_logs")
        assert row.pop("lostCostNusd") == 0
        if "n" in row:
            row["n"] = FIRST_APART  # in SQLite: it has no entry in the ledger
        lab.put("request_logs", row | {"_id": "req-old"})
        assert await store.read_charge("req-old") == make_charge(1, request_id="req-old")

    play(lab, scene)


def test_a_writer_finds_its_last_number(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        assert await store.read_last_seq("w1") == 0
        await store.add_user(make_user("ann"))
        await store.write_batch(make_batch(make_charge(7), make_charge(9), writer="w1"))
        await store.write_batch(make_batch(make_charge(12), writer="w2"))
        assert await store.read_last_seq("w1") == 9

    play(lab, scene)


def test_charges_are_listed_newest_first(lab: Lab) -> None:
    charges = [make_charge(seq, started_at_s=AT_S + seq // 2) for seq in range(1, 8)]

    async def scene(store: Store) -> None:
        await store.write_batch(make_batch(*charges))
        assert await store.list_charges("ann", limit=4) == charges[:2:-1]
        assert len(await store.list_charges("ann", limit=0)) == 1
        assert await store.list_charges("bob") == []

    play(lab, scene)


def test_what_nobody_is_billed_for_is_found_like_the_rest(lab: Lab) -> None:
    charges = [make_charge(seq, username="ann" if seq % 3 == 0 else "") for seq in range(1, 10)]
    unbilled = [charge for charge in charges if not charge.username]

    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        for first, last in ((0, 4), (2, 9), (0, 9)):
            await store.write_batch(make_batch(*charges[first:last]))
        assert await store.list_charges("") == unbilled[::-1]
        assert await store.list_charges("ann") == [charges[8], charges[5], charges[2]]
        assert await store.page_charges() == charges
        assert await store.read_charge("req-1") == charges[0]
        assert await store.read_last_seq("w1") == 9

    play(lab, scene)


def test_nothing_is_not_zero(lab: Lab) -> None:
    none = make_charge(1, first_token_ms=None, upstream_cost_nusd=None)
    zero = make_charge(2, first_token_ms=0.0, upstream_cost_nusd=0)

    async def scene(store: Store) -> None:
        await store.write_batch(make_batch(none, zero))
        assert await store.page_charges() == [none, zero]

    play(lab, scene)


def test_a_batch_of_many_users_and_kinds_is_read_as_it_was_written(lab: Lab) -> None:
    charges = [
        make_charge(
            seq, request_id=f"req-{seq:04}", username=f"user-{seq % 70}", model=f"m-{seq % 3}", status=200 + seq % 2
        )
        for seq in range(1, 701)
    ]

    async def scene(store: Store) -> None:
        for number in range(70):
            await store.add_user(make_user(f"user-{number}"))
        await store.write_batch(make_batch(*charges[:600]))
        await store.write_batch(make_batch(*charges))
        assert await store.page_charges() == charges
        for number in range(70):
            assert await balances(store, f"user-{number}") == (-1000, 0, 0)

    play(lab, scene)


# Drawing on the wallets


@pytest.mark.parametrize(
    ("credits_nusd", "ref", "cost", "expected"),
    [
        (500, 200, 300, (200, 200)),
        (500, 200, 600, (0, 100)),
        (500, 200, 700, (0, 0)),
        (500, 200, 900, (-200, 0)),
        (-50, 200, 100, (-50, 100)),
        (-50, 0, 100, (-150, 0)),
        (0, 0, 0, (0, 0)),
        (2**53 + 1, 2**53 + 1, 2**53 + 2, (0, 2**53)),
    ],
)
def test_credits_drain_before_ref_credits(
    lab: Lab, credits_nusd: int, ref: int, cost: int, expected: tuple[int, int]
) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user(credits_nusd=credits_nusd, ref_credits_nusd=ref, credits_new_nusd=1))
        await store.write_batch(make_batch(make_charge(1, cost_nusd=cost)))
        assert await balances(store) == (*expected, 1)

    play(lab, scene)


def test_one_batch_may_draw_on_both_wallets_of_several_users(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user(credits_nusd=250, ref_credits_nusd=100))
        await store.add_user(make_user("bob.$x", credits_new_nusd=10))
        charges = (
            make_charge(1),
            make_charge(2, wallet="new", cost_nusd=7),
            make_charge(3, username="bob.$x", wallet="new", cost_nusd=25),
            make_charge(4, cost_nusd=200),
            make_charge(5, username="", cost_nusd=999),
            make_charge(6, cost_nusd=0),
        )
        await store.write_batch(make_batch(*charges))
        assert await balances(store) == (0, 50, -7)
        assert await balances(store, "bob.$x") == (0, 0, -15)
        assert (await read_user(store)).tokens_used == 4 * 22
        assert await store.read_charge("req-5") == charges[4]
        entries = {row["_id"]: row["amount"] for row in lab.rows("ledger") if row["type"] == "usage"}
        assert entries == {"req-1": -100, "req-2": -7, "req-3": -25, "req-4": -200, "req-6": 0}

    play(lab, scene)


def test_repeated_overlapping_and_straddling_batches_count_once(lab: Lab) -> None:
    charges = [make_charge(seq, wallet="new" if seq % 3 else "legacy") for seq in range(1, 10)]

    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        for first, last in ((0, 3), (0, 3), (1, 6), (0, 9), (4, 5), (0, 9)):
            await store.write_batch(make_batch(*charges[first:last]))
        await store.write_batch(make_batch(charges[0], charges[0]))
        await store.write_batch(make_batch())
        assert await balances(store) == (-300, 0, -600)
        assert (await read_user(store)).tokens_used == 9 * 22

    play(lab, scene)


def test_writers_do_not_hide_each_others_charges(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        for writer in ("w1", "w2", "w1"):
            await store.write_batch(make_batch(make_charge(5, request_id=f"req-{writer}"), writer=writer))
        assert await balances(store) == (-200, 0, 0)

    play(lab, scene)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Charge], list[tuple[int, int]]]:
    """Charges, and slices of them in which each one's first appearance comes in order of `seq`."""
    count = draw(st.integers(1, 12))
    charges = [
        make_charge(
            seq,
            username=draw(st.sampled_from(["ann", "bob", "ghost"])),
            wallet=draw(st.sampled_from(["legacy", "new"])),
            cost_nusd=draw(st.integers(0, 200)),
            friend_key_id=draw(st.sampled_from([None, "fk-1"])),
            model=draw(st.sampled_from(["a.b", "$c"])),
        )
        for seq in range(1, count + 1)
    ]
    slices, reached = [], 0
    while reached < count:
        first, last = draw(st.integers(0, reached)), draw(st.integers(1, count))
        slices.append((first, last))
        reached = max(reached, last)
    return charges, slices


@SLOW
@given(history=histories(), start=st.tuples(st.integers(-200, 400), st.integers(0, 300), st.integers(-100, 300)))
def test_any_grouping_leaves_what_one_batch_leaves(
    lab: Lab, history: tuple[list[Charge], list[tuple[int, int]]], start: tuple[int, int, int]
) -> None:
    charges, slices = history
    run = next(EXAMPLES)
    names = {name: f"{name}-{run}" for name in ("ann", "bob", "ghost", "fk-1")}
    mine = [_renamed(charge, names, run) for charge in charges]

    async def scene(store: Store) -> None:
        amounts = {"credits_nusd": start[0], "ref_credits_nusd": start[1], "credits_new_nusd": start[2]}
        for name in ("ann", "bob"):
            await store.add_user(make_user(names[name], **amounts))
        await store.add_friend_key(make_friend_key(names["fk-1"]))
        for first, last in slices:
            await store.write_batch(make_batch(*mine[first:last], writer=f"w{run}"))
        for name in ("ann", "bob"):
            drawn = [charge for charge in mine if charge.username == names[name]]
            balance = wallets.Balance(**amounts)
            if drawn:
                balance = wallets.take(balance, tally.sum_draw(drawn))
            expected = (balance.credits_nusd, balance.ref_credits_nusd, balance.credits_new_nusd)
            assert await balances(store, names[name]) == expected
        lent = [charge for charge in mine if charge.friend_key_id and charge.username != names["ghost"]]
        assert (await store.read_friend_keys([names["fk-1"]]))[0].total_spent_nusd == tally.sum_cost(lent)
        by_model = await store.read_friend_spend(names["fk-1"], "2025-10-09")
        assert sum(by_model.values()) == tally.sum_cost(lent)
        dead = {row["_id"] for row in lab.rows("dead_letters")}
        assert {charge.request_id for charge in mine if charge.username == names["ghost"]} <= dead
        assert await store.sum_ledger(names["ghost"], "legacy") == 0

    play(lab, scene)


def _renamed(charge: Charge, names: dict[str, str], run: int) -> Charge:
    """The same charge in a world of this example's own, as examples share a database."""
    return make_charge(
        charge.seq,
        request_id=f"{charge.request_id}-{run}",
        username=names[charge.username],
        wallet=charge.wallet,
        cost_nusd=charge.cost_nusd,
        friend_key_id=names[charge.friend_key_id] if charge.friend_key_id else None,
        model=charge.model,
    )


# Friend keys and use


def test_friend_keys_are_counted_by_model_and_day(lab: Lab) -> None:
    limits = {model: ModelLimit(daily_limit_nusd=5) for model in ODD_MODELS}
    charges = [
        make_charge(seq, friend_key_id="fk-1", model=model, cost_nusd=seq) for seq, model in enumerate(ODD_MODELS, 1)
    ]
    charges.append(make_charge(6, friend_key_id="fk-1", model="gpt-4.1", cost_nusd=10))
    charges.append(make_charge(7, friend_key_id="fk-1", model="gpt-4.1", cost_nusd=50, day="2025-10-10"))
    charges.append(make_charge(8, friend_key_id="fk-gone", cost_nusd=1))

    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        await store.add_friend_key(make_friend_key(model_limits=limits))
        for first, last in ((0, 2), (0, 8), (3, 8)):
            await store.write_batch(make_batch(*charges[first:last]))
        expected = {model: seq for seq, model in enumerate(ODD_MODELS, 1)} | {"gpt-4.1": 11}
        assert await store.read_friend_spend("fk-1", "2025-10-09") == expected
        assert await store.read_friend_spend("fk-1", "2025-10-10") == {"gpt-4.1": 50}
        assert await store.read_friend_spend("fk-2", "2025-10-09") == {}
        key = (await store.read_friend_keys(["fk-1"]))[0]
        assert (key.total_spent_nusd, key.model_limits) == (75, limits)
        assert await balances(store) == (-76, 0, 0)

    play(lab, scene)


def test_last_use_only_moves_forward(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_client_key(make_client_key())
        await store.add_friend_key(make_friend_key())
        for at_s in (AT_S + 5, AT_S + 9, AT_S + 7):
            await store.write_batch(make_batch(last_used={"key-1": at_s, "fk-1": at_s + 1, "gone": at_s}))
        assert (await store.read_client_keys(["key-1"]))[0].last_used_at_s == AT_S + 9
        assert (await store.read_friend_keys(["fk-1"]))[0].last_used_at_s == AT_S + 10

    play(lab, scene)


# What cannot be booked


def test_an_unknown_users_charges_are_set_aside_for_good(lab: Lab) -> None:
    batch = make_batch(make_charge(1, username="ghost", friend_key_id="fk-1"), make_charge(2))

    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        for _ in range(2):
            await store.write_batch(batch)
        assert await balances(store) == (-100, 0, 0)
        # Whoever takes the name later does not inherit the debt, though the batch comes again.
        await store.add_user(make_user("ghost"))
        await store.write_batch(batch)
        assert await balances(store, "ghost") == (0, 0, 0)
        assert [(row["_id"], row["reason"]) for row in lab.rows("dead_letters")] == [("req-1", "unknown_user")]
        assert await store.read_charge("req-1") == batch.charges[0]
        assert await store.read_friend_spend("fk-1", "2025-10-09") == {}

    play(lab, scene)


@pytest.mark.parametrize("change", [{"cost_nusd": 1}, {"username": "bob"}, {"wallet": "new"}, {"seq": 3}])
def test_a_request_that_comes_again_with_other_contents_is_refused(lab: Lab, change: dict[str, object]) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        await store.add_user(make_user("bob"))
        await store.write_batch(make_batch(make_charge(1)))
        for batch in (
            make_batch(msgspec.structs.replace(make_charge(1), **change), make_charge(9)),
            make_batch(make_charge(1), writer="w2"),
        ):
            with pytest.raises(GatewayError) as caught:
                await store.write_batch(batch)
            assert caught.value.code == "ledger_conflict"
        assert (await read_user(store)).credits_nusd == -100
        assert (await read_user(store, "bob")).credits_nusd == 0

    play(lab, scene)


# Credits


@pytest.mark.parametrize(
    ("kind", "wallet", "amount", "expected"),
    [
        ("purchase", "legacy", 50, (150, 20, 5)),
        ("refund", "legacy", 50, (150, 20, 5)),
        ("refund", "legacy", -250, (-150, 20, 5)),
        ("promotional", "legacy", 50, (100, 70, 5)),
        ("promotional", "legacy", -30, (90, 0, 5)),
        ("promotional", "new", 50, (100, 20, 55)),
        ("purchase", "new", -50, (100, 20, -45)),
    ],
)
def test_a_credit_goes_where_its_kind_says_and_only_once(
    lab: Lab, kind: CreditKind, wallet: Wallet, amount: int, expected: tuple[int, int, int]
) -> None:
    credit = make_credit(amount=amount, kind=kind, wallet=wallet)

    async def scene(store: Store) -> None:
        await store.add_user(make_user(credits_nusd=100, ref_credits_nusd=20, credits_new_nusd=5))
        assert await store.apply_credit(credit) is True
        assert await store.apply_credit(credit) is False
        assert await balances(store) == expected
        entry = next(row for row in lab.rows("ledger") if row["_id"] == "c-1")
        assert (entry["type"], entry["amount"], entry["state"]) == (kind, amount, "applied")

    play(lab, scene)


def test_a_credit_for_nobody_or_at_odds_with_its_entry_is_refused(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        with pytest.raises(NotFound):
            await store.apply_credit(make_credit())
        assert lab.rows("ledger") == []
        await store.add_user(make_user())
        await store.apply_credit(make_credit())
        with pytest.raises(GatewayError) as caught:
            await store.apply_credit(make_credit(amount=51))
        assert caught.value.code == "ledger_conflict"
        assert await balances(store) == (50, 0, 0)

    play(lab, scene)


def test_a_request_with_the_id_of_a_credit_is_refused(lab: Lab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        await store.apply_credit(make_credit())
        with pytest.raises(GatewayError) as caught:
            await store.write_batch(make_batch(make_charge(1), make_charge(2, request_id="c-1")))
        assert caught.value.code == "ledger_conflict"
        assert (await read_user(store)).credits_nusd == 50

    play(lab, scene)


# What only MongoDB can be caught at: the instants between two writes


def _pending(entry_id: str) -> dict[str, object]:
    return {
        "_id": entry_id, "type": "purchase", "username": "ann", "wallet": "legacy", "amount": Int64(50), "note": "n",
        "state": "pending",
    }  # fmt: skip


def test_a_credit_cut_short_before_its_balance_moved_is_completed(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        mongo_lab.put("ledger", _pending("c-1"))
        assert await balances(store) == (0, 0, 0)
        assert await store.apply_credit(make_credit()) is True
        assert await store.apply_credit(make_credit()) is False
        assert await balances(store) == (50, 0, 0)

    play(mongo_lab, scene)


def test_a_credit_cut_short_after_its_balance_moved_is_not_moved_again(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        mongo_lab.put("ledger", _pending("c-1"))
        moved = {"$set": {"credits": Int64(50), "applied": ["c-1"]}}
        mongo_lab.client[mongo_lab.database].usersNew.update_one({}, moved)
        assert await balances(store) == (50, 0, 0)
        # A hundred others push its id off the user's list; it must be known by its entry before that.
        for number in range(101):
            await store.apply_credit(make_credit(f"other-{number}", amount=1))
        assert await store.apply_credit(make_credit()) is False
        assert await balances(store) == (151, 0, 0)
        assert len(mongo_lab.rows("usersNew")[0]["applied"]) == 100

    play(mongo_lab, scene)


def test_a_batch_cut_short_between_ledger_and_balance_is_completed(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        entry = {"_id": "req-1", "type": "usage", "username": "ann", "wallet": "legacy", "amount": Int64(-100)}
        mongo_lab.put("ledger", entry | {"writer": "w1", "seq": 1, "state": "applied"})
        for _ in range(2):
            await store.write_batch(make_batch(make_charge(1), make_charge(2)))
        assert await balances(store) == (-200, 0, 0)

    play(mongo_lab, scene)


@pytest.mark.parametrize("command", ["insert", "update"])
def test_a_lost_acknowledgement_is_an_outage_and_a_repetition_counts_once(mongo_lab: MongoLab, command: str) -> None:
    fault = {
        "failCommands": [command],
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"},
    }
    batch = make_batch(make_charge(1, friend_key_id="fk-1"), make_charge(2))

    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        await store.add_friend_key(make_friend_key())
        failing = 0
        while failing < 20:
            admin = mongo_lab.client.admin
            admin.command("configureFailPoint", "failCommand", mode={"skip": failing}, data=fault)
            try:
                await store.write_batch(batch)
            except StoreUnavailable:
                failing += 1
            else:
                break
            finally:
                admin.command("configureFailPoint", "failCommand", mode="off")
        assert failing >= 2
        assert await balances(store) == (-200, 0, 0)
        assert await store.read_friend_spend("fk-1", "2025-10-09") == {"m-1": 100}
        assert (await store.read_friend_keys(["fk-1"]))[0].total_spent_nusd == 100

    play(mongo_lab, scene)


def test_a_writers_id_must_be_fit_for_a_fields_name(mongo_lab: MongoLab) -> None:
    async def scene(store: Store) -> None:
        await store.add_user(make_user())
        with pytest.raises(AssertionError):
            await store.write_batch(make_batch(make_charge(1), writer="a.b"))

    play(mongo_lab, scene)
