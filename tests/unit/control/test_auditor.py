"""The audit on its timer: what the gauges show, what it survives, and what it says of numbers that went back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import pytest

from tests.aio import run
from tests.fakes import NOON_S
from tests.unit.money.scripted_store import NEVER_S, Bench, ScriptedStore
from trollproxy.control import auditor as module
from trollproxy.control.auditor import FIRST_S, Auditor, register_audit_gauges
from trollproxy.errors import StoreUnavailable
from trollproxy.money.invariants import Violations
from trollproxy.records import User
from trollproxy.telemetry.metrics import Metrics


class Office:
    """An auditor whose pauses take no time; `pauses` are those that it made between audits."""

    def __init__(self) -> None:
        self.store = ScriptedStore()
        self.bench = Bench(self.store, interval_s=NEVER_S)
        self.store.users["ann"] = User(username="ann")
        self.auditor = Auditor(self.store, self.bench.writer, wall=lambda: NOON_S, pause=self.pause)
        self.pauses: list[float] = []
        self.metrics = Metrics()
        register_audit_gauges(self.metrics, self.auditor)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    @property
    def violations(self) -> Violations:
        return self.bench.writer.violations

    def drift(self, nusd: int) -> None:
        self.store.users["ann"] = msgspec.structs.replace(self.store.users["ann"], credits_nusd=nusd)

    def shown(self) -> tuple[float, ...]:
        lines = [line.rpartition(" ") for line in self.metrics.render().decode().splitlines() if line[0] != "#"]
        found = {name.removeprefix("trollproxy_billing_"): float(value) for name, _, value in lines}
        return found["drift_nusd"], found["drift_users"], found["audit_timestamp_seconds"]

    async def audits(self, count: int, interval_s: float) -> None:
        """Run until so many have been begun."""
        task = asyncio.create_task(self.auditor.run(interval_s))
        while self.store.calls["read_last_seq"] < count or interval_s not in self.pauses[1:]:
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def play(scene: Callable[[Office], Awaitable[None]]) -> None:
    async def life() -> None:
        await scene(Office())

    run(life())


def test_before_the_first_there_is_nothing_to_show() -> None:
    async def scene(office: Office) -> None:
        assert office.shown() == (0, 0, 0)

    play(scene)


def test_books_in_order_show_when_they_were() -> None:
    async def scene(office: Office) -> None:
        await office.auditor.look()
        assert office.shown() == (0, 0, NOON_S)
        assert sum(office.violations.counts.values()) == 0

    play(scene)


def test_a_drift_is_shown_and_logged_and_gone_when_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(office: Office) -> None:
        office.drift(-700)
        await office.auditor.look()
        assert office.shown() == (700, 1, NOON_S)
        office.drift(0)
        await office.auditor.look()
        assert office.shown() == (0, 0, NOON_S)

    play(scene)
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.fields == {"users": 1, "drift_nusd": 700, "by_wallet": {"ann legacy": -700}}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("interval_s", "first_s"), [(NEVER_S, FIRST_S), (2.0, 2.0)])
def test_the_first_comes_soon_after_a_start(interval_s: float, first_s: float) -> None:
    async def scene(office: Office) -> None:
        await office.audits(2, interval_s)
        assert office.pauses[:2] == [first_s, interval_s]

    play(scene)


@pytest.mark.parametrize("error", [StoreUnavailable("down"), RuntimeError("a bug")])
def test_an_audit_that_fails_keeps_what_was_known_and_is_made_again(error: Exception) -> None:
    async def scene(office: Office) -> None:
        office.drift(-1)
        await office.auditor.look()
        office.drift(0)
        office.store.failing.append(error)
        await office.auditor._try()
        assert office.shown() == (1, 1, NOON_S)
        await office.audits(3, NEVER_S)
        assert office.shown() == (0, 0, NOON_S)

    play(scene)


def test_numbers_that_the_ledger_has_forgotten_are_a_violation() -> None:
    async def scene(office: Office) -> None:
        office.bench.record(1, 2)
        await office.bench.writer.flush(NEVER_S)
        await office.auditor.look()
        assert office.violations.counts["watermark_backwards"] == 0
        office.store.batches.clear()
        await office.auditor.look()
        assert office.violations.counts["watermark_backwards"] == 1

    play(scene)


def test_ref_credits_below_zero_are_a_violation() -> None:
    async def scene(office: Office) -> None:
        office.store.users["bob"] = User(username="bob", ref_credits_nusd=-3, credits_nusd=3)
        await office.auditor.look()
        assert office.violations.counts["ref_credits_below_zero"] == 1

    play(scene)


def test_many_differences_do_not_make_a_long_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(office: Office) -> None:
        for number in range(50):
            office.store.users[f"u{number}"] = User(username=f"u{number}", credits_nusd=1)
        await office.auditor.look()

    play(scene)
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.fields["users"] == 50  # type: ignore[attr-defined]
    assert len(told.fields["by_wallet"]) == module.MAX_NAMED  # type: ignore[attr-defined]
