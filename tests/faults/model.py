"""What the money core is held against: the plainest bookkeeping there is, and a store that misbehaves as stores do.

`Model` knows neither journal nor batches: it is told what happened and says what must be true. `LossyStore` keeps the
contract of `ports.Store` in MongoDB's way, ledger first and balances second, each document guarded by a watermark, and
can lose an acknowledgement after either step, apply a step late, be down, and be set back to an earlier state.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Literal

import msgspec

from tests.fakes import FakeStore
from trollproxy.errors import GatewayError, StoreUnavailable
from trollproxy.records import Batch, Charge, Wallet

Account = tuple[str, Wallet]
Fault = Literal["before", "after_ledger", "after_all", "late_ledger", "late_balances"]
FAULTS: tuple[Fault, ...] = ("before", "after_ledger", "after_all", "late_ledger", "late_balances")


class Running(msgspec.Struct):
    """A request that holds money; once it is `intended` it must leave one charge."""

    account: Account
    hold_nusd: int
    day: str
    is_friends: bool
    input_bytes: int = 0
    number: int = 0
    progress: tuple[int, int | None, bool] | None = None  # output bytes, the provider's usage, whether that is final

    @property
    def is_intended(self) -> bool:
        return self.number > 0


class Put(msgspec.Struct, frozen=True):
    """A charge that was put down."""

    account: Account
    cost_nusd: int
    day: str
    is_friends: bool


class Model:
    """Who was given what, what runs, what was charged."""

    def __init__(self) -> None:
        self.given: dict[Account, int] = {}
        self.running: dict[str, Running] = {}
        self.charges: dict[str, Put] = {}

    def give(self, account: Account, amount_nusd: int) -> None:
        self.given[account] = self.given.get(account, 0) + amount_nusd

    def charge(self, request_id: str, cost_nusd: int) -> None:
        assert request_id not in self.charges
        run = self.running.pop(request_id)
        self.charges[request_id] = Put(run.account, cost_nusd, run.day, run.is_friends)

    def crash(self) -> None:
        """All holds are gone, and every intent becomes a charge by its last progress."""
        for request_id, run in list(self.running.items()):
            if run.is_intended:
                self.charge(request_id, 0 if run.progress is None else used_nusd(run.input_bytes, run.progress))
        self.running.clear()

    def balance(self, account: Account) -> int:
        return self.given.get(account, 0) - sum(
            put.cost_nusd for put in self.charges.values() if put.account == account
        )

    def held(self, account: Account) -> int:
        return sum(run.hold_nusd for run in self.running.values() if run.account == account)

    def lent(self, day: str) -> int:
        """What the friend's key has spent and holds of a day."""
        spent = sum(put.cost_nusd for put in self.charges.values() if put.is_friends and put.day == day)
        return spent + sum(run.hold_nusd for run in self.running.values() if run.is_friends and run.day == day)


