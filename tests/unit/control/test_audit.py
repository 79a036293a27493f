"""The audit: every wallet beside its entries, every charge beside its price; what is in flight is forgiven."""

from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from tests.aio import run
from tests.fakes import NOON_S, FakeStore, make_charge, make_price
from trollproxy.chat import Usage
from trollproxy.control import audit as module
from trollproxy.control.audit import WALLETS, Audit, ChargeAudit, Difference, Mispriced, audit, balance
from trollproxy.errors import StoreUnavailable
from trollproxy.records import Batch, Charge, Credit, CreditKind, User, Wallet


class Books(FakeStore):
    """`pauses` is what happens in the audit's pauses, one step each; how long they were is in `paused_s`."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.users[name] = User(username=name)
        self.pauses: list[Callable[[], None]] = []
        self.paused_s: list[float] = []

    async def pause(self, seconds: float) -> None:
        self.paused_s.append(seconds)
        if self.pauses:
            self.pauses.pop(0)()

    async def audit(self) -> Audit:
        return await audit(self, pause=self.pause)

    def change(self, name: str, **amounts: int) -> None:
        """Move balances without an entry, as no program of ours does."""
        self.users[name] = msgspec.structs.replace(self.users[name], **amounts)

    def move(self, name: str, nusd: int) -> Callable[[], None]:
        return lambda: self.change(name, credits_nusd=self.users[name].credits_nusd + nusd)


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
        found = await store.audit()
        assert store.paused_s == []
        return found

    assert run(scene()) == Audit(users=2, balance_nusd=200, differences=())


def test_nobody_is_in_order() -> None:
    assert run(Books().audit()) == Audit(users=0, balance_nusd=0, differences=())


@pytest.mark.parametrize("wallet", WALLETS)
@pytest.mark.parametrize("drift", [-1, 1, 10**15])
def test_every_difference_is_named(wallet: Wallet, drift: int) -> None:
    async def scene() -> Audit:
        store = Books("ann", "bob")
        for name in ("ann", "bob"):
            await give(store, name, wallet, 1_000)
        store.change("bob", **{"credits_new_nusd" if wallet == "new" else "credits_nusd": 1_000 + drift})
        return await store.audit()

    found = run(scene())
    expected = Difference(username="bob", wallet=wallet, balance_nusd=1_000 + drift, ledger_nusd=1_000)
    assert found.differences == (expected,)
    assert expected.drift_nusd == drift
    assert (found.users, found.balance_nusd, found.restless) == (2, 2_000 + drift, 0)
    assert (found.drifting_users, found.drift_nusd) == (1, abs(drift))


def test_both_wallets_of_a_user_are_one_drifting_user() -> None:
    async def scene() -> Audit:
        store = Books("ann")
        store.change("ann", credits_nusd=-5, credits_new_nusd=7)
        return await store.audit()

    found = run(scene())
    assert (found.drifting_users, found.drift_nusd, len(found.differences)) == (1, 12, 2)


@pytest.mark.parametrize("pause", range(1 + len(module.PAUSES_S)))
def test_a_balance_that_comes_to_agree_was_in_flight(pause: int) -> None:
    async def scene() -> Audit:
        store = Books("ann")
        store.change("ann", credits_nusd=-100)
        store.pauses = [*[lambda: None] * pause, store.move("ann", 100)]
        found = await store.audit()
        assert len(store.paused_s) == pause + 1
        return found

    assert (run(scene()).differences, run(scene()).restless) == ((), 0)


def test_a_difference_must_outlast_any_one_write() -> None:
    async def scene() -> None:
        store = Books("ann")
        store.change("ann", credits_nusd=1)
        await store.audit()
        assert store.paused_s == [module.FIRST_PAUSE_S, *module.PAUSES_S]
        assert sum(module.PAUSES_S) >= 5

    run(scene())


def test_one_who_never_rests_is_no_drift_and_does_not_hold_up_the_audit() -> None:
    async def scene() -> Audit:
        store = Books("ann", "bob")
        store.change("ann", credits_nusd=1)
        store.change("bob", credits_nusd=1)
        store.pauses = [store.move("ann", 1)] * 10
        return await store.audit()

    found = run(scene())
    assert [difference.username for difference in found.differences] == ["bob"]
    assert found.restless == 1


def test_everybody_is_looked_at_also_beyond_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SUSPECTS", 1)

    async def scene() -> Audit:
        store = Books(*(f"u{n:03}" for n in range(250)))
        store.change("u001", credits_new_nusd=-7)
        store.change("u249", credits_new_nusd=7)
        return await store.audit()

    found = run(scene())
    assert (found.users, found.balance_nusd) == (250, 0)
    assert [difference.username for difference in found.differences] == ["u001", "u249"]


def test_a_user_who_is_gone_meanwhile_stops_nothing() -> None:
    async def scene() -> Audit:
        store = Books("ann")
        store.change("ann", credits_nusd=1)
        store.pauses = [store.users.clear]
        return await store.audit()

    assert run(scene()).differences == ()


def test_ref_credits_below_zero_are_counted() -> None:
    async def scene() -> Audit:
        store = Books("ann", "bob")
        store.change("ann", ref_credits_nusd=-1, credits_nusd=1)
        return await store.audit()

    found = run(scene())
    assert (found.ref_credits_below_zero, found.differences) == (1, ())


def test_a_store_that_is_down_is_told() -> None:
    async def scene() -> None:
        store = Books("ann")
        store.failing.append(StoreUnavailable("down"))
        with pytest.raises(StoreUnavailable):
            await store.audit()

    run(scene())


def test_promotional_credit_belongs_to_the_legacy_wallet() -> None:
    user = User(username="ann", credits_nusd=1, ref_credits_nusd=20, credits_new_nusd=300)
    assert (balance(user, "legacy"), balance(user, "new")) == (21, 300)


# Charges

PRICE = msgspec.structs.replace(make_price(), multiplier_micro=1_500_000)
RIGHT = {"usage": Usage(uncached=10, out_text=5), "cost_nusd": 22_500, "multiplier_micro": 1_500_000}
FREE = {"usage": Usage(), "cost_nusd": 0, "price_version": "gone"}


async def everything(found: AsyncIterator[Mispriced]) -> list[Mispriced]:
    return [each async for each in found]


def mispriced(*charges: Charge) -> list[Mispriced]:
    async def scene() -> list[Mispriced]:
        store = Books()
        store.prices["v1"] = PRICE
        store.charges = {charge.request_id: charge for charge in charges}
        books = ChargeAudit(store)
        found = await everything(books.mispriced())
        assert books.count == len(charges)
        return found

    return run(scene())


@pytest.mark.parametrize(
    "right",
    [
        RIGHT,
        {**RIGHT, "is_estimated": True, "ended_by": "client_disconnected"},
        {**RIGHT, "multiplier_micro": 1_000_000, "cost_nusd": 15_000},  # by its own multiplier
        {**RIGHT, "ended_by": "empty_reply"},
        FREE | {"ended_by": "provider_error_before_token"},
        FREE | {"ended_by": "gateway_crashed_before_token"},
        FREE | {"ended_by": "completed"},  # the provider says that nothing was used
    ],
)
def test_a_charge_that_costs_what_it_says(right: dict[str, object]) -> None:
    assert mispriced(make_charge(1, **right)) == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({**RIGHT, "cost_nusd": 22_499}, 22_500),
        ({**RIGHT, "usage": Usage(uncached=11, out_text=5)}, 24_000),
        ({**RIGHT, "multiplier_micro": 1_000_000}, 15_000),
        ({**RIGHT, "price_version": "gone"}, None),
        ({**RIGHT, "ended_by": "timeout_before_token"}, 0),
        (FREE | {"ended_by": "completed", "cost_nusd": 1}, 0),
    ],
)
def test_a_charge_that_does_not_is_named(wrong: dict[str, object], expected: int | None) -> None:
    charge = make_charge(1, **wrong)
    [found] = mispriced(make_charge(0, **RIGHT), charge)
    assert found == Mispriced(charge=charge, expected_nusd=expected)
    assert found.reason == ("unknown_price" if expected is None else "other_cost")


def test_charges_are_read_by_the_page_and_a_price_once() -> None:
    async def scene() -> None:
        store = Books()
        store.prices["v1"] = PRICE
        store.charges = {f"req-{n}": make_charge(n, **RIGHT) for n in range(2_500)}
        books = ChargeAudit(store)
        assert await everything(books.mispriced()) == []
        assert (books.count, store.calls["page_charges"]) == (2_500, 4)

    run(scene())
