"""Paying from a wallet and putting credit into it: nothing is lost, refCredits never fall below 0."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import NOON_S
from trollproxy.policy.wallets import Balance, Draw, give, take
from trollproxy.records import Credit, CreditKind, Wallet

amounts = st.integers(0, 10**12)
balances = st.builds(
    Balance, credits_nusd=st.integers(-(10**12), 10**12), ref_credits_nusd=amounts, credits_new_nusd=amounts
)


def credit(amount_nusd: int, wallet: Wallet = "legacy", kind: CreditKind = "purchase") -> Credit:
    return Credit(entry_id="e", username="ann", wallet=wallet, kind=kind, amount_nusd=amount_nusd, created_at_s=NOON_S)


def balance(credits_nusd: int, ref: int = 0, new: int = 0) -> Balance:
    return Balance(credits_nusd=credits_nusd, ref_credits_nusd=ref, credits_new_nusd=new)


@pytest.mark.parametrize(
    ("before", "cost", "after"),
    [
        (balance(10, 5), 3, balance(7, 5)),
        (balance(10, 5), 12, balance(0, 3)),
        (balance(10, 5), 15, balance(0, 0)),
        (balance(10, 5), 20, balance(-5, 0)),
        (balance(-5, 5), 3, balance(-5, 2)),
        (balance(-5, 0), 3, balance(-8, 0)),
    ],
)
def test_credits_first_then_ref_credits_then_debt(before: Balance, cost: int, after: Balance) -> None:
    assert take(before, Draw(legacy_nusd=cost)) == after


def test_the_new_wallet_is_apart() -> None:
    assert take(balance(1, 2, 3), Draw(new_nusd=5)) == balance(1, 2, -2)
    assert give(balance(1, 2, 3), credit(5, "new", "promotional")) == balance(1, 2, 8)


@settings(deadline=None)
@given(balances, amounts, amounts)
def test_what_is_taken_is_gone_and_nothing_else(before: Balance, legacy: int, new: int) -> None:
    after = take(before, Draw(legacy_nusd=legacy, new_nusd=new))
    total = before.credits_nusd + before.ref_credits_nusd
    assert after.credits_nusd + after.ref_credits_nusd == total - legacy
    assert after.credits_new_nusd == before.credits_new_nusd - new
    assert 0 <= after.ref_credits_nusd <= before.ref_credits_nusd


@settings(deadline=None)
@given(balances, st.lists(amounts, max_size=5))
def test_one_by_one_is_the_same_as_all_at_once(before: Balance, costs: list[int]) -> None:
    singly = before
    for cost in costs:
        singly = take(singly, Draw(legacy_nusd=cost))
    assert singly == take(before, Draw(legacy_nusd=sum(costs)))


@settings(deadline=None)
@given(balances, st.integers(-(10**12), 10**12), st.sampled_from(["purchase", "refund", "promotional"]))
def test_what_is_given_is_there(before: Balance, amount: int, kind: CreditKind) -> None:
    after = give(before, credit(amount, kind=kind))
    total = before.credits_nusd + before.ref_credits_nusd
    assert after.credits_nusd + after.ref_credits_nusd == total + amount
    assert after.ref_credits_nusd >= 0


def test_promotional_money_is_ref_credit() -> None:
    assert give(balance(1, 2), credit(5, kind="promotional")) == balance(1, 7)
    assert give(balance(1, 2), credit(-5, kind="promotional")) == balance(-2, 0)
    assert give(balance(1, 2), credit(5, kind="refund")) == balance(6, 2)
