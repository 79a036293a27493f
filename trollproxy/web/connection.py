"""The server's connections: aiohttp's own protocol with the deadlines and caps that it lacks.

aiohttp bounds neither the time a client may take to send its request head nor the number of connections; both are
done here, by one sweep a second over what is open rather than by a timer for each connection.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from trollproxy.web.client_stream import TransportStream
from trollproxy.web.peers import TrustedNetworks

log = logging.getLogger(__name__)

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

SWEEP_S = 1.0  # how late a deadline may strike; short against any sane header timeout
MAX_HEAD_LINE = 16 * 1024  # a key, betas and a handful of vendor headers fit many times over
MAX_HEADERS = 100
LINGER_S = 2.0  # a client that still sends its body gets this long to see why it was refused
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class ConnectionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on connections, all from the configuration."""

    header_timeout_s: float
    keep_alive_s: float
    max_connections: int
    max_connections_per_ip: int


class Connection(RequestHandler):
    """One client connection."""

    __slots__ = ("head_since_s", "peer", "stream")

    _manager: "LimitedServer | None"

    def __init__(self, server: "LimitedServer", limits: ConnectionLimits) -> None:
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
        self.peer = ""
        self.stream: TransportStream | None = None  # the answer that is being written

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peername = transport.get_extra_info("peername")
        self.peer = peername[0] if peername else ""
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
        if self.stream is not None:
            self.stream.lost()

    def data_received(self, data: bytes) -> None:
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self.head_since_s = None
        elif self.head_since_s is None and not self._request_in_progress and not self._messages:
            self.head_since_s = self._loop.time()

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

    def __init__(self, handle: Handle, limits: ConnectionLimits, trusted: TrustedNetworks) -> None:
        super().__init__(handle)
        self._limits = limits
        self._trusted = trusted
        self._open: set[Connection] = set()
        self._by_peer: Counter[str] = Counter()
        self.refused = 0

    def __call__(self) -> RequestHandler:
        return Connection(self, self._limits)

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
