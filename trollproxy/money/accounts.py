"""Balances in memory: `available = stored - unflushed - held`, per wallet.

Stored balances are only ever replaced while no flush is under way (see `Writer.quiet`), so a charge is in exactly one
of the two: the stored balance or `unflushed`.
"""

from weakref import WeakValueDictionary

import msgspec

from trollproxy.policy.wallets import Balance, Draw, take
from trollproxy.records import User, Wallet


class Account:
    """One user's wallets as this process sees them."""

    __slots__ = ("__weakref__", "_owing", "held", "unflushed", "user")

    def __init__(self, user: User, owing: "set[Account] | None" = None) -> None:
        """`owing` keeps those alive whose charges have not reached the store."""
        self.user = user
        self._owing = owing if owing is not None else set()
        self.unflushed: dict[Wallet, int] = {"legacy": 0, "new": 0}
        self.held: dict[Wallet, int] = {"legacy": 0, "new": 0}

    def available(self, wallet: Wallet, now_s: float) -> int:
        expires = self.user.credits_expire_at_s
        if expires is not None and expires <= now_s:
            return -self.held[wallet]
        return self._stored(wallet) - self.unflushed[wallet] - self.held[wallet]

    def spends_ref_credits(self) -> bool:
        """Whether the legacy wallet has come to its refCredits, which lifts the request limit."""
        return self.user.credits_nusd - self.unflushed["legacy"] <= 0 < self.user.ref_credits_nusd

    def is_idle(self) -> bool:
        return not any((*self.unflushed.values(), *self.held.values()))

    def owe(self, wallet: Wallet, cost_nusd: int) -> None:
        """A charge is made that the store does not have yet."""
        self.unflushed[wallet] += cost_nusd
        self._owing.add(self)

    def flushed(self, wallet: Wallet, cost_nusd: int) -> None:
        """A charge has reached the store: it moves from unflushed to the stored balance."""
        self.unflushed[wallet] -= cost_nusd
        self.user = drained(self.user, wallet, cost_nusd)
        if not any(self.unflushed.values()):
            self._owing.discard(self)

    def _stored(self, wallet: Wallet) -> int:
        if wallet == "new":
            return self.user.credits_new_nusd
        return self.user.credits_nusd + self.user.ref_credits_nusd


class Accounts:
    """The accounts that somebody refers to or that owe; one object a user, however many keys the user has."""

    def __init__(self) -> None:
        self._accounts: WeakValueDictionary[str, Account] = WeakValueDictionary()
        self._owing: set[Account] = set()
        self._inherited: dict[str, dict[Wallet, int]] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def get(self, username: str) -> Account | None:
        return self._accounts.get(username)

    def put(self, user: User) -> Account:
        """Take a user as just read from the store, in a quiet moment of the writer."""
        account = self._accounts.get(user.username)
        if account is None:
            account = self._accounts[user.username] = Account(user, self._owing)
            for wallet, cost_nusd in self._inherited.pop(user.username, {}).items():
                account.owe(wallet, cost_nusd)
        account.user = user
        return account

    def inherit(self, username: str, wallet: Wallet, cost_nusd: int) -> None:
        """A charge of an earlier run that the store does not have yet: owed before anybody asks for the account."""
        account = self._accounts.get(username)
        if account is not None:
            account.owe(wallet, cost_nusd)
        else:
            owed = self._inherited.setdefault(username, {})
            owed[wallet] = owed.get(wallet, 0) + cost_nusd

    def charge_flushed(self, username: str, wallet: Wallet, cost_nusd: int) -> None:
        account = self._accounts.get(username)
        if account is not None:
            account.flushed(wallet, cost_nusd)
        elif wallet in self._inherited.get(username, {}):
            self._inherited[username][wallet] -= cost_nusd

    def held_nusd(self) -> int:
        """All that is held at the moment; 0 whenever no request runs."""
        return sum(sum(account.held.values()) for account in self._accounts.values())


def drained(user: User, wallet: Wallet, cost_nusd: int) -> User:
    """The user after paying."""
    balance = Balance(
        credits_nusd=user.credits_nusd,
        ref_credits_nusd=user.ref_credits_nusd,
        credits_new_nusd=user.credits_new_nusd,
    )
    draw = Draw(new_nusd=cost_nusd) if wallet == "new" else Draw(legacy_nusd=cost_nusd)
    return msgspec.structs.replace(user, **msgspec.structs.asdict(take(balance, draw)))
