"""Looking at a provider's answer before it is taken for one, and giving it on with its first bytes still there.

A status of 200 promises little: the body may be an error, a page of HTML, or a stream that ends before its first
token. All that is found here can still be tried elsewhere, since the client has seen nothing. A stream is held until
its first token or its end, but only for a short time: what comes later is for the relay to tell the client.
"""

import asyncio
from collections.abc import Callable

from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.gateway.visit import Visit
from trollproxy.ports import UpstreamReply
from trollproxy.wire.errors_in import MAX_ERROR_BODY, embedded_error, reply_error
from trollproxy.wire.format import StreamMeter, Whole

EVENT_STREAM = "text/event-stream"
MAX_REPLY_BODY = 64 * 1024 * 1024  # a whole answer with generated images; more is no answer to a chat
HOLD_S = 1.0  # only a stream's preamble waits for it, never a token
_OK = range(200, 300)
_JSON_BEGINS = (b"{", b"[")


class Peeked:
    """An answer that can be relayed: a whole one, or a stream with its meter, which has read the first pieces.

    `close` it in the end, however often.
    """

    __slots__ = ("_reply", "_visit", "body", "is_over", "meter", "status", "whole")

    def __init__(
        self, reply: UpstreamReply, visit: Visit, body: bytes, *, whole: Whole | None = None, is_over: bool = True
    ) -> None:
        self.status = reply.status
        self.meter = visit.meter  # of a stream
        self.body = body  # what the client gets: of a whole answer all, of a stream what has been read of it
        self.whole = whole  # what a whole answer says; None: it is a stream, or no model said it
        self.is_over = is_over  # the meter has been told that there is no more
        self._reply = reply
        self._visit: Visit | None = visit

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        """The rest of a stream (`ports.UpstreamReply.each`)."""
        return await self._reply.each(take)

    def close(self) -> None:
        self._reply.close()
        visit, self._visit = self._visit, None
        if visit is not None:
            visit.close()


async def peek(reply: UpstreamReply, visit: Visit) -> Peeked:
    """What can be relayed of an answer; a GatewayError where it is none."""
    meter = visit.meter
    if reply.status not in _OK:
        raise reply_error(reply.status, reply.headers, await _error_body(reply))
    is_stream = reply.headers.get("content-type", "").lower().startswith(EVENT_STREAM)
    if is_stream and meter is not None:
        return await _first_events(reply, visit, meter)
    if is_stream:
        raise _other_kind()
    body = await reply.read_all(MAX_REPLY_BODY)
    error = embedded_error(body)
    if error is not None:
        raise error
    if meter is not None or not body.lstrip().startswith(_JSON_BEGINS):
        raise _other_kind()
    whole, body = visit.read_whole(body)  # one that is not of its format can still be asked for elsewhere
    return Peeked(reply, visit, body, whole=whole)


async def _first_events(reply: UpstreamReply, visit: Visit, meter: StreamMeter) -> Peeked:
    events: list[bytes] = []
    try:
        async with asyncio.timeout(HOLD_S):
            while not _is_decided(meter) and (piece := await reply.read()):
                events.append(meter.feed(piece))
                _check(meter)
    except TimeoutError:
        return Peeked(reply, visit, b"".join(events), is_over=False)
    is_over = not _is_decided(meter)
    if is_over:
        events.append(meter.finish())
        _check(meter)
        if not _is_decided(meter):
            raise UpstreamBroken("The provider's stream ended before its first token.")
    return Peeked(reply, visit, b"".join(events), is_over=is_over)


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