def used_nusd(input_bytes: int, seen: tuple[int, int | None, bool]) -> int:
    """At one nano-dollar a token: the provider's count if it is its last word, else ours by size, 4 bytes a token."""
    output_bytes, usage, is_final = seen
    counted = -(-output_bytes // 4)
    if usage is None:
        return -(-input_bytes // 4) + counted
    return usage if is_final else usage + counted


class Kept(msgspec.Struct):
    """All that the store has on its disk."""

    balances: dict[Account, int] = {}
    charges: dict[str, Charge] = {}
    writers: dict[str, str] = {}
    marks: dict[tuple[str, str], int] = {}  # (document, writer) -> the last number that the document has seen
    lent: dict[tuple[str, str, str], int] = {}
    given: dict[Account, int] = {}


class LossyStore(FakeStore):
    """`fault` strikes the next batch, once."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = Kept()
        self.fault: Fault | None = None
        self.is_down = False
        self.late: list[tuple[Fault, Batch]] = []

    async def _call(self, name: str) -> None:
        await super()._call(name)
        if self.is_down:
            raise StoreUnavailable("down")

    def snapshot(self) -> Kept:
        return deepcopy(self.kept)

    def restore(self, kept: Kept) -> None:
        """Be set back, by an administrator with a backup; calls under way died with the server."""
        self.kept = deepcopy(kept)
        self.late.clear()
        self._show_users()

    def give(self, account: Account, amount_nusd: int) -> None:
        """An administrator's credit, which other tests are about."""
        self.kept.given[account] = self.kept.given.get(account, 0) + amount_nusd
        self.kept.balances[account] = self.kept.balances.get(account, 0) + amount_nusd
        self._show_users()

    async def write_batch(self, batch: Batch) -> None:
        fault, self.fault = self.fault, None
        await self._call("write_batch")
        if fault == "before":
            raise StoreUnavailable("not applied")
        if fault == "late_ledger":
            self.late.append((fault, batch))
            raise StoreUnavailable("may be applied later")
        self._post(batch)
        if fault == "late_balances":
            self.late.append((fault, batch))
        if fault in {"after_ledger", "late_balances"}:
            raise StoreUnavailable("the ledger was written")
        self._draw(batch)
        if fault == "after_all":
            raise StoreUnavailable("applied, and the acknowledgement lost")

    def deliver_late(self) -> None:
        """What a cancelled call had sent arrives after all: one command of it, guarded as it was sent."""
        for fault, batch in self.late:
            if fault == "late_ledger":
                self._post(batch)
            else:
                self._draw(batch, is_late=True)
        self.late.clear()

    async def read_last_seq(self, writer: str) -> int:
        await self._call("read_last_seq")
        kept = self.kept
        return max((charge.seq for name, charge in kept.charges.items() if kept.writers[name] == writer), default=0)

    async def read_friend_spend(self, key_id: str, day: str) -> dict[str, int]:
        await self._call("read_friend_spend")
        return {model: spent for (key, at, model), spent in self.kept.lent.items() if (key, at) == (key_id, day)}

    def is_drawn(self, charge: Charge) -> bool:
        """Whether the payer's balance has seen it."""
        name, kept = charge.request_id, self.kept
        return name in kept.charges and kept.marks.get((charge.username, kept.writers[name]), 0) >= charge.seq

    def _post(self, batch: Batch) -> None:
        for charge in batch.charges:
            known = self.kept.charges.setdefault(charge.request_id, charge)
            if known != charge or self.kept.writers.setdefault(charge.request_id, batch.writer) != batch.writer:
                raise GatewayError(f"{charge.request_id} is there with other contents", code="ledger_conflict")

    def _draw(self, batch: Batch, *, is_late: bool = False) -> None:
        for name in {charge.username for charge in batch.charges}:
            mine = [charge for charge in batch.charges if charge.username == name]
            for charge in self._unseen(name, batch.writer, mine, is_late=is_late):
                self.kept.balances[name, charge.wallet] -= charge.cost_nusd
        for charge in batch.charges:
            if charge.friend_key_id is not None:
                document = (charge.friend_key_id, charge.day, charge.model)
                for unseen in self._unseen("|".join(document), batch.writer, [charge], is_late=is_late):
                    self.kept.lent[document] = self.kept.lent.get(document, 0) + unseen.cost_nusd
        self._show_users()

    def _unseen(self, name: str, writer: str, charges: Sequence[Charge], *, is_late: bool) -> list[Charge]:
        """The charges that a document's mark has not passed; the mark moves. A late command does all or nothing."""
        mark = self.kept.marks.get((name, writer), 0)
        if is_late and mark >= charges[0].seq:
            return []
        self.kept.marks[name, writer] = max(mark, charges[-1].seq)
        return [charge for charge in charges if charge.seq > mark]

    def _show_users(self) -> None:
        for name, user in self.users.items():
            legacy, new = (self.kept.balances.get((name, wallet), 0) for wallet in ("legacy", "new"))
            self.users[name] = msgspec.structs.replace(user, credits_nusd=legacy, credits_new_nusd=new)
