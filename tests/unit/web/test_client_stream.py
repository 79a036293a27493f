"""The bytes of an answer: framing by version, and whether the connection can be used again."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11

from tests.aio import run
from trollproxy.errors import Overloaded
from trollproxy.outbox import Outbox
from trollproxy.web.client_stream import TransportStream, Written


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data

    def is_closing(self) -> bool:
        return self.is_closed


class FakeProtocol:
    """aiohttp's side: whether the transport takes more."""

    def __init__(self, transport: "FakeTransport") -> None:
        self.transport = transport
        self.writing_paused = False
        self.writable = asyncio.Event()
        self.error: Exception | None = None

    async def _drain_helper(self) -> None:
        await self.writable.wait()
        if self.error is not None:
            raise self.error


class Line:
    """A connection with one request on it."""

    def __init__(
        self, version: HttpVersion = HttpVersion11, *, asked: bool = True, offered: bool = True, is_read: bool = True
    ) -> None:
        self.transport = FakeTransport()
        self.protocol = FakeProtocol(self.transport)
        request: Any = SimpleNamespace(
            protocol=self.protocol,
            version=version,
            keep_alive=asked,
            content=SimpleNamespace(is_eof=lambda: is_read),
        )
        self.outbox = Outbox(lambda _: None)
        self.stream = TransportStream.to(request, self.outbox, keep_alive=offered)

    @property
    def head(self) -> list[str]:
        return self.transport.written.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    @property
    def body(self) -> bytes:
        return self.transport.written.partition(b"\r\n\r\n")[2]


def test_an_answer_in_one_piece() -> None:
    line = Line()
    line.stream.send(200, [("x-one", "1")], b"hello")
    assert line.head == ["HTTP/1.1 200 OK", "x-one: 1", "content-length: 5"]
    assert line.body == b"hello"
    assert line.stream.keep_alive


def test_a_stream_is_chunked() -> None:
    line = Line()
    line.stream.start(200, [])
    assert line.stream.is_started
    assert not line.stream.keep_alive
    line.stream.write(b"hello")
    line.stream.write(b"x" * 17)
    line.stream.end()
    assert line.head == ["HTTP/1.1 200 OK", "transfer-encoding: chunked"]
    assert line.body == b"5\r\nhello\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
    assert line.stream.keep_alive


def test_a_stream_to_an_old_client_ends_with_the_connection() -> None:
    line = Line(HttpVersion10)
    line.stream.start(200, [])
    line.stream.write(b"hello")
    line.stream.end()
    assert line.head == ["HTTP/1.1 200 OK", "connection: close"]
    assert line.body == b"hello"
    assert not line.stream.keep_alive


def test_an_old_client_may_keep_a_connection_whose_answer_has_a_length() -> None:
    line = Line(HttpVersion10)
    line.stream.send(200, [], b"hello")
    assert "content-length: 5" in line.head
    assert line.stream.keep_alive


@pytest.mark.parametrize(("asked", "offered"), [(False, True), (True, False), (False, False)])
def test_closing_is_said(asked: bool, offered: bool) -> None:
    line = Line(asked=asked, offered=offered)
    line.stream.send(200, [], b"")
    assert "connection: close" in line.head
    assert not line.stream.keep_alive


@pytest.mark.parametrize("is_stream", [True, False])
def test_an_answer_before_the_body_was_whole_ends_the_connection(is_stream: bool) -> None:
    line = Line(is_read=False)
    if is_stream:
        line.stream.start(200, [])
        line.stream.end()
    else:
        line.stream.send(401, [], b"")
    assert "connection: close" in line.head
    assert not line.stream.keep_alive


def test_a_stream_that_does_not_end_closes_the_connection() -> None:
    line = Line()
    line.stream.start(200, [])
    line.stream.write(b"x")
    assert Written(line.stream).keep_alive is False
    assert not line.transport.written.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x", "a\nb", "a\rb", "\r\n", "a\r\n\r\n<html>"])
@pytest.mark.parametrize("place", ["name", "value"])
def test_a_header_cannot_be_broken_out_of(value: str, place: str) -> None:
    line = Line()
    header = (value, "v") if place == "name" else ("n", value)
    with pytest.raises(AssertionError):
        line.stream.send(200, [header], b"")
    assert line.transport.written == b""


def test_characters_beyond_latin_1_cannot_become_a_line_break() -> None:
    line = Line()
    line.stream.send(200, [("n", "\u010a\u010d")], b"")
    assert "n: ??" in line.head


def test_an_answer_begins_once() -> None:
    line = Line()
    line.stream.send(200, [], b"")
    with pytest.raises(AssertionError):
        line.stream.send(200, [], b"")
    with pytest.raises(AssertionError):
        line.stream.write(b"more")


@pytest.mark.parametrize(("status", "reason"), [(529, "Overloaded"), (499, "Client Closed Request"), (799, "Unknown")])
def test_every_status_has_a_reason(status: int, reason: str) -> None:
    line = Line()
    line.stream.send(status, [], b"")
    assert line.head[0] == f"HTTP/1.1 {status} {reason}"


def test_nothing_is_written_to_who_is_gone() -> None:
    line = Line()
    line.stream.start(200, [])
    line.transport.is_closed = True
    line.stream.write(b"x")
    line.stream.end()
    assert line.stream.is_gone
    assert line.body == b""


def test_the_end_of_a_stream_waits_for_the_record_before_it() -> None:
    line = Line()
    line.outbox.put_down = lambda: line.transport.write(b"(put down)")
    line.stream.start(200, [])
    line.stream.write(b"hello")
    line.outbox.wait()
    line.stream.write(b"bye")
    line.stream.end()
    assert line.body == b"5\r\nhello\r\n"
    line.outbox.flush()
    assert line.body == b"5\r\nhello\r\n(put down)3\r\nbye\r\n0\r\n\r\n"


def test_an_answer_is_given_though_its_record_cannot_be_put_down() -> None:
    """The provider has been paid for it, and the charge is kept until the disk takes it."""

    def never() -> None:
        raise Overloaded("The disk takes nothing.")

    line = Line()
    line.outbox.put_down = never
    line.outbox.wait()
    line.stream.send(200, [], b"hello")
    line.outbox.flush()
    assert line.body == b"hello"


def test_who_wants_to_know_is_told_of_a_hang_up() -> None:
    line, told = Line(), list[str]()
    line.stream.when_gone(lambda: told.append("first"))
    line.stream.when_gone(lambda: told.append("second"))
    line.stream.lost()
    assert told == ["second"]
    line.transport.is_closed = True
    line.stream.when_gone(lambda: told.append("at once"))
    line.stream.when_gone(None)
    line.stream.lost()
    assert told == ["second", "at once"]


def test_draining_waits_for_a_slow_client() -> None:
    async def scene() -> None:
        line = Line()
        await line.stream.drain()
        line.protocol.writing_paused = True
        waiting = asyncio.create_task(line.stream.drain())
        await asyncio.sleep(0)
        assert not waiting.done()
        line.protocol.writable.set()
        await waiting

    run(scene())


def test_a_client_that_leaves_while_we_wait_is_no_error() -> None:
    async def scene() -> None:
        line = Line()
        line.protocol.writing_paused, line.protocol.error = True, ConnectionResetError()
        line.protocol.writable.set()
        await line.stream.drain()
        line.transport.is_closed = True
        line.protocol.writable.clear()
        await line.stream.drain()

    run(scene())
