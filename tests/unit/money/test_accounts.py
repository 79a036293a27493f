"""Balances in memory: what is available, and that a charge is in exactly one of stored and unflushed."""

import gc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import NOON_S, TODAY, make_charge
from trollproxy.money.accounts import Account, Accounts
from trollproxy.records import User, Wallet


def user(credits_nusd: int = 0, ref: int = 0, new: int = 0, **more: float) -> User:
    balances = User(username="ann", credits_nusd=credits_nusd, ref_credits_nusd=ref, credits_new_nusd=new)
    return msgspec.structs.replace(balances, **more)


def test_available_is_stored_less_unflushed_less_held() -> None:
    account = Account(user(100, 20, 7))
    account.unflushed["legacy"], account.held["legacy"] = 30, 40
    assert account.available("legacy", NOON_S) == 50
    assert account.available("new", NOON_S) == 7


@pytest.mark.parametrize(("expires", "available"), [(NOON_S + 1, 100), (NOON_S, 0), (NOON_S - 1, 0), (None, 100)])
def test_credit_that_has_expired_is_none(expires: float | None, available: int) -> None:
    account = Account(msgspec.structs.replace(user(100), credits_expire_at_s=expires))
    assert account.available("legacy", NOON_S) == available


def test_what_is_held_of_expired_credit_is_not_there_twice() -> None:
    account = Account(user(100, credits_expire_at_s=NOON_S))
    account.held["legacy"] = 30
    assert account.available("legacy", NOON_S) == -30


@pytest.mark.parametrize(
    ("credits_nusd", "ref", "unflushed", "spends"),
    [(10, 5, 0, False), (0, 5, 0, True), (10, 5, 10, True), (10, 5, 9, False), (0, 0, 0, False), (-3, 5, 0, True)],
)
def test_ref_credits_are_spent_when_credits_are_gone(credits_nusd: int, ref: int, unflushed: int, spends: bool) -> None:
    account = Account(user(credits_nusd, ref))
    account.unflushed["legacy"] = unflushed
    assert account.spends_ref_credits() is spends


@settings(deadline=None)
@given(
    st.integers(-100, 100),
    st.integers(0, 100),
    st.integers(0, 100),
    st.lists(st.tuples(st.sampled_from(["legacy", "new"]), st.integers(0, 60)), max_size=8),
)
def test_flushing_changes_no_availability(
    credits_nusd: int, ref: int, new: int, costs: list[tuple[Wallet, int]]
) -> None:
    account = Account(user(credits_nusd, ref, new))
    for wallet, cost in costs:
        account.unflushed[wallet] += cost
    before = [account.available(wallet, NOON_S) for wallet in account.held]
    for wallet, cost in costs:
        account.flushed(wallet, cost)
        assert [account.available(w, NOON_S) for w in account.held] == before
        assert account.user.ref_credits_nusd >= 0
    assert account.is_idle()


def test_idle_is_owing_and_holding_nothing() -> None:
    account = Account(user())
    assert account.is_idle()
    account.held["new"] = 1
    assert not account.is_idle()
    account.held["new"], account.unflushed["legacy"] = 0, 1
    assert not account.is_idle()


def test_a_user_has_one_account() -> None:
    accounts = Accounts()
    first = accounts.put(user(1))
    first.held["legacy"] = 5
    again = accounts.put(user(2))
    assert again is first is accounts.get("ann")
    assert again.user.credits_nusd == 2
    assert again.held["legacy"] == 5
    assert accounts.held_nusd() == 5
    assert len(accounts) == 1


def test_an_account_that_nobody_refers_to_is_forgotten() -> None:
    accounts = Accounts()
    accounts.put(user(1))
    gc.collect()
    assert accounts.get("ann") is None
    accounts.charges_flushed([make_charge(1, cost_nusd=5)])  # whoever was forgotten is read anew


def test_a_flushed_charge_finds_its_account() -> None:
    accounts = Accounts()
    account = accounts.put(user(100))
    account.unflushed["legacy"] = 30
    accounts.charges_flushed([make_charge(1, cost_nusd=30)])
    assert (account.user.credits_nusd, account.unflushed["legacy"]) == (70, 0)


def test_what_a_friend_spent_in_an_earlier_run_is_known_until_the_store_has_it() -> None:
    accounts = Accounts()
    friends = {"friend_key_id": "fk", "cost_nusd": 30}
    for seq, model in enumerate(("m", "m", "other"), start=1):
        accounts.inherit(make_charge(seq, model=model, **friends))
    accounts.inherit(make_charge(4))
    assert accounts.lent_nusd("fk", TODAY) == {"m": 60, "other": 30}
    assert accounts.lent_nusd("fk", "2025-10-08") == accounts.lent_nusd("key-1", TODAY) == {}
    accounts.charges_flushed([make_charge(1, model="m", **friends)])
    assert accounts.lent_nusd("fk", TODAY) == {"m": 30, "other": 30}
    accounts.charges_flushed([make_charge(9, model="m", **friends)])  # of this run: the friend's own count has it
    assert accounts.lent_nusd("fk", TODAY) == {"m": 30, "other": 30}


def test_less_than_nothing_held_is_noticed() -> None:
    accounts = Accounts()
    account = accounts.put(user(1))
    assert accounts.overdrawn_holds() == 0
    account.held["new"] = -1
    assert accounts.overdrawn_holds() == 1
