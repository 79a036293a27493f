"""Holds: never more than there is, ended once, within a friend's day."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes import NOON_S
from trollproxy.errors import Forbidden, InsufficientCredits
from trollproxy.money.accounts import Account
from trollproxy.money.holds import FriendSpend, Hold, check_friend, hold
from trollproxy.records import ModelLimit, User, Wallet

CENT = 10_000_000
WALLETS: tuple[Wallet, ...] = ("legacy", "new")


def account_of(credits_nusd: int = 0, ref: int = 0, new: int = 0) -> Account:
    return Account(User(username="ann", credits_nusd=credits_nusd, ref_credits_nusd=ref, credits_new_nusd=new))


class Wallets(RuleBasedStateMachine):
    """Hold, release, settle, flush and top up in any order, beside sums kept by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.account = account_of(500, 200, 300)
        self.open: list[Hold] = []
        self.ended: list[Hold] = []
        self.queue: list[tuple[Wallet, int]] = []
        self.left: dict[Wallet, int] = {"legacy": 700, "new": 300}

    @rule(wallet=st.sampled_from(WALLETS), amount=st.integers(0, 400))
    def take(self, wallet: Wallet, amount: int) -> None:
        free = self.left[wallet] - sum(h.amount_nusd for h in self.open if h.wallet == wallet)
        try:
            self.open.append(hold(self.account, wallet, amount, now_s=NOON_S))
        except InsufficientCredits:
            assert amount > free
        else:
            assert amount == 0 or amount <= free

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 99))
    def release(self, place: int) -> None:
        ending = self.open.pop(place % len(self.open))
        assert ending.release()
        self.ended.append(ending)

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 99), share=st.integers(0, 100))
    def settle(self, place: int, share: int) -> None:
        ending = self.open.pop(place % len(self.open))
        cost = ending.amount_nusd * share // 100
        ending.settle(cost)
        self.left[ending.wallet] -= cost
        self.queue.append((ending.wallet, cost))
        self.ended.append(ending)

    @precondition(lambda self: self.ended)
    @rule(place=st.integers(0, 99))
    def end_again(self, place: int) -> None:
        ended = self.ended[place % len(self.ended)]
        assert not ended.release()
        ended.settle(1_000_000)

    @precondition(lambda self: self.queue)
    @rule()
    def flush(self) -> None:
        self.account.flushed(*self.queue.pop(0))

    @rule(amount=st.integers(0, 300))
    def top_up(self, amount: int) -> None:
        user = self.account.user
        self.account.user = msgspec.structs.replace(user, credits_nusd=user.credits_nusd + amount)
        self.left["legacy"] += amount

    @invariant()
    def what_is_promised_is_there(self) -> None:
        for wallet in WALLETS:
            held = sum(h.amount_nusd for h in self.open if h.wallet == wallet)
            assert self.account.held[wallet] == held <= self.left[wallet]
            assert self.account.available(wallet, NOON_S) == self.left[wallet] - held


Wallets.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)
TestWallets = Wallets.TestCase


def test_a_thousand_requests_against_five_dollars() -> None:
    account, admitted = account_of(500 * CENT), list[Hold]()
    for _ in range(1_000):
        try:
            admitted.append(hold(account, "legacy", 10 * CENT, now_s=NOON_S))
        except InsufficientCredits:
            continue
    assert len(admitted) == 50
    for ending in admitted:
        ending.settle(10 * CENT)
    assert account.available("legacy", NOON_S) == 0
    assert account.held["legacy"] == 0


def test_a_refusal_says_what_is_needed_and_what_is_there() -> None:
    account = account_of(30 * CENT)
    hold(account, "legacy", 10 * CENT, now_s=NOON_S)
    with pytest.raises(InsufficientCredits, match=r"\$0\.25.*\$0\.20"):
        hold(account, "legacy", 25 * CENT, now_s=NOON_S)
    assert account.held["legacy"] == 10 * CENT


def test_what_costs_nothing_needs_no_credit() -> None:
    assert hold(account_of(-5), "legacy", 0, now_s=NOON_S).is_open


