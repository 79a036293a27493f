"""Looking at a provider's answer before it is taken for one, and giving it on with its first bytes still there.

A status of 200 promises little: the body may be an error, a page of HTML, or a stream that ends before its first
token. All that is found here can still be tried elsewhere, since the client has seen nothing. A stream is held until
its first token or its end, but only for a short time: what comes later is for the relay to tell the client.
"""

import asyncio
from collections.abc import Callable, Mapping

from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.gateway.relay import EVENT_STREAM, MAX_REPLY_BODY
from trollproxy.gateway.visit import Visit
from trollproxy.ports import UpstreamReply
from trollproxy.wire.errors_in import MAX_ERROR_BODY, embedded_error, reply_error
from trollproxy.wire.format import StreamMeter

HOLD_S = 1.0  # only a stream's preamble waits for it, never a token
_OK = range(200, 300)
_JSON_BEGINS = (b"{", b"[")


class Peeked:
    """A reply (`ports.UpstreamReply`) of which the first pieces have been read. `when_closed` is told once."""

    __slots__ = ("_pieces", "_reply", "_when_closed", "headers", "status")

    def __init__(self, reply: UpstreamReply, pieces: list[bytes], when_closed: Callable[[], None]) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self._reply = reply
        self._pieces = pieces[::-1]
        self._when_closed: Callable[[], None] | None = when_closed

    async def read(self) -> bytes:
        return self._pieces.pop() if self._pieces else await self._reply.read()

    async def read_all(self, limit: int) -> bytes:
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
            limit -= len(piece)
            if limit < 0:
                raise UpstreamBroken("The provider's answer is longer than the gateway accepts.")
        return b"".join(pieces)

    def close(self) -> None:
        self._pieces.clear()
        self._reply.close()
        if self._when_closed is not None:
            self._when_closed()
            self._when_closed = None


async def peek(reply: UpstreamReply, visit: Visit) -> list[bytes]:
    """The first pieces of an answer that can be relayed; a GatewayError where it is none."""
    meter = visit.meter
    if reply.status not in _OK:
        raise reply_error(reply.status, reply.headers, await _error_body(reply))
    is_stream = reply.headers.get("content-type", "").lower().startswith(EVENT_STREAM)
    if is_stream and meter is not None:
        return await _first_pieces(reply, meter)
    if is_stream:
        raise _other_kind()
    body = await reply.read_all(MAX_REPLY_BODY)
    error = embedded_error(body)
    if error is not None:
        raise error
    if meter is not None or not body.lstrip().startswith(_JSON_BEGINS):
        raise _other_kind()
    visit.read_whole(body)  # one that is not of its format can still be asked for elsewhere
    return [body]


async def _first_pieces(reply: UpstreamReply, meter: StreamMeter) -> list[bytes]:
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(HOLD_S):
            while not _is_decided(meter) and (piece := await reply.read()):
                pieces.append(piece)
                _take(meter, piece)
    except TimeoutError:
        return pieces
    if not _is_decided(meter):
        meter.finish()
        _check(meter)
    if not _is_decided(meter):
        raise UpstreamBroken("The provider's stream ended before its first token.")
    return pieces


def _take(meter: StreamMeter, piece: bytes) -> None:
    meter.feed(piece)
    _check(meter)


def _check(meter: StreamMeter) -> None:
    """An error behind the first token is for the relay, which has passed on what came before it."""
    if meter.error is not None and not meter.has_output:
        raise meter.error


def _is_decided(meter: StreamMeter) -> bool:
    return meter.has_output or meter.is_complete or meter.may_end


def _other_kind() -> GatewayError:
    return UpstreamBroken("The provider answered with another kind of content than was asked for.")


async def _error_body(reply: UpstreamReply) -> bytes:
    try:
        return await reply.read_all(MAX_ERROR_BODY)
    except UpstreamBroken:
        return b""  # the status alone classifies the refusal
