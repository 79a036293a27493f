"""A disk that takes nothing for a while: who comes is refused and costs nobody anything, who is under way is served.

The real gateway and a provider of the test's own, which sees every byte that reaches it.
"""

import asyncio
import errno
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from tests.aio import run
from tests.integration.live_gateway import Answer, Live, live
from tests.integration.short_way import Ways
from trollproxy import app
from trollproxy.control.first_start import DEMO_CREDIT_NUSD
from trollproxy.money import journal as journal_module
from trollproxy.money.disk import Disk
from trollproxy.money.journal import Journal
from trollproxy.records import Charge
from trollproxy.upstream.client import OriginStats
from trollproxy.upstream.connection import WRITE_PIECE_BYTES

SOON_S = 10.0
CHATS, MESSAGES = "/v1/chat/completions", "/v1/messages"
OUT_TOKENS = 5
PRICE_NUSD = 1_000_000  # of a token
COST_NUSD = OUT_TOKENS * PRICE_NUSD
USAGE = {"prompt_tokens": 0, "completion_tokens": OUT_TOKENS}
CHAT = json.dumps({"choices": [{"message": {"content": "hello"}}], "usage": USAGE}).encode()
MESSAGE = json.dumps(
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "hello"}],
        "usage": {"input_tokens": 0, "output_tokens": OUT_TOKENS},
    }
).encode()
EVENTS = [
    b'data: {"choices":[{"delta":{"content":"hel"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"lo"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
]
STREAMED = EVENTS[0] + EVENTS[1] + EVENTS[3]  # the client has not asked for the count
LIMITS = {"devRpm": 100_000, "proRpm": 100_000}
LONG = "x" * (2 * WRITE_PIECE_BYTES)


class FailingDisk(Disk):
    """The journal's. It is read at all times."""

    is_failing = False

    def write(self, file: int, data: bytes | memoryview) -> int:
        if self.is_failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(file, data)


class Provider:
    """Speaks both dialects. While it `holds`, it begins no answer, and no second event of a stream."""

    def __init__(self) -> None:
        self.asked = 0
        self.received_bytes = 0
        self.connections = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.received_bytes += len(head)
                size = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                body = await reader.readexactly(int(size[15:]))
                self.received_bytes += len(body)
                self.asked += 1
                await self._answer(head, body, writer)
        writer.close()

    async def _answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if not json.loads(body).get("stream"):
            await self.goes_on.wait()
            said = MESSAGE if head.startswith(b"POST /v1/messages") else CHAT
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(said), said))
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in EVENTS:
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await self.goes_on.wait()
        writer.write(b"0\r\n\r\n")


class House(msgspec.Struct):
    """A gateway whose disk and provider do as they are told."""

    there: Live
    disk: FailingDisk
    provider: Provider

    def request(self, *, more: str = "", version: str = "1.1", path: str = CHATS, **asked: Any) -> bytes:
        members = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}], **asked}
        body = json.dumps(members).encode()
        head = self.there.head(len(body), more=more, version=version)
        return head.replace(CHATS.encode(), path.encode()) + body

    async def ask(self, data: bytes) -> Answer:
        return await self.there.ask(data)

    async def serve_once(self) -> None:
        """So that there is an idle connection to the provider, and the head is known."""
        answer = await self.ask(self.request())
        assert (answer.status, answer.body) == (200, CHAT)

    def heal(self) -> None:
        """The disk works again, and has for as long as it is left alone after a failure."""
        self.disk.is_failing = False
        self.there.gateway.journal._retry_at = 0.0

    def connections(self) -> OriginStats:
        return next(iter(self.there.gateway.upstream.stats().values()))

    async def check_books(self, *served: int) -> list[Charge]:
        """What was served is on the books once each, the refused have at the most a row that costs nothing."""
        while self.there.gateway.gate.in_flight:
            await asyncio.sleep(0)
        assert self.there.gateway.accounts.held_nusd() == 0
        charges, left = await self.there.books()
        assert sorted(charge.cost_nusd for charge in charges if charge.ended_by == "completed") == sorted(served)
        refused = [charge for charge in charges if charge.ended_by != "completed"]
        assert {(charge.cost_nusd, charge.status, charge.code) for charge in refused} <= {
            (0, 503, "gateway_overloaded")
        }
        assert len({charge.request_id for charge in charges}) == len(charges)
        assert left == DEMO_CREDIT_NUSD - sum(served)
        assert self.there.gateway.recorder.refused == 0
        return charges


