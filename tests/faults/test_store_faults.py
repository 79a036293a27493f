"""A real MongoDB that fails in every way it can: what was to be charged is charged once when it works again.

Failpoints break commands inside the server, the chaos proxy breaks the way there, and at last a whole gateway is put
under load while its database is away. Seeds are fixed; FAULTS_SEED sets another, FAULTS_DEEP=1 makes the outage long.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from pymongo import MongoClient

from tests.aio import run
from tests.e2e.process import GatewayProcess
from tests.e2e.talk import DIALECTS, ask
from tests.faults import chaos
from tests.faults.chaos import Chaos
from tests.faults.flushing import CHARGES, DONE_WITHIN_S, Books, keeping
from tests.mongod import Mongod
from trollproxy.control.audit import Difference, audit
from trollproxy.money import writer as writer_module
from trollproxy.records import Credit
from trollproxy.store import mongo
from trollproxy.store.mongo import MongoStore

log = logging.getLogger(__name__)

DEEP = bool(os.environ.get("FAULTS_DEEP"))
SEED = int(os.environ.get("FAULTS_SEED", "1"))
OUTAGE_S = 60.0 if DEEP else 8.0
MAX_GROWTH_KB = 40 * 1024
APP = "books"
TIMES = (1, 4, 20) if DEEP else (1, 4)


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with Mongod() as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadlines of a store, shortened alike, so that a blocked command need not block for five seconds."""
    monkeypatch.setattr(mongo, "DEADLINE_S", 0.4)
    monkeypatch.setattr(mongo, "DRIVER_DEADLINE_MS", 350)
    monkeypatch.setattr(mongo, "SELECTION_DEADLINE_MS", 300)
    monkeypatch.setattr(writer_module, "_RETRY_MAX_S", 0.2)


Break = Callable[[Books], AbstractAsyncContextManager[None]]


def play(folder: Path, server: Mongod, uri: str, *, breaks: Sequence[Break]) -> Books:
    """Charge while each of the breaks strikes, wait after each until all is on the books, and look at them."""
    name = f"faults_{uuid4().hex}"
    share = CHARGES // len(breaks)

    async def scenario() -> Books:
        async with keeping(folder, uri, name) as books:
            for number, fault in enumerate(breaks):
                async with fault(books):
                    await books.charge_some(range(number * share + 1, (number + 1) * share + 1))
                await books.wait_until(books.is_done)
            with server.client() as client:
                await books.check(client[name])
                client.drop_database(name)
            return books

    return run(scenario())


# Inside the server

