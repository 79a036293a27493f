"""The house of the money state machine: what it is made of, how it starts, and what must hold after every step."""

import asyncio
import functools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.faults.crashing import FRIEND, NOON_S, crash
from tests.faults.model import Account, Kept, LossyStore, Model
from trollproxy import app
from trollproxy.config import load
from trollproxy.money import journal as journal_module
from trollproxy.money import writer as writer_module
from trollproxy.money.accounts import Account as Wallets
from trollproxy.money.entries import Settled, decode
from trollproxy.money.holds import FriendSpend, Hold
from trollproxy.policy.limits import utc_day
from trollproxy.records import Charge, Wallet

NAMES = ("ann", "bob")
WALLETS: tuple[Wallet, ...] = ("legacy", "new")
FRIEND_LIMIT_NUSD = 150


class MoneyHouse(RuleBasedStateMachine):
    """The rules come from test_state_machine; requests are named r1, r2, …"""

    def __init__(self) -> None:
        super().__init__()
        self.undo = ExitStack()
        self.folder = Path(self.undo.enter_context(tempfile.TemporaryDirectory()))
        self.undo.enter_context(patch.object(writer_module, "_RETRY_MIN_S", 0.0))
        self.undo.enter_context(patch.object(writer_module, "MAX_RECORDS", 1500))
        self.undo.enter_context(patch.object(journal_module, "_CHECK_S", 0.0))  # each sync writes `acknowledged`
        small = functools.partial(journal_module.Journal, segment_bytes=2000)
        self.undo.enter_context(patch.object(app, "Journal", small))
        self.undo.enter_context(patch.object(app, "_later", lambda _: None))  # a turn of the loop ends with its rule
        self.runner = self.undo.enter_context(asyncio.Runner())
        self.settings = load(None, {}, {"data_dir": str(self.folder), "demo": False})
        self.model, self.store = Model(), LossyStore()
        self.holds: dict[str, Hold] = {}
        self.accounts: dict[str, Wallets] = {}
        self.snapshots: list[Kept] = []
        self.numbers: list[int] = []  # of charges, in the order in which they were put down
        self.requests = 0
        self.looked_at = -1
        self.has_gone_back = False
        self.was_set_back = False  # credits that a backup did not have are gone, what was spent of them is not
        self.wall_s = NOON_S

    def teardown(self) -> None:
        try:
            if hasattr(self, "gateway"):
                self.store.is_down = False
                self.die(b"")
                self.start()
                self.check_recovered()
                self.runner.run(crash(self.gateway, b""))
        finally:
            self.undo.close()

    def die(self, torn: bytes) -> None:
        self.runner.run(crash(self.gateway, torn))
        self.model.crash()
        self.holds.clear()

    def start(self) -> None:
        """A process from its beginning to its first request."""
        self.gateway = app.Gateway(self.settings, read_settings=lambda: self.settings)
        self.gateway.store = self.store
        self.runner.run(self.gateway.open())
        self.accounts = {}
        self.runner.run(self.load())

    async def load(self) -> None:
        """Read users and the friend's day as `Callers` does; it forgets a friend only while the owner owes nothing."""
        owes = any(not account.is_idle() for account in self.accounts.values())
        async with self.gateway.writer.quiet():
            for user in await self.store.read_users(NAMES):
                self.accounts[user.username] = self.gateway.accounts.put(user)
            if not owes:
                day = utc_day(self.wall_s)
                spent = await self.store.read_friend_spend(FRIEND, day)
                left = self.gateway.accounts.lent_nusd(FRIEND, day)
                days = {model: spent.get(model, 0) + left.get(model, 0) for model in spent.keys() | left.keys()}
                self.lent = FriendSpend(day, days)

    def give(self, account: Account, amount_nusd: int) -> None:
        self.store.give(account, amount_nusd)
        self.model.give(account, amount_nusd)

    # What must hold

    def check_recovered(self) -> None:
        """Every intent has its one charge, in the journal as in the store, and memory knows exactly what is left."""
        assert self.charges_in_journal().keys() == self.store.kept.charges.keys() == self.model.charges.keys()
        for name, account in self.accounts.items():
            for wallet in WALLETS:
                assert account.available(wallet, self.wall_s) == self.model.balance((name, wallet))
        self.numbers = sorted(charge.seq for charge in self.store.kept.charges.values())

    def charges_in_journal(self) -> dict[str, Charge]:
        records = self.gateway.journal.read(0, max_records=100_000, max_bytes=1 << 30)
        position, found = 0, dict[str, Charge]()
        while records:
            for number, payload in records:
                assert number > position
                position = number
                entry = decode(payload)
                if isinstance(entry, Settled):
                    assert entry.charge.seq == number
                    assert entry.charge.request_id not in found
                    found[entry.charge.request_id] = entry.charge
            records = self.gateway.journal.read(position, max_records=100_000, max_bytes=1 << 30)
        return found

    @invariant()
    def the_store_has_each_charge_at_most_once(self) -> None:
        kept = self.store.kept
        for request_id, charge in kept.charges.items():
            assert charge.cost_nusd == self.model.charges[request_id].cost_nusd
        for account, given in kept.given.items():
            drawn = sum(
                c.cost_nusd
                for c in kept.charges.values()
                if (c.username, c.wallet) == account and self.store.is_drawn(c)
            )
            assert kept.balances[account] == given - drawn

    @invariant()
    def the_balance_is_what_is_stored_without_what_is_queued(self) -> None:
        kept = self.store.kept
        drawn = {name for name, charge in kept.charges.items() if self.store.is_drawn(charge)}
        queued = [put for name, put in self.model.charges.items() if name not in drawn]
        for account in self.model.given:
            waiting = sum(put.cost_nusd for put in queued if put.account == account)
            assert self.model.balance(account) == kept.balances[account] - waiting

    @invariant()
    def memory_promises_nothing_that_is_not_there(self) -> None:
        for name, account in self.accounts.items():
            for wallet in WALLETS:
                held = self.model.held((name, wallet))
                assert account.held[wallet] == held
                assert account.available(wallet, self.wall_s) <= self.model.balance((name, wallet)) - held

    @invariant()
    def nothing_is_overspent(self) -> None:
        assert all(self.model.balance(account) >= 0 for account in self.model.given) or self.was_set_back
        if self.has_gone_back:
            return  # a day that comes twice may be spent twice
        days = {put.day for put in self.model.charges.values()}
        assert all(self.model.lent(day) <= FRIEND_LIMIT_NUSD for day in days)

    @invariant()
    def numbers_grow(self) -> None:
        assert self.numbers == sorted(set(self.numbers))
        if hasattr(self, "gateway"):
            assert len(self.numbers) == len(self.model.charges)

    @invariant()
    def what_is_acknowledged_is_in_the_store(self) -> None:
        if not hasattr(self, "gateway"):
            return
        acknowledged = self.gateway.journal.acknowledged
        assert all(run.number > acknowledged for run in self.model.running.values() if run.is_intended)
        if acknowledged == self.looked_at:
            return
        self.looked_at = acknowledged
        ids = {charge.request_id for charge in self.charges_in_journal().values() if charge.seq <= acknowledged}
        assert ids <= {name for name, charge in self.store.kept.charges.items() if self.store.is_drawn(charge)}
