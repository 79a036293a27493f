"""The whole gateway under many requests at once: nothing is overspent, looked up twice, or buffered without bound."""

import asyncio
import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.aio import run
from tests.integration.live_gateway import Answer, Live, live, provider
from trollproxy.control.first_start import ADMIN, DEMO_CREDIT_NUSD

MANY_RPM = {"limits": {"devRpm": 100_000, "proRpm": 100_000}}
ANSWER = json.dumps(
    {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 0, "completion_tokens": 100}}
).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
TEN_CENTS = 100_000_000
REQUESTS = 1_000


class Rush:
    """Many requests at once; the provider answers none of them before each is held or refused."""

    def __init__(self) -> None:
        self.arrived = 0
        self.statuses: Counter[int] = Counter()
        self.all_decided = asyncio.Event()

    def _look(self) -> None:
        if self.arrived + self.statuses.total() >= REQUESTS:
            self.all_decided.set()

    async def answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrived += 1
        self._look()
        await self.all_decided.wait()
        writer.write(REPLY)

    async def ask(self, there: Live, key: str) -> Answer:
        answer = await there.ask(there.request(key=key, model="m", max_tokens=100))
        self.statuses[answer.status] += 1
        self._look()
        return answer


@pytest.mark.parametrize("keys", [1, 20])
def test_a_thousand_requests_do_not_overspend_five_dollars(tmp_path: Path, keys: int) -> None:
    async def scene() -> None:
        rush = Rush()
        async with provider(rush.answer) as config, live(tmp_path, **config, **MANY_RPM) as there:
            office = there.gateway.office()
            secrets = [(await office.issue_key(ADMIN, tier="pro")).secret for _ in range(keys)]
            await asyncio.gather(*(rush.ask(there, secrets[n % keys]) for n in range(REQUESTS)))
            assert rush.statuses == {200: 50, 402: 950}
            assert there.gateway.accounts.held_nusd() == 0
            charges, left = await there.books()
        assert len(charges) == len({charge.request_id for charge in charges}) == rush.arrived == 50
        assert sum(charge.cost_nusd for charge in charges) == 50 * TEN_CENTS == DEMO_CREDIT_NUSD
        assert left == 0

    run(scene())


def test_parallel_first_requests_of_a_key_do_one_look_up(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live(tmp_path, **MANY_RPM) as there:
            asked: Counter[str] = Counter()
            find = there.gateway.store.find_client_key

            async def counting(key_id: str) -> Any:
                asked[key_id] += 1
                return await find(key_id)

            there.gateway.store.find_client_key = counting  # type: ignore[method-assign]
            answers = await asyncio.gather(*(there.ask(there.request(max_tokens=5)) for _ in range(100)))
            assert {answer.status for answer in answers} == {200}
            assert asked.total() == 1
            charges, left = await there.books()
        assert len(charges) == 100
        assert left == DEMO_CREDIT_NUSD - sum(charge.cost_nusd for charge in charges)

    run(scene())


EVENT = b'data: {"choices":[{"delta":{"content":"' + b"x" * 16_000 + b'"}}]}\n\n'
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BUFFERS = 32 * 1024 * 1024  # what the kernel may hold of four sockets' ends, generously


class Flood:
    """A provider that sends for as long as it is read, and notes when it is not."""

    def __init__(self) -> None:
        self.sent = 0
        self.is_paused = asyncio.Event()
        self.is_cut = asyncio.Event()

    async def answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ENDLESS)
        try:
            while self.sent < 4 * BUFFERS and not writer.is_closing():
                writer.write(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
                self.sent += len(EVENT)
                await self._drained(writer)
        finally:
            self.is_cut.set()

    async def _drained(self, writer: asyncio.StreamWriter) -> None:
        draining = asyncio.ensure_future(writer.drain())
        done, _ = await asyncio.wait([draining], timeout=1)
        if not done:
            self.is_paused.set()
        await draining


def test_a_client_that_does_not_read_pauses_the_provider(tmp_path: Path) -> None:
    async def scene() -> None:
        flood = Flood()
        slow = {"billing": {"drainAfterDisconnect": "50ms"}}
        async with provider(flood.answer) as config, live(tmp_path, **config, **slow) as there:
            async with there.line() as line:
                line.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await line.send(there.request(model="m", max_tokens=10, stream=True))
                await flood.is_paused.wait()
                assert flood.sent < BUFFERS
                [connection] = there.gateway._listening[0].server.connections
                assert connection.transport is not None
                assert connection.transport.get_write_buffer_size() < 1024 * 1024
            await flood.is_cut.wait()
            charges, _ = await there.books()
        assert [charge.ended_by for charge in charges] == ["client_disconnected"]

    run(scene())


class Watch:
    """Notes whatever blocks, if it is done on the loop's thread while it is on. An audit hook cannot be removed."""

    BLOCKING = ("open", "sqlite3.connect", "socket.getaddrinfo", "time.sleep", "subprocess.Popen", "os.rename")

    def __init__(self) -> None:
        self.is_on = False
        self.seen: list[str] = []
        self._thread = threading.get_ident()
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event in self.BLOCKING and threading.get_ident() == self._thread:
            self.seen.append(f"{event} {arguments}")


def test_nothing_blocks_the_loop_while_requests_run(tmp_path: Path) -> None:
    """SQLite's connections bind themselves to the thread that opens them, so seeing them opened sees them used.

    The journal is the exception: its writes and reads are of the page cache. Its segment is opened once, and read on.
    """

    async def scene() -> None:
        watch = Watch()
        async with live(tmp_path, billing={"flushInterval": "10ms"}) as there:
            await there.ask(there.request(max_tokens=5))  # what is imported late is imported now
            watch.is_on = True
            (tmp_path / "config.json").open().close()
            assert [seen.partition(" ")[0] for seen in watch.seen] == ["open"]
            watch.seen.clear()
            for members in ({"max_tokens": 5}, {"max_tokens": 5, "stream": True}, {"model": "none"}):
                await there.ask(there.request(**members))
            await there.gateway.callers.refresh(0.0)
            while there.gateway.writer.queued:
                await asyncio.sleep(0)
            watch.is_on = False
            journal = str(there.gateway.data_dir.journal)
        assert len([seen for seen in watch.seen if journal in seen]) <= 1
        assert [seen for seen in watch.seen if journal not in seen] == []

    run(scene())


def test_a_reload_amid_requests_fails_none(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live(tmp_path, **MANY_RPM) as there:
            asked = [there.ask(there.request(max_tokens=5)) for _ in range(50)]
            reloads = [there.gateway.reload() for _ in range(10)]
            answers, _ = await asyncio.gather(asyncio.gather(*asked), asyncio.gather(*reloads))
            assert {answer.status for answer in answers} == {200}
            assert all(not task.done() for task in there.gateway._tasks)

    run(scene())
