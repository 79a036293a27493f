"""Who asks in the fault tests, and what was put into their wallets.

Ann's pocket money is topped up after each accounting and runs out again, into her refCredits. Bob pays for two friends,
one of them with a daily limit. Poor Cat, like that friend, comes to the end of her money in the midst of a run.
"""

import os
import time

from tests.faults.plans import LEGACY, NEW, Person
from trollproxy.control.accounts import AccountOffice
from trollproxy.ports import Store
from trollproxy.records import NUSD_PER_USD, CreditKind, ModelLimit, Wallet

PEPPER = "pepper-of-the-fault-tests-which-guard-nothing"
PLENTY_NUSD = 100_000 * NUSD_PER_USD
POCKET_NUSD = NUSD_PER_USD // 20  # some sixty requests
CAP_NUSD = NUSD_PER_USD // 20

_USERS = {"ann": 4, "bob": 3, "cat": 1}  # with their shares of the requests
_FRIENDS = {"friend": 2, "capped": 1}
_CREDITS: tuple[tuple[str, Wallet, CreditKind, int], ...] = (
    ("ann", "legacy", "promotional", PLENTY_NUSD),
    ("ann", "legacy", "purchase", POCKET_NUSD),
    ("ann", "new", "purchase", PLENTY_NUSD),
    ("bob", "legacy", "purchase", PLENTY_NUSD),
    ("bob", "new", "purchase", PLENTY_NUSD),
    ("cat", "legacy", "promotional", POCKET_NUSD),
    ("cat", "new", "purchase", POCKET_NUSD),
)


class People:
    """`credited` is by user and wallet; `cap_nusd` by the friend key that has a limit."""

    def __init__(self) -> None:
        self.all: list[Person] = []
        self.credited: dict[tuple[str, str], int] = {}
        self.cap_nusd: dict[str, int] = {}

    async def settle_in(self, store: Store) -> None:
        office = _office(store)
        for username, weight in _USERS.items():
            await office.open_account(username)
            self._add(username, (await office.issue_key(username)).secret, weight)
        for username, wallet, kind, amount_nusd in _CREDITS:
            await office.credit(username, amount_nusd, wallet=wallet, kind=kind)
            self._count(username, wallet, amount_nusd)
        for name, weight in _FRIENDS.items():
            cap_nusd = CAP_NUSD if name == "capped" else None
            limits = {f"{prefix}*": ModelLimit(daily_limit_nusd=cap_nusd) for prefix in (LEGACY, NEW)}
            minted = await office.issue_friend_key("bob", name=name, model_limits=limits)
            self._add("bob", minted.secret, weight)
            if cap_nusd is not None:
                self.cap_nusd[minted.key_id] = cap_nusd

    async def top_up(self, store: Store) -> None:
        await _office(store).credit("ann", POCKET_NUSD, wallet="legacy", kind="purchase")
        self._count("ann", "legacy", POCKET_NUSD)

    def _add(self, username: str, secret: str, weight: int) -> None:
        self.all.append(Person(username=username, secret=secret, weight=weight))

    def _count(self, username: str, wallet: Wallet, amount_nusd: int) -> None:
        self.credited[username, wallet] = self.credited.get((username, wallet), 0) + amount_nusd


def _office(store: Store) -> AccountOffice:
    return AccountOffice(store, pepper=PEPPER.encode(), random_bytes=os.urandom, wall=time.time)
