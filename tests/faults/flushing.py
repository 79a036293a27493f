"""A journal and its writer on a MongoDB database of their own, and what must be found there in the end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from trollproxy.chat import Usage
from trollproxy.control.audit import audit
from trollproxy.money.accounts import Accounts
from trollproxy.money.holds import Hold
from trollproxy.money.journal import Journal
from trollproxy.money.recorder import Recorder
from trollproxy.money.settle import Ending, Seen, charge_for
from trollproxy.money.writer import Writer, WriterPolicy
from trollproxy.records import FriendKey, Intent, Price, User, Wallet
from trollproxy.store.mongo import MongoStore

DONE_WITHIN_S = 40.0
USERS = [f"user.{n}" for n in range(5)]
GIVEN_NUSD = 1_000_000
CHARGES = 200
DAY = "2025-10-09"
PRICE = Price(version="v1", per_mtok_nusd=dict.fromkeys(Usage.__struct_fields__, 1_000_000))


class Books:
    """A journal and its writer on a database of their own, and what must be found there in the end."""

    def __init__(self, folder: Path, store: MongoStore) -> None:
        self.store = store
        self.journal = Journal(folder / "journal")
        self.journal.open()
        self.accounts = Accounts()
        self.recorder = Recorder(self.journal)
        policy = WriterPolicy(interval_s=0.01, jitter=lambda: 0.5)
        self.writer = Writer(store, self.accounts, self.recorder, journal=self.journal, policy=policy)
        self.costs: dict[str, int] = {}
        self.paid = dict.fromkeys(USERS, 0)
        self.lent: dict[str, int] = {}

    async def open(self) -> None:
        await self.store.open()
        for name in USERS:
            await self.store.add_user(User(username=name, credits_nusd=GIVEN_NUSD, credits_new_nusd=GIVEN_NUSD))
            key = FriendKey(key_id=f"fk-{name}", key_hash=b"h", owner=name)
            await self.store.add_friend_key(key)
        self.users = [self.accounts.put(user) for user in await self.store.read_users(USERS)]

    def charge(self, number: int) -> None:
        """Hold, intend and charge: every third by a friend, every fourth from the new wallet."""
        account = self.users[number % len(USERS)]
        name = account.user.username
        friend = f"fk-{name}" if number % 3 == 0 else None
        wallet: Wallet = "new" if number % 4 == 0 else "legacy"
        held = Hold(account, wallet, 2 * number)
        intent = Intent(
            request_id=f"req-{number}",
            username=name,
            key_id="k",
            friend_key_id=friend,
            wallet=wallet,
            format="openai_chat",
            model="m.$1",
            upstream_model="m",
            provider="acme",
            stream=True,
            price=PRICE,
            upstream_price=None,
            input_bytes=10,
            hold_nusd=2 * number,
            day=DAY,
            started_at_s=1_760_000_000.0,
        )
        self.recorder.intend(intent)
        seen = Seen(usage=Usage(uncached=number), is_final=True, input_bytes=10, output_bytes=0)
        charge = charge_for(intent, seen, Ending("completed", 200, "ok"))
        held.settle(charge.cost_nusd)
        self.recorder.record(charge)
        self.costs[charge.request_id] = charge.cost_nusd
        self.paid[name] += charge.cost_nusd
        if friend:
            self.lent[friend] = self.lent.get(friend, 0) + charge.cost_nusd

    async def charge_some(self, numbers: Sequence[int]) -> None:
        """A few at a time, so that there are batches before, in and after a fault."""
        for number in numbers:
            self.charge(number)
            if number % 10 == 0:
                await asyncio.sleep(0.005)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DONE_WITHIN_S):
            while not condition():
                await asyncio.sleep(0.005)

    def is_done(self) -> bool:
        return self.writer.queued == 0 and self.journal.acknowledged == self.journal.last

    async def check(self, database: Any) -> None:
        """By the database itself, behind the store's back, and then by the store's own sums."""
        entries = list(database.ledger.find({"type": "usage"}))
        assert {entry["_id"]: -entry["amount"] for entry in entries} == self.costs
        assert {row["_id"] for row in database.request_logs.find()} == self.costs.keys()
        assert database.dead_letters.count_documents({}) == 0
        for user in await self.store.read_users(USERS):
            left = user.credits_nusd + user.ref_credits_nusd + user.credits_new_nusd
            assert left == 2 * GIVEN_NUSD - self.paid[user.username]
            sums = [await self.store.sum_ledger(user.username, wallet) for wallet in ("legacy", "new")]
            assert sums == [user.credits_nusd + user.ref_credits_nusd, user.credits_new_nusd]
        for friend, spent in self.lent.items():
            assert await self.store.read_friend_spend(friend, DAY) == {"m.$1": spent}
            assert (await self.store.read_friend_keys([friend]))[0].total_spent_nusd == spent
        assert (await audit(self.store)).differences == ()
        assert all(account.is_idle() for account in self.users)
        assert (self.writer.set_aside, self.accounts.held_nusd()) == (0, 0)


@asynccontextmanager
async def keeping(folder: Path, uri: str, database: str) -> AsyncIterator[Books]:
    """Books that are being flushed and synced."""
    books = Books(folder, MongoStore(uri, database))
    try:
        await books.open()
        tasks = [asyncio.create_task(books.writer.run()), asyncio.create_task(books.journal.sync_forever())]
        yield books
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        books.journal.close()
        await books.store.close()
