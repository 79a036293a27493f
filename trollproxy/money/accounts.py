"""Balances in memory: `available = stored - unflushed - held`, per wallet.

Stored balances are only ever replaced while no flush is under way (see `Writer.quiet`), so a charge is in exactly one
of the two: the stored balance or `unflushed`.
"""

from collections.abc import Sequence
from weakref import WeakValueDictionary

import msgspec

from trollproxy.policy.wallets import Balance, Draw, take
from trollproxy.records import Charge, User, Wallet


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
        self._lent: dict[tuple[str, str], dict[str, int]] = {}  # inherited of friends: key id and day -> by model
        self._inherited_to = 0

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

    def inherit(self, charge: Charge) -> None:
        """A charge of an earlier run that the store does not have yet: owed before anybody asks for the account."""
        self._inherited_to = max(self._inherited_to, charge.seq)
        account = self._accounts.get(charge.username)
        if account is not None:
            account.owe(charge.wallet, charge.cost_nusd)
        else:
            owed = self._inherited.setdefault(charge.username, {})
            owed[charge.wallet] = owed.get(charge.wallet, 0) + charge.cost_nusd
        if charge.friend_key_id is not None:
            lent = self._lent.setdefault((charge.friend_key_id, charge.day), {})
            lent[charge.model] = lent.get(charge.model, 0) + charge.cost_nusd

    def charges_flushed(self, charges: Sequence[Charge]) -> None:
        """These have reached the store. An account moves once, by the sum of its own."""
        sums: dict[tuple[str, Wallet], int] = {}
        for charge in charges:
            name = charge.username, charge.wallet
            sums[name] = sums.get(name, 0) + charge.cost_nusd
            if self._lent and charge.friend_key_id is not None:
                self._lent_flushed(charge, charge.friend_key_id)
        for (username, wallet), cost_nusd in sums.items():
            account = self._accounts.get(username)
            if account is not None:
                account.flushed(wallet, cost_nusd)
            elif wallet in self._inherited.get(username, {}):
                self._inherited[username][wallet] -= cost_nusd

    def _lent_flushed(self, charge: Charge, key_id: str) -> None:
        lent = self._lent.get((key_id, charge.day), {})
        if charge.model in lent and charge.seq <= self._inherited_to:
            lent[charge.model] -= charge.cost_nusd

    def lent_nusd(self, key_id: str, day: str) -> dict[str, int]:
        """By model, what a friend key spent on a day in an earlier run and the store does not have yet."""
        return dict(self._lent.get((key_id, day), {}))

    def overdrawn_holds(self) -> int:
        """Wallets of which less than nothing is held; none, unless a hold was released twice."""
        return sum(held < 0 for account in self._accounts.values() for held in account.held.values())

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
