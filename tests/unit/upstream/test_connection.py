"""The connection's protocol, driven by a fake transport and a fake clock."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.aio import run
from trollproxy.errors import Overloaded, UpstreamBroken, UpstreamTimeout
from trollproxy.outbox import Outbox
from trollproxy.records import Timeouts
from trollproxy.upstream.connection import MAX_FIELDS, MAX_HEAD_BYTES, MAX_UNREAD_BYTES, WRITE_PIECE_BYTES, Connection
from trollproxy.upstream.reply import Reply

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: "
OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"content-length: 5\r\n\r\nhello"
TIMEOUTS = Timeouts(connect_s=1, first_byte_s=300, idle_s=120)


class FakeTimer:
    def __init__(self, when_s: float, callback: Callable[[], None]) -> None:
        self.when_s = when_s
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[FakeTimer] = []
        self.armed = 0

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeTimer:
        self.armed += 1
        timer = FakeTimer(self.now_s + delay_s, callback)
        self.timers.append(timer)
        return timer

    def active(self) -> list[FakeTimer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := [timer for timer in self.active() if timer.when_s <= end_s]:
            timer = min(due, key=lambda each: each.when_s)
            self.timers.remove(timer)
            self.now_s = max(self.now_s, timer.when_s)
            timer.callback()
        self.now_s = end_s


class FakeTransport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_reading = True
        self.is_aborted = False
        self.room_bytes: float = float("inf")
        self.protocol: Connection | None = None

    def write(self, data: bytes) -> None:
        assert not self.is_aborted
        self.written.append(bytes(data))
        self.room_bytes -= len(data)
        if self.room_bytes <= 0 and self.protocol is not None:
            self.protocol.pause_writing()

    def pause_reading(self) -> None:
        assert self.is_reading
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_reading
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


class Rig:
    """A connection with everything around it faked; it is also its owner."""

    def __init__(self, outbox: Outbox | None = None) -> None:
        self.loop = FakeLoop()
        self.transport = FakeTransport()
        self.idled = 0
        self.lost = 0
        self.outbox = outbox or Outbox()
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.connection = Connection(self, outbox=self.outbox, loop=loop, idle_limit_s=30, is_proxied=False)
        self.transport.protocol = self.connection
        self.connection.connection_made(cast("asyncio.Transport", self.transport))

    def on_idle(self, connection: Connection) -> None:
        assert connection is self.connection
        self.idled += 1

    def on_lost(self, connection: Connection) -> None:
        assert connection is self.connection
        self.lost += 1

    def start(self, body: bytes = b"{}") -> Reply:
        return self.connection.start(HEAD, body, TIMEOUTS)

    def serve_once(self) -> None:
        reply = self.start()
        self.feed(PLAIN)
        assert reply.is_complete

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.transport.is_aborted:
                self.connection.data_received(piece)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(marks) if start < end]


# Requests


def test_a_small_request_is_one_write() -> None:
    rig = Rig()
    reply = rig.start(b"{}")
    assert rig.transport.written == [HEAD + b"2\r\n\r\n{}"]
    assert not reply.has_head


def test_a_large_request_waits_for_room() -> None:
    rig = Rig()
    rig.transport.room_bytes = 100_000
    body = bytes(range(256)) * 4096
    reply = rig.start(body)
    assert sum(map(len, rig.transport.written)) < 200_000
    while sum(map(len, rig.transport.written)) < len(body):
        rig.transport.room_bytes = 100_000
        rig.connection.resume_writing()
    assert b"".join(rig.transport.written) == HEAD + b"%d\r\n\r\n" % len(body) + body
    rig.feed(PLAIN)
    assert reply.is_complete
    assert rig.idled == 1


def test_an_early_reply_is_delivered_and_the_connection_closed() -> None:
    rig = Rig()
    rig.transport.room_bytes = 100_000
    reply = rig.start(bytes(1_000_000))
    rig.feed(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
    assert (reply.status, reply.take(), reply.is_complete) == (413, b"no", True)
    assert rig.transport.is_aborted
    assert rig.idled == 0
    rig.connection.resume_writing()  # a late call must not write to a closed transport


def never() -> None:
    """A disk that takes nothing."""
    raise Overloaded("The disk takes nothing.")


def held_back() -> Rig:
    """A connection while a record waits."""
    turns: list[Callable[[], object]] = []
    rig = Rig(Outbox(turns.append))
    rig.outbox.wait()
    return rig


@pytest.mark.parametrize("size", [2, WRITE_PIECE_BYTES])
def test_a_request_goes_out_behind_the_records_that_wait(size: int) -> None:
    rig = held_back()
    rig.outbox.put_down = lambda: rig.transport.written.append(b"put down")
    reply = rig.start(bytes(size))
    assert rig.transport.written == []
    rig.outbox.flush()
    assert rig.transport.written == [b"put down", HEAD + b"%d\r\n\r\n" % size + bytes(size)]
    rig.feed(PLAIN)
    assert (reply.is_complete, rig.idled) == (True, 1)


def test_a_long_request_does_not_wait_for_the_end_of_the_turn() -> None:
    """It would be copied to wait, and what is put down now is put down early at the most."""
    rig = held_back()
    rig.outbox.put_down = lambda: rig.transport.written.append(b"put down")
    rig.start(bytes(WRITE_PIECE_BYTES + 1))
    assert rig.transport.written[:2] == [b"put down", HEAD + b"%d\r\n\r\n" % (WRITE_PIECE_BYTES + 1)]
    assert sum(map(len, rig.transport.written[2:])) == WRITE_PIECE_BYTES + 1


def test_a_request_whose_records_cannot_be_put_down_is_not_sent() -> None:
    rig = held_back()
    rig.outbox.put_down = never
    reply = rig.start()
    rig.outbox.flush()
    assert rig.transport.written == []
    assert rig.transport.is_aborted
    assert isinstance(reply.error, Overloaded)
    assert not reply.is_resendable


def test_a_long_request_whose_records_cannot_be_put_down_is_not_begun() -> None:
    rig = held_back()
    rig.outbox.put_down = never
    with pytest.raises(Overloaded):
        rig.start(bytes(WRITE_PIECE_BYTES + 1))
    assert rig.transport.written == []
    assert rig.transport.is_aborted


def test_a_request_that_was_given_up_before_the_records_were_down_is_not_sent() -> None:
    rig = held_back()
    rig.start().close()
    rig.outbox.flush()
    assert rig.transport.written == []


# Responses

STREAMS = {
    "length": (PLAIN, False),
    "empty": (OK + b"content-length: 0\r\n\r\n", False),
    "chunked": (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nx-end: 1\r\n\r\n", False),
    "until close": (OK + b"\r\nhello", True),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: a\r\n\r\n" + PLAIN, False),
    "no content": (b"HTTP/1.1 204 None\r\n\r\n", False),
    "old": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", False),
}


@pytest.mark.parametrize("name", STREAMS)
@given(places=st.lists(st.integers(min_value=0, max_value=200), max_size=12))
def test_any_chunking_gives_the_same_reply(name: str, places: list[int]) -> None:
    stream, ends_with_close = STREAMS[name]
    rig = Rig()
    reply = rig.start()
    rig.feed(*cut(stream, places))
    if ends_with_close:
        assert not reply.is_complete
        rig.connection.eof_received()
    assert reply.is_complete
    assert reply.status == (204 if name == "no content" else 200)
    assert reply.take() == (b"" if name in {"no content", "empty"} else b"hello")
    assert rig.idled == (name not in {"until close", "old"})
    assert "x-end" not in reply.headers


@given(body=st.binary(max_size=5000), sizes=st.lists(st.integers(1, 700), min_size=1), places=st.lists(st.integers(0)))
def test_any_chunked_body_survives_any_chunking(body: bytes, sizes: list[int], places: list[int]) -> None:
    stream = bytearray(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    start = 0
    for index in range(len(body)):
        piece = body[start : start + sizes[index % len(sizes)]]
        if not piece:
            break
        stream += b"%x\r\n%b\r\n" % (len(piece), piece)
        start += len(piece)
    stream += b"0\r\n\r\n"
    rig = Rig()
    reply = rig.start()
    rig.feed(*cut(bytes(stream), places))
    assert reply.is_complete
    assert reply.take() == body
    assert rig.idled == 1


@given(noise=st.binary(max_size=300), places=st.lists(st.integers(0, 400), max_size=6), prefix=st.booleans())
def test_noise_never_escapes_as_a_foreign_exception(noise: bytes, places: list[int], prefix: bool) -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(*cut((OK if prefix else b"") + noise, places))
    if not rig.transport.is_aborted:
        rig.connection.eof_received()
    rig.connection.connection_lost(None)
    assert reply.is_complete or reply.error is not None


def test_repeated_fields_are_joined_and_names_lowered() -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(OK + b"X-A: 1 \r\nx-a:\t2\r\nContent-Length: 0\r\n\r\n")
    assert reply.headers == {"x-a": "1, 2", "content-length": "0"}


MALFORMED = {
    "not http": b"SSH-2.0-OpenSSH\r\n",
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "same length twice": OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "length list": OK + b"content-length: 5, 5\r\n\r\nhello",
    "length and chunked": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "other coding": OK + b"transfer-encoding: gzip\r\n\r\nhello",
    "coding over chunks": OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "huge chunk size": OK + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nabc",
    "status 099": b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
    "http 2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "folded": OK + b"a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "long head": OK + b"a: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "endless field": OK + b"a: " + b"b" * MAX_HEAD_BYTES,
    "endless reason": b"HTTP/1.1 200 " + b"b" * MAX_HEAD_BYTES,
    "many fields": OK + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    "endless interims": b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
    "endless trailer": OK + b"transfer-encoding: chunked\r\n\r\n0\r\na: " + b"b" * 2 * MAX_HEAD_BYTES,
    "many trailers": OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * (MAX_FIELDS + 2),
}


@pytest.mark.parametrize("piece_bytes", [1, 1000, 1 << 20])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_answers_are_refused(name: str, piece_bytes: int) -> None:
    stream = MALFORMED[name]
    rig = Rig()
    reply = rig.start()
    rig.feed(*(stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)))
    assert isinstance(reply.error, UpstreamBroken)
    assert not reply.is_complete
    assert rig.transport.is_aborted
    assert rig.idled == 0


@pytest.mark.parametrize(
    "stream",
    [
        OK + b"content-length: 6\r\n\r\nhello",
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n9\r\nhello",
    ],
)
def test_an_early_end_is_a_truncation_after_what_had_come(stream: bytes) -> None:
    async def scenario() -> None:
        rig = Rig()
        reply = rig.start()
        rig.feed(stream)
        rig.connection.eof_received()
        assert await reply.read() == b"hello"
        with pytest.raises(UpstreamBroken, match="truncated"):
            await reply.read()

    run(scenario())


def test_a_reset_is_not_a_clean_end() -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(OK + b"\r\nhel")
    cause = ConnectionResetError("reset by 10.0.0.1")
    rig.connection.connection_lost(cause)
    assert isinstance(reply.error, UpstreamBroken)
    assert reply.error.__cause__ is cause
    assert "10.0.0.1" not in reply.error.message


@pytest.mark.parametrize("extra", [b"H", b"HTTP/1.1 200 OK\r\n", PLAIN, b"\x00"])
def test_bytes_behind_the_end_spoil_the_connection_but_not_the_reply(extra: bytes) -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(PLAIN + extra)
    assert reply.is_complete
    assert reply.take() == b"hello"
    assert rig.transport.is_aborted
    assert rig.idled == 0


@pytest.mark.parametrize("field", [b"connection: close\r\n", b"Connection: keep-alive, Close\r\n"])
def test_connection_close_is_obeyed(field: bytes) -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(OK + field + b"content-length: 5\r\n\r\nhello")
    assert reply.is_complete
    assert rig.transport.is_aborted


def test_a_connection_carries_many_exchanges() -> None:
    rig = Rig()
    for count in range(1, 6):
        reply = rig.start()
        rig.feed(PLAIN[:9], PLAIN[9:])
        assert reply.take() == b"hello"
        assert (rig.idled, rig.connection.served) == (count, count)


# Loss, and who may send again


def test_only_a_reused_connection_without_an_answer_is_resendable() -> None:
    fresh = Rig()
    reply = fresh.start()
    fresh.connection.connection_lost(None)
    assert isinstance(reply.error, UpstreamBroken)
    assert not reply.is_resendable

    reused = Rig()
    reused.serve_once()
    reply = reused.start()
    reused.connection.connection_lost(ConnectionResetError())
    assert reply.is_resendable

    answered = Rig()
    answered.serve_once()
    reply = answered.start()
    answered.feed(b"H")
    answered.connection.connection_lost(None)
    assert not reply.is_resendable


def test_unasked_bytes_drop_an_idle_connection() -> None:
    rig = Rig()
    rig.serve_once()
    assert rig.connection.is_usable
    rig.feed(b"HTTP/1.1 408 Timeout\r\n\r\n")
    assert not rig.connection.is_usable
    assert rig.transport.is_aborted


def test_close_is_idempotent_and_drops_only_unfinished_replies() -> None:
    rig = Rig()
    finished = rig.start()
    rig.feed(PLAIN)
    finished.close()
    assert rig.connection.is_usable
    unfinished = rig.start()
    unfinished.close()
    unfinished.close()
    finished.close()
    assert not rig.connection.is_usable
    assert isinstance(unfinished.error, UpstreamBroken)


def test_progress_is_reported_without_a_task() -> None:
    rig = Rig()
    reply = rig.start()
    seen: list[tuple[bool, bytes, bool]] = []
    reply.on_progress = lambda: seen.append((reply.has_head, reply.take(), reply.is_complete))
    rig.feed(PLAIN[:10], PLAIN[10:-3], PLAIN[-3:])
    assert seen == [(True, b"he", False), (True, b"llo", True)]


def test_reading_all_is_bounded() -> None:
    async def scenario() -> None:
        rig = Rig()
        reply = rig.start()
        rig.feed(OK + b"content-length: 50\r\n\r\nhello")
        with pytest.raises(UpstreamBroken, match="longer"):
            await reply.read_all(4)
        assert rig.transport.is_aborted

    run(scenario())


def test_two_readers_are_our_bug() -> None:
    async def scenario() -> None:
        rig = Rig()
        reply = rig.start()
        first = asyncio.get_running_loop().create_task(reply.read())
        await asyncio.sleep(0)
        with pytest.raises(AssertionError):
            await reply.read()
        rig.feed(PLAIN)
        assert await first == b"hello"

    run(scenario())


# Back-pressure


def test_reading_pauses_over_the_bound_and_resumes_when_taken() -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(OK + b"content-length: 10000000\r\n\r\n", bytes(MAX_UNREAD_BYTES))
    assert rig.transport.is_reading
    rig.feed(b"x")
    assert not rig.transport.is_reading
    rig.loop.advance(10_000)  # the provider is not late while we do not listen
    assert reply.error is None
    assert len(reply.take()) == MAX_UNREAD_BYTES + 1
    assert rig.transport.is_reading
    rig.loop.advance(TIMEOUTS.idle_s + 1)
    assert isinstance(reply.error, UpstreamTimeout)


def test_a_paused_reply_can_be_closed() -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(OK + b"content-length: 10000000\r\n\r\n", bytes(MAX_UNREAD_BYTES + 1))
    reply.close()
    assert rig.transport.is_aborted
    assert reply.buffered_bytes == 0


# Deadlines


def late(reply: Reply) -> str:
    assert isinstance(reply.error, UpstreamTimeout)
    assert reply.error.code == "upstream_timeout"
    assert not reply.is_resendable
    return reply.error.message


def test_a_late_head_times_out_even_if_it_drips() -> None:
    rig = Rig()
    reply = rig.start()
    for byte in OK[:10]:
        rig.loop.advance(29)
        rig.feed(bytes([byte]))
    rig.loop.advance(9)
    assert reply.error is None
    rig.loop.advance(2)
    assert "begin to answer" in late(reply)
    assert rig.transport.is_aborted


def test_a_stalled_body_times_out_after_its_last_piece() -> None:
    rig = Rig()
    reply = rig.start()
    rig.feed(OK + b"content-length: 50\r\n\r\n")
    for _ in range(10):
        rig.loop.advance(119)
        rig.feed(b"x")
    assert reply.error is None
    rig.loop.advance(121)
    assert "in the middle" in late(reply)
    assert reply.take() == b"x" * 10


def test_a_request_that_is_not_taken_times_out() -> None:
    rig = Rig()
    rig.transport.room_bytes = 1
    reply = rig.start(bytes(1_000_000))
    rig.loop.advance(119)
    assert reply.error is None
    rig.loop.advance(2)
    assert "taking the request" in late(reply)


def test_a_timeout_on_a_reused_connection_is_not_resendable() -> None:
    rig = Rig()
    rig.serve_once()
    reply = rig.start()
    rig.loop.advance(301)
    late(reply)
    rig.connection.connection_lost(None)
    assert not reply.is_resendable


def test_an_idle_connection_expires() -> None:
    rig = Rig()
    rig.serve_once()
    rig.loop.advance(29)
    assert rig.connection.is_usable
    rig.loop.advance(2)
    assert not rig.connection.is_usable


def test_one_timer_serves_many_exchanges() -> None:
    rig = Rig()
    for _ in range(1000):
        reply = rig.start()
        rig.feed(PLAIN)
        assert reply.is_complete
        rig.loop.advance(0.01)
        assert len(rig.loop.active()) == 1
    assert rig.loop.armed <= 4


def test_the_timer_ends_with_the_connection() -> None:
    rig = Rig()
    rig.serve_once()
    rig.connection.connection_lost(None)
    assert rig.loop.active() == []
    assert rig.lost == 1