BREAKS: dict[str, dict[str, Any]] = {
    "closed": {"closeConnection": True},
    "shutdown": {"errorCode": 91},
    "unconcerned": {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
    "blocked": {"blockConnection": True, "blockTimeMS": 600},
}


class FailPoint:
    """`failCommand` of the server, for the clients of the books alone."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self._client = client

    def configure(self, command: str, *, times: int, **data: Any) -> None:
        self._configure({"times": times}, {"failCommands": [command], "appName": APP, **data})

    def lift(self) -> int:
        """Switch it off; how often it has struck."""
        return int(self._configure("off", {})["count"])

    def _configure(self, mode: Any, data: dict[str, Any]) -> dict[str, Any]:
        return self._client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("command", ["insert", "update", "find"])
def test_commands_that_fail_inside_the_server(tmp_path: Path, mongod: Mongod, command: str, kind: str) -> None:
    """Once, then several times in a row."""

    def failing(times: int) -> Break:
        @asynccontextmanager
        async def strike(books: Books) -> AsyncIterator[None]:
            with mongod.client() as client:
                point = FailPoint(client)
                if command == "find":  # which is asked only after an acknowledgement was lost
                    await lose_acknowledgement(point, books, CHARGES + times)
                point.configure(command, times=times, **BREAKS[kind])
                try:
                    yield
                    await books.wait_until(books.is_done)
                finally:
                    assert point.lift() > 0

        return strike

    uri = f"{mongod.uri}&appName={APP}&heartbeatFrequencyMS=500"
    play(tmp_path, mongod, uri, breaks=[failing(times) for times in TIMES])


async def lose_acknowledgement(point: FailPoint, books: Books, number: int) -> None:
    failures = books.writer.failures
    point.configure("update", times=1, **BREAKS["unconcerned"])
    books.charge(number)
    await books.wait_until(lambda: books.writer.failures > failures)


def test_a_command_that_blocks_for_longer_than_the_real_deadline(tmp_path: Path, mongod: Mongod) -> None:
    """It is applied after the store has given it up, and met there by the writer's next attempt."""

    @asynccontextmanager
    async def failing(books: Books) -> AsyncIterator[None]:
        with mongod.client() as client:
            point = FailPoint(client)
            point.configure("update", times=1, blockConnection=True, blockTimeMS=6000)
            yield
            await books.wait_until(books.is_done)
            assert point.lift() > 0

    books = play(tmp_path, mongod, f"{mongod.uri}&appName={APP}&heartbeatFrequencyMS=500", breaks=[failing])
    assert books.writer.failures >= 1


# On the way to the server


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", chaos.FAULTS)
def test_connections_that_fail(tmp_path: Path, mongod: Mongod, fault: chaos.Fault) -> None:
    with Chaos(mongod.port, seed=SEED) as between:

        @asynccontextmanager
        async def failing(books: Books) -> AsyncIterator[None]:
            with between.failing(fault):
                yield
                if fault != "delay":
                    await books.wait_until(lambda: books.writer.failures >= (20 if DEEP else 3))
                assert between.struck > 0 or fault == "refuse"

        uri = f"mongodb://127.0.0.1:{between.port}/?directConnection=true"
        play(tmp_path, mongod, uri, breaks=[failing])


# The whole gateway


class Load:
    """Callers of both dialects that ask without a pause, and all that they were told."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._is_over = False
        self.statuses: list[int] = []
        self.ids: list[str] = []

    async def run(self, callers: int) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(self._call(session, number) for number in range(callers)))

    def end(self) -> None:
        self._is_over = True

    async def _call(self, session: aiohttp.ClientSession, number: int) -> None:
        dialect = DIALECTS[number % 2]
        body = dialect.ask("#demo tokens=3 delay_ms=1", stream=number % 4 < 2)
        url, headers = self._gateway.url + dialect.path, dialect.authorize(self._gateway.key)
        while not self._is_over:
            async with session.post(url, json=body, headers=headers) as reply:
                await reply.read()
                self.statuses.append(reply.status)
                self.ids.append(reply.headers[dialect.request_id])


def rss_kb(gateway: GatewayProcess) -> int:
    assert gateway._process is not None
    status = Path(f"/proc/{gateway._process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def watch_outage(gateway: GatewayProcess, between: Chaos, load: Load) -> tuple[int, int, int]:
    """From a warm gateway through the outage; memory before and after it, and how many were served meanwhile."""
    time_of = time.monotonic
    began_s = time_of()
    while len(load.ids) < 500 or time_of() < began_s + 1:
        assert time_of() < began_s + DONE_WITHIN_S
        time.sleep(0.05)
    before_kb, served = rss_kb(gateway), len(load.ids)
    with between.failing("half_open"):
        until_s = time_of() + OUTAGE_S
        health = ask(gateway.port, "GET", "/health")
        assert (health.status, health.json()["store"]) == (503, "store_unavailable")
        while time_of() < until_s:
            time.sleep(0.05)
        return before_kb, rss_kb(gateway), len(load.ids) - served


def test_an_outage_at_full_load(tmp_path: Path, mongod: Mongod) -> None:
    name = f"outage_{uuid4().hex}"
    config = {"limits": {"devRpm": 10_000_000, "proRpm": 10_000_000}, "reloadInterval": "2s"}

    async def under_load(gateway: GatewayProcess, between: Chaos) -> tuple[Load, tuple[int, int, int]]:
        load = Load(gateway)
        running = asyncio.create_task(load.run(24))
        try:
            return load, await asyncio.to_thread(watch_outage, gateway, between, load)
        finally:
            load.end()
            await running

    with Chaos(mongod.port, seed=SEED) as between:
        uri = f"mongodb://127.0.0.1:{between.port}/{name}?directConnection=true"
        arguments = ("--port", "0", "--mongodb-uri", uri)
        with GatewayProcess(tmp_path, config=config, arguments=arguments) as gateway:
            run(credit(uri, name))
            assert gateway.ask("POST", "/reload").status == 200
            load, (before_kb, after_kb, served) = run(under_load(gateway, between), timeout_s=OUTAGE_S + 60)
            gateway.settle()
            assert ask(gateway.port, "GET", "/health").status == 200
    log.info("served %d in %g s of outage; RSS %d -> %d kB", served, OUTAGE_S, before_kb, after_kb)
    assert set(load.statuses) == {200}
    assert served > 10 * OUTAGE_S
    assert after_kb - before_kb < MAX_GROWTH_KB
    check_outage(mongod, name, load)


async def credit(uri: str, name: str) -> None:
    store = MongoStore(uri, name)
    await store.open()
    given = Credit(
        entry_id="more", username="admin", wallet="legacy", kind="purchase", amount_nusd=10**12, created_at_s=0.0
    )
    await store.apply_credit(given)
    await store.close()


def check_outage(mongod: Mongod, name: str, load: Load) -> None:
    """Each answer has its row, each row is there once in logs and ledger, and the audit finds nothing."""

    async def differences() -> tuple[Difference, ...]:
        store = MongoStore(mongod.uri, name)
        await store.open()
        found = await audit(store)
        await store.close()
        return found.differences

    with mongod.client() as client:
        rows = [row["_id"] for row in client[name].request_logs.find({}, {"_id": 1})]
        entries = [row["_id"] for row in client[name].ledger.find({"type": "usage"}, {"_id": 1})]
    assert len(load.ids) == len(set(load.ids))
    assert sorted(rows) == sorted(entries) == sorted(load.ids)
    assert run(differences()) == ()