def test_expired_credit_bears_no_hold() -> None:
    account = Account(User(username="ann", credits_nusd=100, credits_expire_at_s=NOON_S))
    with pytest.raises(InsufficientCredits):
        hold(account, "legacy", 1, now_s=NOON_S)
    assert hold(account, "legacy", 1, now_s=NOON_S - 1).is_open


def test_spending_ref_credits_lifts_the_limit_before_the_flush() -> None:
    account = account_of(10, ref=50)
    assert not account.spends_ref_credits()
    hold(account, "legacy", 30, now_s=NOON_S).settle(30)
    assert account.spends_ref_credits()


def test_a_hold_ends_once_whatever_is_called() -> None:
    account = account_of(100)
    held = hold(account, "legacy", 40, now_s=NOON_S)
    held.settle(25)
    held.settle(25)
    assert not held.release()
    assert (account.held["legacy"], account.unflushed["legacy"]) == (0, 25)


def test_a_hold_on_nobody_is_no_trouble() -> None:
    held = Hold(None, "legacy", 5)
    held.settle(5)
    assert not held.is_open


@pytest.mark.parametrize("limit", [None, ModelLimit(enabled=False), ModelLimit(enabled=False, daily_limit_nusd=100)])
def test_a_model_that_is_not_open_is_refused(limit: ModelLimit | None) -> None:
    with pytest.raises(Forbidden) as caught:
        check_friend(FriendSpend("d", {}), "m", limit, amount_nusd=1)
    assert caught.value.code == "model_not_allowed"


def test_a_friend_stays_within_the_day_limit() -> None:
    spend, limit = FriendSpend("d", {"m": 40}), ModelLimit(daily_limit_nusd=100)
    check_friend(spend, "m", limit, amount_nusd=60)
    held = hold(account_of(1_000), "legacy", 60, now_s=NOON_S)
    held.bind(spend, "m")
    with pytest.raises(InsufficientCredits) as caught:
        check_friend(spend, "m", limit, amount_nusd=1)
    assert caught.value.code == "friend_limit_exceeded"
    check_friend(spend, "another", limit, amount_nusd=100)
    held.settle(10)
    assert spend.left("m", limit) == 50
    check_friend(spend, "m", limit, amount_nusd=50)


def test_no_limit_is_the_owners_wallet() -> None:
    spend = FriendSpend("d", {"m": 10**15})
    check_friend(spend, "m", ModelLimit(), amount_nusd=10**15)
    assert spend.left("m", ModelLimit()) is None


def test_a_limit_of_nothing_still_admits_what_is_free() -> None:
    check_friend(FriendSpend("d", {}), "m", ModelLimit(daily_limit_nusd=0), amount_nusd=0)
    with pytest.raises(InsufficientCredits):
        check_friend(FriendSpend("d", {}), "m", ModelLimit(daily_limit_nusd=0), amount_nusd=1)


def test_a_new_day_begins_anew_and_old_holds_do_not_touch_it() -> None:
    account, spend, limit = account_of(1_000), FriendSpend("2025-10-09", {"m": 90}), ModelLimit(daily_limit_nusd=100)
    settled, released = (hold(account, "legacy", 5, now_s=NOON_S) for _ in range(2))
    settled.bind(spend, "m")
    released.bind(spend, "m")
    spend.roll("2025-10-10")
    assert spend.left("m", limit) == 100
    settled.settle(5)
    released.release()
    assert spend.left("m", limit) == 100
    assert account.held["legacy"] == 0


def test_a_request_of_yesterday_that_is_held_late_does_not_forget_today() -> None:
    """Its head came before midnight, its body after: the day is fixed at admission, for every request its own."""
    account, spend, limit = account_of(1_000), FriendSpend("2025-10-09", {}), ModelLimit(daily_limit_nusd=100)
    spend.roll("2025-10-10")
    today = hold(account, "legacy", 80, now_s=NOON_S)
    today.bind(spend, "m")
    spend.roll("2025-10-09")
    spend.roll("2025-10-10")
    assert spend.left("m", limit) == 20
    today.settle(70)
    assert spend.left("m", limit) == 30
