"""The audit: every balance beside its ledger, every charge recomputed from its tokens and price, differences named.

Runs beside a live gateway. A charge in flight may be on the ledger and not yet in the balance, so a difference is
believed only after it has stayed the same for longer than any one write may take. Everything is read page by page: what
is kept in memory is the differences of balances, and the price tables.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from trollproxy.money.settle import cost_by, needs_price
from trollproxy.ports import Store
from trollproxy.records import Charge, Price, Statement, User, Wallet

WALLETS: tuple[Wallet, ...] = ("legacy", "new")
# Pauses between looks at a difference. The first sees most flushes through; the rest, in which a difference may not
# change, last for 5 s together, which is all the time that one write to the store has.
FIRST_PAUSE_S = 0.2
PAUSES_S = (1.0, 2.0, 2.0)
MAX_SUSPECTS = 10_000  # at once in memory, a page more or less; where there are more, something is broken for all

PAGE = 100  # users whose entries are summed in one query

Pause = Callable[[float], Awaitable[None]]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet whose balance is not what its entries say."""

    username: str
    wallet: Wallet
    balance_nusd: int
    ledger_nusd: int

    @property
    def drift_nusd(self) -> int:
        return self.balance_nusd - self.ledger_nusd


Found = dict[tuple[str, Wallet], Difference]


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and what was found. `restless` wallets moved at every look: nothing can be said of them."""

    users: int
    balance_nusd: int
    differences: tuple[Difference, ...]
    restless: int = 0
    ref_credits_below_zero: int = 0

    @property
    def drift_nusd(self) -> int:
        return sum(abs(difference.drift_nusd) for difference in self.differences)

    @property
    def drifting_users(self) -> int:
        return len({difference.username for difference in self.differences})


class Mispriced(msgspec.Struct, frozen=True, kw_only=True):
    """A charge that is not what its own words come to. `expected_nusd` None: its price version is not stored."""

    charge: Charge
    expected_nusd: int | None

    @property
    def reason(self) -> Literal["unknown_price", "other_cost"]:
        return "unknown_price" if self.expected_nusd is None else "other_cost"


class ChargeAudit:
    """Goes through every charge; `count` is how many it has seen."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._prices: dict[str, Price | None] = {}
        self.count = 0

    async def mispriced(self) -> AsyncIterator[Mispriced]:
        after = ""
        while page := await self._store.page_charges(after=after):
            await self._learn(page)
            for charge in page:
                self.count += 1
                expected = self._expected(charge)
                if expected != charge.cost_nusd:
                    yield Mispriced(charge=charge, expected_nusd=expected)
            after = page[-1].request_id

    async def _learn(self, charges: Sequence[Charge]) -> None:
        """Read the price tables that are named here for the first time."""
        unknown = {charge.price_version for charge in charges} - self._prices.keys()
        self._prices |= dict.fromkeys(unknown)
        self._prices |= {price.version: price for price in await self._store.read_prices(sorted(unknown))}

    def _expected(self, charge: Charge) -> int | None:
        if not needs_price(charge):
            return 0
        price = self._prices[charge.price_version]
        return None if price is None else cost_by(charge, price)


async def audit(store: Store, *, pause: Pause = asyncio.sleep) -> Audit:
    users = total = below_zero = restless = 0
    suspects: list[str] = []
    differences: list[Difference] = []
    async for page in pages(store):
        for statement in await store.read_statements([user.username for user in page]):
            users += 1
            total += sum(balance(statement.user, wallet) for wallet in WALLETS)
            below_zero += statement.user.ref_credits_nusd < 0
            suspects += {difference.username for difference in differences_of(statement)}
        if not page or len(suspects) >= MAX_SUSPECTS:
            lasting, moving = await look_again(store, suspects, pause=pause)
            differences += lasting
            restless += moving
            suspects = []
    return Audit(
        users=users,
        balance_nusd=total,
        differences=tuple(differences),
        restless=restless,
        ref_credits_below_zero=below_zero,
    )


async def look_again(store: Store, usernames: Sequence[str], *, pause: Pause) -> tuple[list[Difference], int]:
    """The differences that stay what they are, and how many others never went away."""
    found: Found = {}
    if usernames:
        await pause(FIRST_PAUSE_S)
        found = await look(store, usernames)
    moving: set[tuple[str, Wallet]] = set()
    for pause_s in PAUSES_S:
        if not found:
            break
        await pause(pause_s)
        before, now = found, await look(store, sorted({username for username, _ in found}))
        found = {name: now[name] for name in before if name in now}
        moving |= {name for name, is_now in found.items() if is_now.drift_nusd != before[name].drift_nusd}
    lasting = [difference for name, difference in found.items() if name not in moving]
    return lasting, len(found) - len(lasting)


async def look(store: Store, usernames: Sequence[str]) -> Found:
    found: Found = {}
    for start in range(0, len(usernames), PAGE):
        for statement in await store.read_statements(usernames[start : start + PAGE]):
            found |= {(difference.username, difference.wallet): difference for difference in differences_of(statement)}
    return found


def differences_of(statement: Statement) -> list[Difference]:
    compared = (
        Difference(
            username=statement.user.username,
            wallet=wallet,
            balance_nusd=balance(statement.user, wallet),
            ledger_nusd=statement.ledger_nusd[wallet],
        )
        for wallet in WALLETS
    )
    return [difference for difference in compared if difference.drift_nusd]


def balance(user: User, wallet: Wallet) -> int:
    return user.credits_new_nusd if wallet == "new" else user.credits_nusd + user.ref_credits_nusd


async def pages(store: Store) -> AsyncIterator[list[User]]:
    """All users by name; the last page is empty."""
    page = await store.list_users(limit=PAGE)
    while page:
        yield page
        page = await store.list_users(after=page[-1].username, limit=PAGE)
    yield []
