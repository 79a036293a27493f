"""The audit: every balance recomputed from the ledger, every difference named.

Runs beside a live gateway: a balance that moves while it is looked at is looked at again.
"""

from collections.abc import AsyncIterator

import msgspec

from trollproxy.ports import Store
from trollproxy.records import User, Wallet

WALLETS: tuple[Wallet, ...] = ("legacy", "new")
LOOKS = 3  # a user whose balance moved during this many looks is busy; a real difference stays the same


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet whose balance is not what its entries say."""

    username: str
    wallet: Wallet
    balance_nusd: int
    ledger_nusd: int

    @property
    def drift_nusd(self) -> int:
        return self.balance_nusd - self.ledger_nusd


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and what was found."""

    users: int
    balance_nusd: int
    differences: tuple[Difference, ...]


async def audit(store: Store) -> Audit:
    users = total = 0
    differences: list[Difference] = []
    async for user in every_user(store):
        users += 1
        for wallet in WALLETS:
            found = await compare(store, user, wallet)
            total += found.balance_nusd
            if found.drift_nusd:
                differences.append(found)
    return Audit(users=users, balance_nusd=total, differences=tuple(differences))


async def compare(store: Store, user: User, wallet: Wallet) -> Difference:
    """A wallet beside its ledger; looked at again while they differ, since a charge may be between the two."""
    for _ in range(LOOKS):
        ledger = await store.sum_ledger(user.username, wallet)
        [user] = await store.read_users([user.username]) or [user]
        found = Difference(
            username=user.username, wallet=wallet, balance_nusd=balance(user, wallet), ledger_nusd=ledger
        )
        if not found.drift_nusd:
            break
    return found


def balance(user: User, wallet: Wallet) -> int:
    return user.credits_new_nusd if wallet == "new" else user.credits_nusd + user.ref_credits_nusd


async def every_user(store: Store) -> AsyncIterator[User]:
    after = ""
    while page := await store.list_users(after=after):
        for user in page:
            yield user
        after = page[-1].username
