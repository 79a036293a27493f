"""The audit in the running gateway: a drift comes up in the metrics, load brings none, and prices are in the store."""

import asyncio
import json
import sqlite3
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.aio import run
from tests.integration.live_gateway import Live, live
from trollproxy import app
from trollproxy.cli.people import audit_books
from trollproxy.config import Settings, load
from trollproxy.control.audit import ChargeAudit
from trollproxy.control.first_start import ADMIN
from trollproxy.errors import GatewayError
from trollproxy.gateway.sweeper import longest_life_s
from trollproxy.money.holds import hold
from trollproxy.records import Timeouts
from trollproxy.store.sqlite import SqliteStore

OFTEN = {"billing": {"auditInterval": "50ms", "flushInterval": "5ms"}, "limits": {"proRpm": 100_000, "devRpm": 100_000}}
SOON_S = 20.0


async def metrics(there: Live) -> dict[str, float]:
    answer = await there.ask(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    lines = [line.rpartition(" ") for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name.removeprefix("trollproxy_"): float(value) for name, _, value in lines}


async def metrics_when(there: Live, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    async with asyncio.timeout(SOON_S):
        while not condition(found := await metrics(there)):
            await asyncio.sleep(0.02)
    return found


def violations(found: dict[str, float]) -> dict[str, float]:
    return {name: count for name, count in found.items() if name.startswith("invariant_violations") and count}


def test_a_drift_that_is_put_into_the_store_comes_up_in_the_metrics(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live(tmp_path, **OFTEN) as there:
            found = await metrics_when(there, lambda now: now["billing_audit_timestamp_seconds"] > 0)
            assert (found["billing_drift_nusd"], found["billing_drift_users"]) == (0, 0)
            with closing(sqlite3.connect(there.gateway.data_dir.database, isolation_level=None)) as db:
                db.execute("UPDATE usersNew SET credits = credits - 700")
                found = await metrics_when(there, lambda now: now["billing_drift_users"] > 0)
                assert (found["billing_drift_nusd"], found["billing_drift_users"]) == (700, 1)
                db.execute("UPDATE usersNew SET credits = credits + 700")
            found = await metrics_when(there, lambda now: now["billing_drift_users"] == 0)
            assert found["billing_drift_nusd"] == 0
            assert violations(found) == {}

    run(scene())


def test_load_shows_no_drift_and_every_charge_can_be_recomputed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live(tmp_path, **OFTEN) as there:
            seen: list[float] = []
            for _ in range(10):
                await asyncio.gather(*(there.ask(there.request(max_tokens=5)) for _ in range(40)))
                seen.append((await metrics(there))["billing_drift_nusd"])
            found = await metrics_when(there, lambda now: now["writer_queued_charges"] == 0)
            audited_at_s = found["billing_audit_timestamp_seconds"]
            found = await metrics_when(there, lambda now: now["billing_audit_timestamp_seconds"] > audited_at_s)
            assert seen == [0] * 10
            assert (found["billing_drift_nusd"], found["held_usd"], violations(found)) == (0, 0, {})
            charges, _ = await there.books()
        store = SqliteStore(there.gateway.data_dir.database)
        await store.open()
        books = ChargeAudit(store)
        assert [each async for each in books.mispriced()] == []
        assert books.count == len(charges) == 400
        assert len({charge.request_id for charge in await store.list_charges(ADMIN, limit=1000)}) == 400
        await store.close()

    run(scene())


def test_prices_are_in_the_store_before_any_request_and_after_a_reload(tmp_path: Path) -> None:
    def prices() -> set[str]:
        with closing(sqlite3.connect(tmp_path / "data" / "trollproxy.sqlite")) as db:
            return {str(row[0]) for row in db.execute("SELECT _id FROM prices")}

    async def scene() -> None:
        async with live(tmp_path) as there:
            async with asyncio.timeout(SOON_S):
                while not prices():
                    await asyncio.sleep(0.01)
            before = prices()
            there.gateway._read_settings = lambda: settings_with_another_price(tmp_path)
            await there.gateway.reload()
            async with asyncio.timeout(SOON_S):
                while len(prices()) < 2:
                    await asyncio.sleep(0.01)
            shown = {model.price.version for model in there.gateway.live.snapshot.routes.listed()}
            assert before < prices() == shown

    run(scene())


def settings_with_another_price(folder: Path) -> Settings:
    config = json.loads((folder / "config.json").read_text())
    model = {"id": "other", "upstream": "demo", "pricing": {"input": 3, "output": 9}}
    (folder / "other.json").write_text(json.dumps(config | {"models": [model]}))
    return load(str(folder / "other.json"), {}, {})


def test_an_audit_can_be_switched_off(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live(tmp_path, billing={"auditInterval": 0}) as there:
            found = await metrics(there)
            assert found["billing_audit_timestamp_seconds"] == 0

    run(scene())


def test_a_phantom_hold_is_released_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SWEEP_S", 0.01)

    async def scene() -> None:
        async with live(tmp_path) as there:
            gateway = there.gateway
            assert (await there.ask(there.request(max_tokens=5))).status == 200
            account = gateway.accounts.get(ADMIN)
            assert account is not None
            phantom = hold(account, "legacy", 1_000, now_s=0.0)
            gateway.holds.watch(phantom, "req_phantom", now_s=app.CLOCK.monotonic())
            life_s = phantom.deadline_s - app.CLOCK.monotonic()
            assert life_s == pytest.approx(longest_life_s([Timeouts()], drain_s=5.0), abs=1)
            phantom.deadline_s = 0.0
            swept = 'invariant_violations_total{invariant="hold_swept"}'
            found = await metrics_when(there, lambda now: now[swept] > 0)
            assert (found[swept], found["held_usd"], len(gateway.holds)) == (1, 0, 0)

    run(scene())


def test_the_command_names_each_charge_that_is_not_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene() -> None:
        async with live(tmp_path) as there:
            for _ in range(3):
                await there.ask(there.request(max_tokens=5))
            charges, _ = await there.books()
        store = SqliteStore(there.gateway.data_dir.database)
        await store.open()
        await audit_books(store, there.gateway.office(), Namespace())
        assert "3 charges: each costs what its tokens come to" in capsys.readouterr().out
        with closing(sqlite3.connect(there.gateway.data_dir.database, isolation_level=None)) as db:
            db.execute("UPDATE request_logs SET costNusd = costNusd + 1 WHERE _id = ?", (charges[0].request_id,))
            db.execute("UPDATE request_logs SET priceVersion = 'gone' WHERE _id = ?", (charges[1].request_id,))
        with pytest.raises(GatewayError, match=r"0 balances .* 2 charges") as caught:
            await audit_books(store, there.gateway.office(), Namespace())
        assert caught.value.code == "billing_drift"
        lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert "its tokens come to" in lines[charges[0].request_id]
        assert "price version gone is unknown" in lines[charges[1].request_id]
        assert charges[2].request_id not in lines
        await store.close()

    run(scene())
