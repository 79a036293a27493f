"""One HTTP/1.1 connection to a provider, and the reply that is being received on it.

Owns: writing a request, parsing its response, flow control both ways, and every deadline after the connect.
Invariants:
- At most one reply is attached. It is detached exactly once: complete, failed, or given up. Only a complete reply whose
  request was wholly written leaves the connection reusable; everything else drops it.
- One timer at most. It is never moved later: when it fires before the deadline that holds by then, it is armed anew.
  A chunk therefore costs a clock read, not a timer.
- All transitions are synchronous. A reply can be consumed from callbacks (`on_progress`, `take`) without a Task; the
  coroutines are a thin layer over that.
Must not know: pools, retries, host names, formats.
"""

import asyncio
import math
from typing import Final, Literal, Protocol, cast

import httptools

from trollproxy.errors import GatewayError, UpstreamBroken, UpstreamTimeout
from trollproxy.outbox import Outbox
from trollproxy.records import Timeouts
from trollproxy.upstream.reply import Reply

Phase = Literal["idle", "sending", "first_byte", "body"]

MAX_UNREAD_BYTES: Final = 256 * 1024  # one receive buffer of uvloop; several seconds of any model's output
MAX_HEAD_BYTES: Final = 64 * 1024  # several times what providers send (2-6 KiB with their cookies and CSP)
MAX_FIELDS: Final = 256
MAX_NAMES: Final = 1024  # field names kept decoded: the providers of this world use a few hundred
WRITE_PIECE_BYTES: Final = 64 * 1024  # the transports' high-water mark; up to it, one copy is cheaper than two writes

_LATE: Final[dict[Phase, str]] = {
    "sending": "The provider stopped taking the request.",
    "first_byte": "The provider did not begin to answer in time.",
    "body": "The provider stopped in the middle of its answer.",
}


_names: dict[bytes, str] = {}  # measured on a head of 22 fields: 3.8 us instead of 5.4


class Owner(Protocol):
    """Who is told what became of a connection."""

    def on_idle(self, connection: "Connection") -> None:
        """The connection can take another request."""

    def on_lost(self, connection: "Connection") -> None:
        """The connection is closed. May be called more than once."""


