"""The audit: every wallet beside its entries, a difference named, a charge between two looks forgiven."""

from collections.abc import Callable

import msgspec
import pytest

from tests.aio import run
from tests.fakes import NOON_S, FakeStore, make_charge
from trollproxy.control.audit import LOOKS, WALLETS, Audit, Difference, audit, balance, compare
from trollproxy.errors import StoreUnavailable
from trollproxy.records import Batch, Credit, CreditKind, User, Wallet


class Books(FakeStore):
    """`between` is what happens between the two readings of a look, one step a look."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.users[name] = User(username=name)
        self.between: list[Callable[[], None]] = []

    async def sum_ledger(self, username: str, wallet: str) -> int:
        ledger = await super().sum_ledger(username, wallet)
        if self.between:
            self.between.pop(0)()
        return ledger

    def change(self, name: str, **amounts: int) -> None:
        """Move balances without an entry, as no program of ours does."""
        self.users[name] = msgspec.structs.replace(self.users[name], **amounts)


async def give(store: Books, name: str, wallet: Wallet, amount: int, kind: CreditKind = "purchase") -> None:
    credit = Credit(
        entry_id=f"e-{len(store.credits)}",
        username=name,
        wallet=wallet,
        kind=kind,
        amount_nusd=amount,
        created_at_s=NOON_S,
    )
    await store.apply_credit(credit)


def test_books_that_agree() -> None:
    async def scene() -> Audit:
        store = Books("ann", "bob")
        await give(store, "ann", "legacy", 1_000)
        await give(store, "ann", "legacy", 500, "promotional")
        await give(store, "bob", "new", 300)
        charges = (make_charge(1, cost_nusd=1_200), make_charge(2, username="bob", wallet="new", cost_nusd=400))
        await store.write_batch(Batch(writer="w", charges=charges))
        assert store.users["ann"].ref_credits_nusd == 300
        assert store.users["bob"].credits_new_nusd == -100
        return await audit(store)

    assert run(scene()) == Audit(users=2, balance_nusd=200, differences=())


def test_nobody_is_in_order() -> None:
    assert run(audit(Books())) == Audit(users=0, balance_nusd=0, differences=())


@pytest.mark.parametrize("wallet", WALLETS)
@pytest.mark.parametrize("drift", [-1, 1, 10**15])
def test_every_difference_is_named(wallet: Wallet, drift: int) -> None:
    async def scene() -> Audit:
        store = Books("ann", "bob")
        for name in ("ann", "bob"):
            await give(store, name, wallet, 1_000)
        store.change("bob", **{"credits_new_nusd" if wallet == "new" else "credits_nusd": 1_000 + drift})
        return await audit(store)

    found = run(scene())
    expected = Difference(username="bob", wallet=wallet, balance_nusd=1_000 + drift, ledger_nusd=1_000)
    assert found.differences == (expected,)
    assert expected.drift_nusd == drift
    assert (found.users, found.balance_nusd) == (2, 2_000 + drift)


def test_a_balance_that_moves_is_looked_at_again() -> None:
    async def scene() -> None:
        store = Books("ann")
        await give(store, "ann", "legacy", 1_000)
        charge = make_charge(1, cost_nusd=100)

        def pay() -> None:
            store.charges[charge.request_id] = charge
            store.change("ann", credits_nusd=900)

        store.between = [pay]
        found = await compare(store, store.users["ann"], "legacy")
        assert (found.balance_nusd, found.ledger_nusd) == (900, 900)
        assert store.calls["sum_ledger"] == 2

    run(scene())


def test_a_balance_read_before_the_audit_came_to_it_is_read_anew() -> None:
    async def scene() -> None:
        store = Books("ann")
        stale = store.users["ann"]
        await give(store, "ann", "new", 50)
        assert (await compare(store, stale, "new")).drift_nusd == 0

    run(scene())


def test_one_who_never_rests_is_reported_and_does_not_hold_up_the_audit() -> None:
    async def scene() -> None:
        store = Books("ann")
        store.between = [lambda: store.change("ann", credits_nusd=store.users["ann"].credits_nusd + 1)] * 10
        found = await compare(store, store.users["ann"], "legacy")
        assert found.drift_nusd
        assert store.calls["sum_ledger"] == LOOKS

    run(scene())


def test_everybody_is_looked_at_also_beyond_a_page() -> None:
    async def scene() -> Audit:
        store = Books(*(f"u{n:03}" for n in range(250)))
        store.change("u249", credits_new_nusd=7)
        return await audit(store)

    found = run(scene())
    assert (found.users, found.balance_nusd) == (250, 7)
    assert [difference.username for difference in found.differences] == ["u249"]


def test_a_user_who_is_gone_meanwhile_stops_nothing() -> None:
    async def scene() -> None:
        store = Books("ann")
        store.between = [store.users.clear]
        assert (await audit(store)).users == 1

    run(scene())


def test_a_store_that_is_down_is_told() -> None:
    async def scene() -> None:
        store = Books("ann")
        store.failing.append(StoreUnavailable("down"))
        with pytest.raises(StoreUnavailable):
            await audit(store)

    run(scene())


def test_promotional_credit_belongs_to_the_legacy_wallet() -> None:
    user = User(username="ann", credits_nusd=1, ref_credits_nusd=20, credits_new_nusd=300)
    assert (balance(user, "legacy"), balance(user, "new")) == (21, 300)
