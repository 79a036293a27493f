"""The server's connections: aiohttp's own protocol with the deadlines and caps that it lacks, and a short way in.

aiohttp bounds neither the time a client may take to send its request head nor the number of connections; both are
done here, by one sweep a second over what is open rather than by a timer for each connection.

A request that arrives on a connection where nothing else is under way may go the short way (`short_way.py`), which
aiohttp does not see. All else takes aiohttp's way, and both meet in the same pipeline.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from trollproxy.gateway.exchange import ClientRequest
from trollproxy.outbox import Outbox
from trollproxy.web.client_stream import TransportStream
from trollproxy.web.heads import Shape, shape_of
from trollproxy.web.peers import TrustedNetworks
from trollproxy.web.short_way import Known, ShortWay

log = logging.getLogger(__name__)

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

SWEEP_S = 1.0  # how late a deadline may strike; short against any sane header timeout
MAX_HEAD_LINE = 16 * 1024  # a key, betas and a handful of vendor headers fit many times over
MAX_HEADERS = 100
LINGER_S = 2.0  # a client that still sends its body gets this long to see why it was refused
MAX_BEHIND_BYTES = 64 * 1024  # some requests; up to it we read on, since who does not read does not see a hang-up
MAX_BEHIND_READS = 16  # so that a drip of bytes costs no more than they
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class ConnectionLimits(NamedTuple):
    """Bounds on connections, all from the configuration."""

    header_timeout_s: float
    keep_alive_s: float
    max_connections: int
    max_connections_per_ip: int


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = ("_behind", "_known", "_missing", "_shape", "_short", "head_since_s", "stream")

    _manager: "LimitedServer | None"

    def __init__(self, server: "LimitedServer", limits: ConnectionLimits, *, known: Known) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.keep_alive_s,
            access_log=None,  # type: ignore[arg-type]  # None switches it off; the annotation forgets that
            auto_decompress=False,  # a compressed body could be a bomb; the dialects do not use any
            max_line_size=MAX_HEAD_LINE,
            max_field_size=MAX_HEAD_LINE,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_S,
        )
        self.head_since_s: float | None = None  # when the head that we wait for began; None between requests
        self.stream: TransportStream | None = None  # the answer that is being written aiohttp's way
        self._known = known
        self._short = ShortWay(self, known, self._arrive, loop=self._loop)
        self._behind: list[bytes] = []  # the reads meanwhile: `MAX_BEHIND_BYTES` and one more at most
        self._missing: int | None = 0  # of the request that aiohttp is reading; 0: it is between two; None: unknown
        self._shape: Shape | None = None  # of the head that aiohttp parsed last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peername = transport.get_extra_info("peername")
        self._short.peer = peername[0] if peername else ""
        self.head_since_s = self._loop.time()
        server = self._manager
        super().connection_made(transport)
        assert server is not None
        if not server.admit(self):
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        server = self._manager
        super().connection_lost(exc)
        if server is not None:
            server.forget(self)
        self._short.lost()
        if self.stream is not None:
            self.stream.lost()

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp, having made room for what its parser holds
            self._take(data)
            return
        short = self._short
        if short.errand is not None or self._behind:
            self._hold_back(data)
            return
        waiter = self._waiter
        if waiter is None and self._missing == 0 and self._is_returning:
            self._behind.append(data)
            self._loop.call_soon(self._catch_up)
            return
        is_waiting = waiter is not None and not (waiter.done() or self._close or self._force_close)
        if self._missing == 0 and is_waiting and short.go(data):
            self.head_since_s = None
        else:
            self._take(data)

    # aiohttp's way

    def _take(self, data: bytes) -> None:
        heads, waiter = self._request_count, self._waiter
        is_alone = waiter is not None and not waiter.done()
        super().data_received(data)
        self._measure(data, self._request_count - heads, is_alone=is_alone)
        if self._request_count != heads:
            self.head_since_s = None
        elif self.head_since_s is None and not self._request_in_progress and not self._messages:
            self.head_since_s = self._loop.time()

    def _measure(self, data: bytes, begun: int, *, is_alone: bool) -> None:
        """Know when aiohttp's parser is between two requests. Once that is lost, it stays lost for the connection."""
        if begun:
            self._shape = None
        if self._missing is None or not data:
            return
        if self._missing:
            self._missing = self._missing - len(data) if len(data) <= self._missing and not begun else None
            return
        shape = shape_of(data) if begun == 1 and self._messages else None
        self._missing = None
        if shape is None:
            return
        _, _, length, body_at = shape
        if self._is_plain(length) and len(data) <= body_at + length:
            self._missing = body_at + length - len(data)
            self._shape = shape if is_alone else None  # of several, it could be remembered as another's

    def _is_plain(self, length: int) -> bool:
        """Whether aiohttp read the same length out of this head, and nothing else that frames a body."""
        message = self._messages[-1][0]
        if isinstance(message, _ErrInfo):
            return False
        lengths = message.headers.getall(hdrs.CONTENT_LENGTH, ())
        is_framed_otherwise = message.chunked or message.upgrade or hdrs.EXPECT in message.headers
        is_coded = hdrs.CONTENT_ENCODING in message.headers  # aiohttp's `compression` tells only what it can undo
        return list(lengths) == [str(length)] and not is_framed_otherwise and not is_coded

    @property
    def peer(self) -> str:
        return self._short.peer

    @property
    def outbox(self) -> Outbox:
        return self._known.outbox

    def take_shape(self) -> Shape | None:
        """Of the request that aiohttp hands out now; None if its head is not to be known again."""
        shape, self._shape = self._shape, None
        return shape

    def remember(self, shape: Shape, asked: ClientRequest) -> None:
        """What aiohttp's way made of a head, so that the next one like it can go the short way. To be told of requests
        that were served well: nobody else shall fill the memory.
        """
        self._known.heads.keep(self.peer, shape, request=asked)

    # The short way

    @property
    def _is_returning(self) -> bool:
        """Aiohttp has answered, and takes a turn of the loop or two until it waits for the next request."""
        is_done = not (self._request_in_progress or self._messages or self._close or self._force_close)
        return is_done and self._request_count > 0 and self._task_handler is not None

    def _hold_back(self, data: bytes) -> None:
        """Requests of one connection are answered one after the other."""
        behind = self._behind
        behind.append(data)
        is_full = len(behind) >= MAX_BEHIND_READS or sum(map(len, behind)) >= MAX_BEHIND_BYTES
        if is_full and self.transport is not None:
            self.transport.pause_reading()

    def _arrive(self, may_follow: bool) -> None:
        """The answer is written. Go on as aiohttp does: close, or wait for the next request."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if not may_follow or self._close:
            self.outbox.flush()
            self.force_close()  # aiohttp's `close` leaves the transport of an idle connection open
        elif self._behind:
            self._catch_up()

    def _catch_up(self) -> None:
        """As it was read: what cannot be parsed costs its own read its answers, and no other."""
        behind, self._behind = self._behind, []
        if self.transport is not None:
            self.transport.resume_reading()
            for data in behind:
                self.data_received(data)

    def close(self) -> None:
        """Stop, but not before the answer is written."""
        if self._short.errand is None:
            super().close()
        else:
            self._close = True

    def _process_keepalive(self) -> None:
        """Aiohttp takes the connection for idle while something goes the short way."""
        if self._short.errand is None:
            super()._process_keepalive()
        else:
            self._keepalive_handle = self._loop.call_later(self._keepalive_timeout, self._process_keepalive)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP briefly and without a traceback in the log: the internet is full of it."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.debug("not HTTP", extra={"fields": {"peer": self.peer, "reason": type(exc).__name__}})
        response = web.Response(status=status, text="The request is not valid HTTP.\n")
        response.force_close()
        return response

    def time_out(self) -> None:
        if self.transport is not None:
            self.transport.write(_TOO_SLOW)
        self.force_close()


class LimitedServer(web.Server):
    """Builds connections and keeps them within the limits."""

    def __init__(self, handle: Handle, limits: ConnectionLimits, trusted: TrustedNetworks, *, known: Known) -> None:
        super().__init__(handle)
        self._limits = limits
        self._known = known
        self._trusted = trusted
        self._open: set[Connection] = set()
        self._by_peer: Counter[str] = Counter()
        self.refused = 0

    def __call__(self) -> RequestHandler:
        return Connection(self, self._limits, known=self._known)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; whether there is room for it."""
        self._open.add(connection)
        self._by_peer[connection.peer] += 1
        fits = len(self._open) <= self._limits.max_connections and self._peer_fits(connection.peer)
        self.refused += not fits
        return fits

    def forget(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._by_peer[connection.peer] -= 1
            if not self._by_peer[connection.peer]:
                del self._by_peer[connection.peer]

    async def sweep(self) -> None:
        """Close, until cancelled, whoever takes too long over a request head."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            oldest = loop.time() - self._limits.header_timeout_s
            for connection in [c for c in self._open if c.head_since_s is not None and c.head_since_s < oldest]:
                connection.time_out()

    def close_idle(self) -> None:
        """Close the connections on which no request is running."""
        self.pre_shutdown()

    def _peer_fits(self, peer: str) -> bool:
        return self._by_peer[peer] <= self._limits.max_connections_per_ip or self._trusted.holds(peer)