class Connection(asyncio.Protocol):
    """The protocol of one connection, for any number of exchanges one after the other."""

    __slots__ = (
        "_armed_for_s",
        "_deadline_s",
        "_fields",
        "_has_head",
        "_has_response",
        "_idle_limit_s",
        "_is_complete",
        "_is_dropped",
        "_is_interim",
        "_is_proxied",
        "_is_until_close",
        "_is_writing_paused",
        "_keeps_alive",
        "_loop",
        "_outbox",
        "_overhead_bytes",
        "_owner",
        "_parser",
        "_phase",
        "_reply",
        "_timeouts",
        "_timer",
        "_transport",
        "_unsent",
        "is_reading_paused",
        "served",
    )

    def __init__(
        self, owner: Owner, *, outbox: Outbox, loop: asyncio.AbstractEventLoop, idle_limit_s: float, is_proxied: bool
    ) -> None:
        self.served = 0
        self._outbox = outbox
        self._is_proxied = is_proxied
        self._owner = owner
        self._loop = loop
        self._idle_limit_s = idle_limit_s
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._timeouts = Timeouts()
        self._reply: Reply | None = None
        self._unsent: memoryview | None = None
        self._is_writing_paused = self.is_reading_paused = self._is_dropped = False
        self._phase: Phase = "idle"
        self._deadline_s = self._armed_for_s = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self._fields: list[tuple[bytes, bytes]] = []
        self._overhead_bytes = 0  # received since the last byte of a body: bounds heads, interims, trailers, extensions
        self._has_response = self._has_head = self._is_complete = False
        self._is_interim = self._is_until_close = False
        self._keeps_alive = True

    # Requests

    @property
    def is_usable(self) -> bool:
        transport = self._transport
        return transport is not None and not self._is_dropped and not transport.is_closing()

    def start(self, head: bytes, body: bytes, timeouts: Timeouts) -> Reply:
        """Write a request, behind the records that wait. `head` ends with "content-length: "; the rest of it follows
        from the body.
        """
        assert self._transport is not None
        assert self._reply is None
        if len(body) > WRITE_PIECE_BYTES and (error := self._outbox.flush()) is not None:
            self.drop()
            raise error
        self._reset()
        self._timeouts = timeouts
        reply = Reply(self)
        self._reply = reply
        if len(body) <= WRITE_PIECE_BYTES:
            self._outbox.send(self._transport, b"%b%d\r\n\r\n%b" % (head, len(body), body), self.fail)
            self._renew_deadline()
        else:
            self._transport.write(b"%b%d\r\n\r\n" % (head, len(body)))
            self._unsent = memoryview(body)
            self._send_more()
        return reply

    def _send_more(self) -> None:
        unsent = self._unsent
        if unsent is None or self._transport is None:
            return
        while unsent and not self._is_writing_paused:
            self._transport.write(unsent[:WRITE_PIECE_BYTES])
            unsent = unsent[WRITE_PIECE_BYTES:]
        self._unsent = unsent or None
        self._renew_deadline()

    def pause_writing(self) -> None:
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        self._is_writing_paused = False
        self._send_more()

    def drop(self) -> None:
        """Close at once, without a word to the reply, which gave up or has ended. `Owner.on_lost` follows."""
        self._is_dropped = True
        self._detach()
        if self._transport is not None:
            self._transport.abort()

    # Responses

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # a server that speaks unasked cannot be trusted with whose answer the bytes are
            self.drop()
            return
        self._has_response = True
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_complete:
                self.fail(_refusal(error), error)
                return
            self._keeps_alive = False  # the reply is whole, what came behind it is not ours
        self._after_data(reply)

    def _after_data(self, reply: Reply) -> None:
        if self._is_complete:
            self._finish(reply)
            return
        if self._overhead_bytes > MAX_HEAD_BYTES:
            self.fail(UpstreamBroken("The provider's answer has too long a header."))
            return
        if not self._has_head:  # a head that drips in does not earn more time
            return
        if reply.buffered_bytes > MAX_UNREAD_BYTES:
            self._pause()
        if self._phase == "body" and not self.is_reading_paused and self._unsent is None:
            self._deadline_s = self._loop.time() + self._timeouts.idle_s  # later than before, so the timer stands
        else:
            self._renew_deadline()
        reply.wake()

    def _finish(self, reply: Reply) -> None:
        is_sent = self._unsent is None
        self._detach()
        if is_sent and self._keeps_alive and self.is_usable:
            self.served += 1
            self._set_deadline(self._idle_limit_s, "idle")
            self._owner.on_idle(self)
        else:
            self.drop()
        reply.finish()

    def _pause(self) -> None:
        if not self.is_reading_paused and self.is_usable and self._transport is not None:
            self.is_reading_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """The reader has taken what was buffered."""
        if self.is_reading_paused:
            self.is_reading_paused = False
            if self.is_usable and self._transport is not None:
                self._transport.resume_reading()
                self._renew_deadline()

    # What httptools calls

    def on_message_begin(self) -> None:
        if self._is_complete:
            self._keeps_alive = False  # bytes behind the end of the reply

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self._fields
        if len(fields) >= MAX_FIELDS:
            raise UpstreamBroken("The provider's answer has too many header fields.")
        fields.append((name, value))

    def on_headers_complete(self) -> None:
        reply = self._reply
        if reply is None or self._is_complete:
            return
        status = self._parser.get_status_code()
        fields = self._fields
        self._fields = []  # trailers are collected apart, bounded alike, and dropped
        self._is_interim = 100 <= status < 200 and status != 101  # noqa: PLR2004 - RFC 9110, 15.2; 101 we never ask for
        if self._is_interim:
            return
        if not 200 <= status < 600:  # noqa: PLR2004 - RFC 9110, 15
            raise UpstreamBroken("The provider answered with a status that is not one.")
        self._keeps_alive = self._parser.should_keep_alive()
        if not self._keeps_alive and self._parser.get_http_version() not in {"1.0", "1.1"}:
            raise UpstreamBroken("The provider speaks another version of HTTP.")
        if self._overhead_bytes > MAX_HEAD_BYTES:  # it may be a body in the same segment that makes it long
            self._check_size(fields)
        headers = _join(fields)
        coding = headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise UpstreamBroken("The provider's answer is encoded in a way that was not asked for.")
        self._is_until_close = coding is None and "content-length" not in headers
        self._has_head = True
        reply.begin(status, headers)

    def _check_size(self, fields: list[tuple[bytes, bytes]]) -> None:
        if sum(len(name) + len(value) for name, value in fields) > MAX_HEAD_BYTES:
            raise UpstreamBroken("The provider's answer has too long a header.")

    def on_body(self, piece: bytes) -> None:
        reply = self._reply
        if reply is not None and not self._is_complete:
            self._overhead_bytes = 0
            reply.push(piece)

    def on_message_complete(self) -> None:
        self._is_complete = not self._is_interim

    # Ends

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its ancestry

    def eof_received(self) -> None:
        # Not left to the transport: its close() would first wait for a half-written request to be taken.
        self._end(None)
        self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_dropped = True
        self._end(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport = None
        self._owner.on_lost(self)

    def _end(self, cause: Exception | None) -> None:
        reply = self._detach()
        if reply is None:
            return
        if reply.has_head and self._is_until_close and cause is None:
            reply.finish()
            return
        if self._has_response:
            error = UpstreamBroken("The provider's answer was truncated.")
        else:
            error = UpstreamBroken("The provider closed the connection without an answer.")
            reply.is_resendable = self.served > 0
        if self._is_proxied:
            error.beyond_proxy()
        error.__cause__ = cause
        reply.finish(error)

    def fail(self, error: GatewayError, cause: Exception | None = None) -> None:
        """Close at once; a reply under way ends with this error."""
        error.__cause__ = None if cause is error else cause
        reply = self._detach()
        self.drop()
        if reply is not None:
            reply.finish(error)

    def _detach(self) -> Reply | None:
        reply = self._reply
        self._reply = None
        self._unsent = None
        return reply

    # The one timer

    def _renew_deadline(self) -> None:
        if self.is_reading_paused:
            self._set_deadline(math.inf, "body")  # it is us who keep the provider waiting
        elif self._unsent is not None:
            self._set_deadline(self._timeouts.idle_s, "sending")
        elif self._has_head:
            self._set_deadline(self._timeouts.idle_s, "body")
        else:
            self._set_deadline(self._timeouts.first_byte_s, "first_byte")

    def _set_deadline(self, seconds: float, phase: Phase) -> None:
        self._phase = phase
        self._deadline_s = deadline_s = self._loop.time() + seconds
        if deadline_s < self._armed_for_s:
            if self._timer is not None:
                self._timer.cancel()
            self._arm(deadline_s)

    def _arm(self, deadline_s: float) -> None:
        self._armed_for_s = deadline_s
        self._timer = self._loop.call_later(deadline_s - self._loop.time(), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._armed_for_s = math.inf
        if self._loop.time() < self._deadline_s:
            if self._deadline_s < math.inf:
                self._arm(self._deadline_s)
        elif self._phase == "idle":
            self.drop()
        else:
            self.fail(UpstreamTimeout(_LATE[self._phase]))


def _join(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name = _names.get(raw_name) or _name(raw_name)
        value = raw_value.decode("latin-1")
        if value[-1:] in {" ", "\t"}:  # llhttp strips the left side only
            value = value.rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _name(raw_name: bytes) -> str:
    name = raw_name.decode("latin-1").lower()
    if len(_names) < MAX_NAMES:
        _names[raw_name] = name
    return name


def _refusal(error: Exception) -> GatewayError:
    """What a parser error means; our own objections arrive as the context of a callback error."""
    if isinstance(error.__context__, GatewayError):
        return error.__context__
    return UpstreamBroken("The provider's answer is not valid HTTP.")
