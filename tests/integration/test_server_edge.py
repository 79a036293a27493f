"""The server's edge on raw sockets: framing, smuggling, limits, and answers in order."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.aio import run
from tests.integration.live_gateway import Live, live

Scene = Callable[[Live], Awaitable[None]]
LIMITS = {"devRpm": 100_000, "proRpm": 100_000, "maxBodyBytes": "100kB"}


def play(folder: Path, scene: Scene) -> None:
    async def life() -> None:
        async with live(folder, limits=LIMITS, trustedProxies=[]) as there:
            await scene(there)
            assert there.gateway.accounts.held_nusd() == 0

    run(life())


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        async with there.line() as line:
            requests = [there.request(max_tokens=n) for n in (1, 2, 3)]
            await line.send(requests[0] + b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n" + requests[1] + requests[2])
            answers = [await line.answer() for _ in range(4)]
            assert [answer.status for answer in answers] == [200, 404, 200, 200]
            tokens = [a.body.count(b'"completion_tokens":%d' % n) for a, n in zip(answers[::2], (1, 2), strict=True)]
            assert tokens == [1, 1]

    play(tmp_path, scene)


def test_a_request_split_at_every_byte_is_the_same_request(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        data = there.request(max_tokens=3)
        expected = await there.ask(data)
        assert expected.status == 200
        async with there.line() as line:
            for place in range(1, len(data)):
                await line.send(data[:place], data[place:])
                answer = await line.answer()
                assert (answer.status, len(answer.body)) == (200, len(expected.body)), place

    play(tmp_path, scene)


def test_a_client_that_waits_is_told_to_go_on(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        data = there.request(more="expect: 100-continue", max_tokens=3)
        head, _, body = data.partition(b"\r\n\r\n")
        async with there.line() as line:
            await line.send(head + b"\r\n\r\n")
            assert (await line.answer()).status == 100
            await line.send(body)
            assert (await line.answer()).status == 200

    play(tmp_path, scene)


def test_a_client_that_waits_is_not_told_so_where_it_is_refused(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        async with there.line() as line:
            await line.send(there.head(50, key="sk-wrong", more="expect: 100-continue"))
            assert (await line.answer()).status == 401

    play(tmp_path, scene)


def test_http_1_0(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        for is_stream in (False, True):
            data = there.request(max_tokens=3, stream=is_stream).replace(b"HTTP/1.1", b"HTTP/1.0")
            async with there.line() as line:
                await line.send(data)
                answer = await line.answer()
                assert answer.status == 200
                assert "transfer-encoding" not in answer.headers
                assert not is_stream or answer.body.endswith(b"data: [DONE]\n\n")
                assert await line.is_closed()

    play(tmp_path, scene)


@pytest.mark.parametrize("members", [{}, {"stream": True}])
def test_closing_is_honoured(tmp_path: Path, members: dict[str, Any]) -> None:
    async def scene(there: Live) -> None:
        async with there.line() as line:
            await line.send(there.request(more="connection: close", max_tokens=3, **members))
            answer = await line.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await line.is_closed()

    play(tmp_path, scene)


def chunked(body: bytes, size: int) -> list[bytes]:
    pieces = [body[n : n + size] for n in range(0, len(body), size)]
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


def test_a_chunked_body(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        body = there.request(max_tokens=3).partition(b"\r\n\r\n")[2]
        async with there.line() as line:
            for size in (1, 7, len(body)):
                await line.send(there.head(None, more="transfer-encoding: chunked"), *chunked(body, size))
                assert (await line.answer()).status == 200

    play(tmp_path, scene)


def test_a_chunked_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        async with there.line() as line:
            await line.send(there.head(None, more="transfer-encoding: chunked"), *chunked(b"x" * 150_000, 50_000)[:-1])
            assert (await line.answer()).status == 413

    play(tmp_path, scene)


SMUGGLING = {
    "both framings": "content-length: 5\ntransfer-encoding: chunked",
    "both, other order": "transfer-encoding: chunked\ncontent-length: 5",
    "two lengths": "content-length: 5\ncontent-length: 6",
    "two equal lengths joined": "content-length: 5, 6",
    "a length that is none": "content-length: +5",
    "a negative length": "content-length: -1",
    "an unknown coding": "transfer-encoding: xchunked",
    "chunked not last": "transfer-encoding: chunked, identity",
    "a folded header": "x-a: b\n c",
    "a space before the colon": "content-length : 5",
    "a bare carriage return": "x-a: b\rc: d",
    "a null": "x-a: b\x00c",
}


@pytest.mark.parametrize("lines", SMUGGLING.values(), ids=SMUGGLING)
def test_what_two_parsers_could_read_differently_is_refused(
    tmp_path: Path, lines: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(there: Live) -> None:
        async with there.line() as line:
            await line.send(there.head(None, more=lines) + b"0\r\n\r\nGET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await line.answer()).status == 400
            assert await line.is_closed()

    play(tmp_path, scene)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(150)) + b"\r\n",
    ],
    ids=["tls", "no version", "wrong version", "long header", "long line", "many headers"],
)
def test_what_is_not_http_is_refused_quietly(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(there: Live) -> None:
        async with there.line() as line:
            await line.send(data)
            assert (await line.answer()).status in {400, 414, 431}
            assert await line.is_closed()
        assert (await there.ask(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")).status == 200

    play(tmp_path, scene)
    assert [record for record in caplog.records if record.exc_info] == []


def test_the_absolute_form_is_the_same_path(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        answer = await there.ask(b"GET http://example.com/ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (answer.status, answer.body) == (200, b"OK\n")

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("start", "status"), [(b"POST /v1/chat/completions", 401), (b"PUT /nothing", 404), (b"PUT /ping", 405)]
)
def test_an_error_with_its_body_unread_does_not_shift_the_next_answer(
    tmp_path: Path, start: bytes, status: int
) -> None:
    """The body of the refused request looks like a request itself."""

    async def scene(there: Live) -> None:
        inner = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"
        async with there.line() as line:
            await line.send(start + b" HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(inner))
            assert (await line.answer()).status == status
            await line.send(inner)
            await line.send(there.request(max_tokens=3))
            try:
                answer = await line.answer()
            except (asyncio.IncompleteReadError, ConnectionError):
                return  # closed: nothing is out of order either
            assert b"completion_tokens" in answer.body

    play(tmp_path, scene)


def test_a_body_over_the_limit_is_refused_by_its_length(tmp_path: Path) -> None:
    async def scene(there: Live) -> None:
        assert (await there.ask(there.head(10_000_000))).status == 413

    play(tmp_path, scene)


def test_one_address_has_so_many_connections(tmp_path: Path) -> None:
    async def scene() -> None:
        async with live(tmp_path, limits={"maxConnectionsPerIp": 3}, trustedProxies=[]) as there:
            lines = [await asyncio.open_connection("127.0.0.1", there.port) for _ in range(3)]
            for _, writer in lines:
                writer.write(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
            assert all([b"200" in await reader.readline() for reader, _ in lines])
            async with there.line() as fourth:
                assert await fourth.is_closed()
            lines[0][1].close()
            await lines[0][1].wait_closed()
            while sum(there.gateway._listening[0].server._by_peer.values()) > 2:
                await asyncio.sleep(0)
            assert (await there.ask(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")).status == 200
            for _, writer in lines[1:]:
                writer.close()

    run(scene())


@pytest.mark.parametrize("value", [b"\xff", b"caf\xc3\xa9"])
def test_bytes_above_ascii_in_a_key_are_a_wrong_key(tmp_path: Path, value: bytes) -> None:
    async def scene() -> None:
        async with live(tmp_path, proxyApiKey="sk-environment-0123456789-abcdefghijkl") as there:
            head = there.head(0).replace(there.key.encode(), b"sk-" + value)
            assert (await there.ask(head)).status == 401
            metrics = b"GET /keys/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-" + value + b"\r\n\r\n"
            assert (await there.ask(metrics)).status == 401

    run(scene())