@asynccontextmanager
async def living(folder: Path) -> AsyncIterator[House]:
    disk, provider = FailingDisk(), Provider()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstreams = {"main": {"baseUrl": f"http://127.0.0.1:{port}", "apiKey": "k", "formats": ["openai", "anthropic"]}}
    models = [{"id": "m", "upstream": "main", "pricing": {"input": 0, "output": 1000}}]
    try:
        with patch.object(app, "Journal", lambda path: Journal(path, disk=disk)):
            async with live(folder, limits=LIMITS, upstreams=upstreams, models=models) as there:
                yield House(there, disk, provider)
    finally:
        server.close()
        for task in provider.tasks:
            task.cancel()
        await asyncio.gather(*provider.tasks, return_exceptions=True)


def play(folder: Path, scene: Callable[[House], Awaitable[None]]) -> None:
    async def life() -> None:
        async with living(folder) as house:
            await scene(house)

    run(life())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=["short way", "long way"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ways:
    found = Ways(monkeypatch)
    if request.param == "long way":
        found.close()
    return found


@pytest.fixture(params=["asked each time", "asked now and then"])
def _disk_is_asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked each time, a refusal comes behind the write that failed, else mostly before there is any."""
    if request.param == "asked each time":
        monkeypatch.setattr(journal_module, "RETRY_S", 0.0)


def check_refusal(answer: Answer, path: str) -> None:
    error = json.loads(answer.body)["error"]
    if path == MESSAGES:
        assert (answer.status, error["type"]) == (529, "overloaded_error")  # what that dialect has for a 503
    else:
        assert (answer.status, error["code"]) == (503, "gateway_overloaded")
    assert "books cannot be written" in error["message"]
    assert answer.headers["retry-after"] == "1"


@pytest.mark.usefixtures("_disk_is_asked")
@pytest.mark.parametrize("is_warm", [True, False], ids=["idle connection", "no connection"])
@pytest.mark.parametrize("path", [CHATS, MESSAGES])
def test_who_comes_is_refused_and_the_provider_does_not_see_it(
    tmp_path: Path, ways: Ways, path: str, *, is_warm: bool
) -> None:
    async def scene(house: House) -> None:
        if is_warm:
            for _ in range(2):
                assert (await house.ask(house.request(path=path))).status == 200
        asked, received = house.provider.asked, house.provider.received_bytes
        house.disk.is_failing = True
        async with house.there.line() as line:
            for is_stream in (False, True, False):
                await line.send(house.request(path=path, stream=is_stream))
                check_refusal(await line.answer(), path)
            assert (house.provider.asked, house.provider.received_bytes) == (asked, received)
            house.heal()
            await line.send(house.request(path=path))
            assert (await line.answer()).status == 200
        assert house.provider.asked == asked + 1
        await house.check_books(*[COST_NUSD] * (asked + 1))

    play(tmp_path, scene)
    assert bool(ways.short) == (is_warm and not ways.are_closed)


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_who_is_under_way_is_answered_and_charged_once_the_disk_works(
    tmp_path: Path, ways: Ways, *, is_stream: bool
) -> None:
    async def scene(house: House) -> None:
        await house.serve_once()
        gateway = house.there.gateway
        async with house.there.line() as line:
            house.provider.goes_on.clear()
            await line.send(house.request(stream=is_stream))
            await until(lambda: house.provider.asked == 2)
            house.disk.is_failing = True
            house.provider.goes_on.set()
            answer = await line.answer()
            assert (answer.status, answer.body) == (200, STREAMED if is_stream else CHAT)
            assert gateway.recorder.refused == 1
            request_id = answer.headers["x-request-id"]
            await gateway.writer.flush(SOON_S)
            assert await gateway.store.read_charge(request_id) is None
            house.disk.is_failing = False
            for _ in range(2):
                await gateway.writer.flush(SOON_S)
            charge = await gateway.store.read_charge(request_id)
            assert charge is not None
            assert (charge.cost_nusd, charge.ended_by) == (COST_NUSD, "completed")
        await house.check_books(COST_NUSD, COST_NUSD)

    play(tmp_path, scene)
    assert ways.short == (not ways.are_closed)


def test_many_who_come_and_many_who_are_under_way(tmp_path: Path, ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fails, works and fails again while they are answered."""
    monkeypatch.setattr(journal_module, "RETRY_S", 0.0)
    count = 30

    async def scene(house: House) -> None:
        await house.serve_once()
        house.provider.goes_on.clear()
        early = [asyncio.create_task(house.ask(house.request(stream=n % 2 == 0))) for n in range(count)]
        await until(lambda: house.provider.asked == 1 + count)
        house.disk.is_failing = True
        late = await asyncio.gather(*(house.ask(house.request(stream=n % 2 == 0)) for n in range(count)))
        assert {answer.status for answer in late} == {503}
        house.provider.goes_on.set()
        for task in early:
            await task
            house.disk.is_failing = not house.disk.is_failing
        house.disk.is_failing = False
        assert [task.result().body for task in early] == [CHAT if n % 2 else STREAMED for n in range(count)]
        assert (await house.ask(house.request())).status == 200
        assert house.provider.asked == count + 2
        charges = await house.check_books(*[COST_NUSD] * (count + 2))
        assert sorted(charge.seq for charge in charges) == sorted({charge.seq for charge in charges})

    play(tmp_path, scene)
    assert bool(ways.short) == (not ways.are_closed)


@pytest.mark.usefixtures("_disk_is_asked")
@pytest.mark.parametrize("is_warm", [True, False], ids=["idle connection", "no connection"])
def test_a_long_request_is_refused_and_its_connection_given_up(tmp_path: Path, *, is_warm: bool) -> None:
    async def scene(house: House) -> None:
        if is_warm:
            await house.serve_once()
            assert house.connections().idle == 1
        received = house.provider.received_bytes
        house.disk.is_failing = True
        for _ in range(3):
            check_refusal(await house.ask(house.request(user=LONG)), CHATS)
        if house.there.gateway.upstream.stats():
            await until(lambda: house.connections().open == house.connections().idle)
        assert house.provider.received_bytes == received
        house.heal()
        answer = await house.ask(house.request(user=LONG))
        assert (answer.status, answer.body) == (200, CHAT)
        assert house.provider.received_bytes > received + len(LONG)
        assert (house.connections().open, house.connections().waiting) == (1, 0)
        await house.check_books(*[COST_NUSD] * (1 + is_warm))

    play(tmp_path, scene)


@pytest.mark.parametrize("is_failing", [False, True], ids=["disk works", "disk fails"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("version", "more"), [("1.1", "connection: close"), ("1.0", "")], ids=["close", "old"])
def test_an_answer_is_whole_though_the_connection_ends_behind_it(
    tmp_path: Path, version: str, more: str, *, is_stream: bool, is_failing: bool
) -> None:
    async def scene(house: House) -> None:
        await house.serve_once()
        house.provider.goes_on.clear()
        async with house.there.line() as line:
            await line.send(house.request(version=version, more=more, stream=is_stream))
            await until(lambda: house.provider.asked == 2)
            house.disk.is_failing = is_failing
            house.provider.goes_on.set()
            answer = await line.answer()
            assert await line.is_closed()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert answer.body == (STREAMED if is_stream else CHAT)
        house.disk.is_failing = False
        await house.check_books(COST_NUSD, COST_NUSD)

    play(tmp_path, scene)


def test_a_refusal_is_whole_though_the_connection_ends_behind_it(tmp_path: Path) -> None:
    async def scene(house: House) -> None:
        await house.serve_once()
        house.disk.is_failing = True
        async with house.there.line() as line:
            await line.send(house.request(more="connection: close"))
            check_refusal(await line.answer(), CHATS)
            assert await line.is_closed()
        house.disk.is_failing = False
        await house.check_books(COST_NUSD)

    play(tmp_path, scene)
