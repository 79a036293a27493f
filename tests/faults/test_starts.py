"""Starts after the worst, one by one: what the state machine does not mix in, each with the right thing asserted."""

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

from tests.aio import run
from tests.faults.crashing import NOON_S, crash, intent_of
from tests.faults.model import Account, LossyStore, Running
from trollproxy import app
from trollproxy.chat import Usage
from trollproxy.config import load
from trollproxy.errors import StoreUnavailable
from trollproxy.money.accounts import Account as Wallets
from trollproxy.money.disk import Disk
from trollproxy.money.holds import hold
from trollproxy.money.journal import Journal
from trollproxy.money.settle import Ending, Seen, charge_for
from trollproxy.records import Progress, User

ANN: Account = ("ann", "legacy")
GIVEN_NUSD = 1000
SOON_S = 10.0


class Life:
    """One data directory and one store, over several processes."""

    gateway: app.Gateway
    account: Wallets

    def __init__(self, folder: Path) -> None:
        self.settings = load(None, {}, {"data_dir": str(folder), "demo": False})
        self.store = LossyStore()
        self.store.users["ann"] = User(username="ann")
        self.store.give(ANN, GIVEN_NUSD)

    async def start(self) -> None:
        self.gateway = app.Gateway(self.settings, read_settings=lambda: self.settings)
        self.gateway.store = self.store
        await self.gateway.open()

    async def load(self) -> None:
        """Ann's first request after the start."""
        async with self.gateway.writer.quiet():
            (user,) = await self.store.read_users(["ann"])
            self.account = self.gateway.accounts.put(user)

    def begin(self, request_id: str) -> Running:
        request = Running(ANN, 100, "2025-10-09", is_friends=False)
        self.gateway.recorder.intend(intent_of(request_id, request))
        return request

    def progress(self, request_id: str, used_nusd: int) -> None:
        usage = Usage(uncached=used_nusd)
        self.gateway.recorder.progress(
            Progress(request_id=request_id, usage=usage, is_usage_final=True, output_bytes=0)
        )

    def charge(self, request_id: str, cost_nusd: int) -> None:
        held = hold(self.account, "legacy", cost_nusd, now_s=NOON_S)
        seen = Seen(usage=Usage(uncached=cost_nusd), is_final=True, input_bytes=0, output_bytes=0)
        intent = intent_of(request_id, self.begin(request_id))
        charge = charge_for(intent, seen, Ending("completed", 200, "ok"))
        held.settle(charge.cost_nusd)
        self.gateway.recorder.record(charge)

    async def flush(self) -> None:
        await self.gateway.writer.flush(SOON_S)

    @property
    def balance(self) -> int:
        return self.store.kept.balances[ANN]


def play(folder: Path, scene: Callable[[Life], Awaitable[None]]) -> None:
    async def life() -> None:
        one = Life(folder)
        await one.start()
        await one.load()
        await scene(one)
        await crash(one.gateway, b"")

    run(life())


def test_a_store_that_goes_away_while_a_start_writes_what_was_left(tmp_path: Path) -> None:
    """What an earlier run left in the journal is owed, though the account was read before it reached the store."""

    async def scene(life: Life) -> None:
        life.begin("r1")
        life.progress("r1", 100)
        await crash(life.gateway, b"")
        life.store.fault = "before"
        with patch.object(app, "RECOVERY_S", 0.0):
            await life.start()
        await life.load()
        assert life.account.available("legacy", NOON_S) <= GIVEN_NUSD - 100
        await life.flush()
        assert life.balance == GIVEN_NUSD - 100
        assert life.account.available("legacy", NOON_S) <= GIVEN_NUSD - 100
        await life.load()
        assert life.account.available("legacy", NOON_S) == GIVEN_NUSD - 100

    play(tmp_path, scene)


class FullDisk(Disk):
    """Takes nothing while it is full."""

    is_full = False

    def write(self, file: int, data: bytes | memoryview) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(file, data)


def test_a_disk_that_is_full_when_a_start_settles_what_was_cut_off(tmp_path: Path) -> None:
    """The charge waits in memory; if it never comes to the disk, the next start must find the intent again."""

    async def scene(life: Life) -> None:
        life.charge("r0", 10)
        life.begin("r1")
        life.progress("r1", 100)
        await crash(life.gateway, b"")
        disk = FullDisk()

        def fill(boundary: str) -> None:
            disk.is_full = disk.is_full or boundary == "before_recovery"

        with patch.object(app, "Journal", lambda path: Journal(path, disk=disk)), patch.object(app, "pass_by", fill):
            await life.start()
        await life.flush()
        disk.is_full = False
        await life.gateway.drain()
        await life.start()
        assert sorted(life.store.kept.charges) == ["r0", "r1"]
        assert life.balance == GIVEN_NUSD - 110

    play(tmp_path, scene)


def test_a_backup_that_was_taken_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """MongoDB's ledger has the charge, the balance does not; the journal has it and says so again."""

    async def scene(life: Life) -> None:
        life.charge("r1", 100)
        life.store.fault = "after_ledger"
        with suppress(StoreUnavailable):
            await life.gateway.writer._flush_once()
        backup = life.store.snapshot()
        await life.flush()
        assert life.balance == GIVEN_NUSD - 100
        await life.gateway.drain()
        life.store.restore(backup)
        await life.start()
        assert life.balance == GIVEN_NUSD - 100

    play(tmp_path, scene)
