"""The `Upstream` port: a pool of connections for each origin and way to it, and the sending of calls over them.

Owns: how many connections there are, which one a call gets, and the one safe resend.
Invariants:
- A call takes a connection that was opened through its own proxy, credentials included, or straight if it has none.
- open + connecting <= max_connections for each origin; a slot is freed when the transport says the connection is lost.
- A call waits only while its origin is full, first come first served; nobody overtakes through `try_send`.
- A request is sent twice only if the connection was a reused one and was lost before any byte of a response.
- Bytes that could end a header line never reach the wire.
Must not know: formats, providers, keys.
"""

import asyncio
import re
import ssl
from collections import deque
from typing import NamedTuple

from trollproxy.errors import Overloaded, UpstreamBroken, UpstreamUnavailable
from trollproxy.outbox import Outbox
from trollproxy.ports import Upstream, UpstreamCall
from trollproxy.records import Endpoint, OutboundProxy, Timeouts
from trollproxy.upstream.connection import Connection
from trollproxy.upstream.dial import Dialer
from trollproxy.upstream.dns import Resolver
from trollproxy.upstream.reply import Reply
from trollproxy.upstream.tunnel import bracketed

MAX_ROUTES = 4096  # request heads kept ready: formats x upstream keys, with room to spare; 2 MB, at the most 16
MAX_KEPT_HEAD_BYTES = 2048  # what a longer one costs to write is little beside what it costs to send

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t -~]*")  # RFC 9110, 5.5, without the obsolete bytes above ASCII
_PATH = re.compile(r"/[!-~]*")
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})  # they frame the message


class Origin(NamedTuple):
    """What one pool of connections leads to, and by which way."""

    host: str
    port: int
    tls: bool
    proxy_id: str | None = None


class OriginStats(NamedTuple):
    """`open` counts connecting ones as well; `created` grows with every connection that was established."""

    open: int
    idle: int
    waiting: int
    created: int

    def plus(self, other: "OriginStats") -> "OriginStats":
        return OriginStats(
            self.open + other.open,
            self.idle + other.idle,
            self.waiting + other.waiting,
            self.created + other.created,
        )


class PoolLimits(NamedTuple):
    """Of the connections to one origin."""

    max_connections: int = 4096  # a stream holds one for its whole life, and 1,000 at once are the goal
    max_waiters: int = 1024  # beyond that the wait would outlast its deadline anyway
    wait_timeout_s: float = 10.0  # as long as a connect may take: waiting for a place is a part of reaching it
    idle_limit_s: float = 30.0  # below the 60 s of AWS' balancers and the 75 s of nginx, so that we close first


class _Pool:
    """The connections to one origin. All of it is synchronous but the wait for a place."""

    def __init__(self, proxy: OutboundProxy | None, outbox: Outbox, limits: PoolLimits) -> None:
        self.proxy = proxy
        self._outbox = outbox
        self.created = 0
        self.is_closed = False
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._connecting = 0
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # an ordered set: taken from the end, expired from anywhere
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._emptied: asyncio.Future[None] | None = None

    def stats(self) -> OriginStats:
        open_count = len(self._connections) + self._connecting
        return OriginStats(open_count, len(self._idle), len(self._waiters), self.created)

    def take_idle(self) -> Connection | None:
        """The most recently used one: the others get a chance to expire, and its server is the least likely to have."""
        while self._idle and not self._waiters:
            connection, _ = self._idle.popitem()
            if connection.is_usable:
                return connection
        return None

    def reserve(self) -> bool:
        """Take a place for a new connection. It ends with `adopt` or `release`."""
        has_room = not self._waiters and len(self._connections) + self._connecting < self._limits.max_connections
        self._connecting += has_room
        return has_room

    def build(self) -> Connection:
        return Connection(
            self,
            outbox=self._outbox,
            loop=self._loop,
            idle_limit_s=self._limits.idle_limit_s,
            is_proxied=self.proxy is not None,
        )

    def adopt(self, connection: Connection) -> None:
        self._connecting -= 1
        self._connections.add(connection)
        self.created += 1

    def release(self) -> None:
        self._connecting -= 1
        self._let_in()

    async def wait(self, timeout_s: float) -> Connection | None:
        """An idle connection, or None with a place reserved for a new one."""
        if len(self._waiters) >= self._limits.max_waiters:
            raise Overloaded("Too many requests are waiting for this provider.")
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError):
                raise Overloaded("The request waited too long for a connection to this provider.") from error
            raise

    def drop_idle(self) -> None:
        """Make room for a new connection where an unused one takes its place."""
        if len(self._connections) + self._connecting >= self._limits.max_connections and self._idle:
            self._idle.popitem()[0].drop()

    def on_idle(self, connection: Connection) -> None:
        if self.is_closed:
            connection.drop()
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._idle[connection] = None

    def on_lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        self._let_in()

    async def close(self) -> None:
        self.is_closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(Overloaded("The gateway is shutting down."))
        for connection in list(self._connections):
            connection.fail(Overloaded("The gateway is shutting down."))
        if self._connections or self._connecting:
            self._emptied = self._emptied or self._loop.create_future()
            await asyncio.shield(self._emptied)

    def _let_in(self) -> None:
        if len(self._connections) + self._connecting < self._limits.max_connections:
            waiter = self._next_waiter()
            if waiter is not None:
                self._connecting += 1
                waiter.set_result(None)
        if self._emptied is not None and not (self._connections or self._connecting or self._emptied.done()):
            self._emptied.set_result(None)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    def _leave(self, waiter: asyncio.Future[Connection | None]) -> None:
        """Give up waiting, and hand on what was granted between the wake-up and now."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if waiter.cancelled() or not waiter.done() or waiter.exception() is not None:
            return
        granted = waiter.result()
        if granted is None:
            self.release()
        elif granted.is_usable:
            self.on_idle(granted)


class _Route:
    """Where a call goes and the head that is written for it. Who sends many alike gives the very same headers."""

    __slots__ = ("_endpoint", "_headers", "_method", "_proxy", "head", "pool")

    def __init__(self, call: UpstreamCall, pool: _Pool, head: bytes) -> None:
        self._endpoint, self._headers = call.endpoint, call.headers
        self._proxy, self._method = call.proxy, call.method
        self.pool = pool
        self.head = head

    def is_for(self, call: UpstreamCall) -> bool:
        is_same_head = self._headers is call.headers and self._method == call.method
        return is_same_head and self._endpoint is call.endpoint and self._proxy is call.proxy


class _Probed:
    """The owner of a connection that carries no request."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def build(self) -> Connection:
        return Connection(self, outbox=Outbox(), loop=self._loop, idle_limit_s=0.0, is_proxied=False)

    def on_idle(self, _: Connection) -> None:
        raise AssertionError("nothing was sent")

    def on_lost(self, _: Connection) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


class Client(Upstream):
    """`ports.Upstream` over pooled HTTP/1.1 connections."""

    def __init__(
        self,
        outbox: Outbox | None = None,
        limits: PoolLimits | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._outbox = outbox or Outbox()
        self._limits = limits or PoolLimits()
        self._resolver = resolver or Resolver()
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._ssl_context.set_alpn_protocols(["http/1.1"])
        self._dialer = Dialer(self._resolver, self._ssl_context)
        self._pools: dict[tuple[Origin, OutboundProxy | None], _Pool] = {}  # configured ones: clients cannot name any
        self._routes: dict[int, _Route] = {}  # by the identity of a call's headers, which the route keeps alive
        self._is_closed = False

    def try_send(self, call: UpstreamCall) -> Reply | None:
        """Send over an idle connection without waiting, or return None where there is none.

        A reply that fails with `is_resendable` may be sent again with `resend`.
        """
        pool, head = self._route(call)
        connection = pool.take_idle()
        return None if connection is None else _start(connection, head, call)

    async def send(self, call: UpstreamCall) -> Reply:
        reply = self.try_send(call)
        if reply is None:
            if (error := self._outbox.flush()) is not None:  # once there is a connection, nobody will say so
                raise error
            pool, head = self._route(call)
            connection = await self._acquire(pool, call)
            reply = _start(connection, head, call)
        try:
            await reply.wait_for_head()
        except UpstreamBroken:
            if not reply.is_resendable:
                raise
        else:
            return reply
        return await self.resend(call)

    async def resend(self, call: UpstreamCall) -> Reply:
        """Send over a connection that nobody has used before, so that this cannot fail for the same reason again."""
        pool, head = self._route(call)
        connection = await self._acquire_fresh(pool, call)
        reply = _start(connection, head, call)
        await reply.wait_for_head()
        return reply

    async def probe(self, proxy: OutboundProxy, endpoint: Endpoint, timeouts: Timeouts) -> None:
        """Go through the proxy as far as a request could be sent (TLS included), and hang up. Raises as `send` does."""
        self._check_open()
        probed = _Probed()
        connection = await self._dialer.open(probed.build, endpoint, proxy=proxy, connect_s=timeouts.connect_s)
        connection.drop()
        await probed.lost

    async def close(self) -> None:
        """Drop every connection. Connects under way end with their own deadline, unless their tasks are cancelled."""
        self._is_closed = True
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        await self._resolver.close()

    def stats(self) -> dict[Origin, OriginStats]:
        found: dict[Origin, OriginStats] = {}
        for (origin, _), pool in self._pools.items():  # a proxy whose password changed has two pools for a while
            before, now = found.get(origin), pool.stats()
            found[origin] = now if before is None else before.plus(now)
        return found

    def _route(self, call: UpstreamCall) -> tuple[_Pool, bytes]:
        route = self._routes.get(id(call.headers))
        if route is None or not route.is_for(call):
            route = self._build_route(call)
            if len(route.head) > MAX_KEPT_HEAD_BYTES:
                return route.pool, route.head
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            self._routes[id(call.headers)] = route
        return route.pool, route.head

    def _build_route(self, call: UpstreamCall) -> _Route:
        endpoint, proxy = call.endpoint, call.proxy
        origin = Origin(endpoint.host, endpoint.port, endpoint.tls, None if proxy is None else proxy.proxy_id)
        if self._is_closed:
            raise Overloaded("The gateway is shutting down.")
        pool = self._pools.get((origin, proxy))
        if pool is None:
            pool = self._pools[origin, proxy] = _Pool(proxy, self._outbox, self._limits)
        return _Route(call, pool, _head(origin, call))

    async def _acquire(self, pool: _Pool, call: UpstreamCall) -> Connection:
        deadline_s = asyncio.get_running_loop().time() + self._limits.wait_timeout_s
        while True:
            connection = pool.take_idle()
            if connection is None and not pool.reserve():
                connection = await self._wait(pool, deadline_s)
            if connection is None:
                return await self._open(pool, call)
            if connection.is_usable:
                return connection

    async def _acquire_fresh(self, pool: _Pool, call: UpstreamCall) -> Connection:
        deadline_s = asyncio.get_running_loop().time() + self._limits.wait_timeout_s
        pool.drop_idle()
        while not pool.reserve():
            connection = await self._wait(pool, deadline_s)
            if connection is None:
                break
            connection.drop()
        return await self._open(pool, call)

    async def _wait(self, pool: _Pool, deadline_s: float) -> Connection | None:
        self._check_open()
        return await pool.wait(deadline_s - asyncio.get_running_loop().time())

    def _check_open(self) -> None:
        if self._is_closed:
            raise Overloaded("The gateway is shutting down.")

    async def _open(self, pool: _Pool, call: UpstreamCall) -> Connection:
        """Fill a reserved place."""
        try:
            self._check_open()
            connection = await self._dialer.open(
                pool.build, call.endpoint, proxy=call.proxy, connect_s=call.timeouts.connect_s
            )
        except BaseException:
            pool.release()
            raise
        pool.adopt(connection)
        if self._is_closed:
            connection.drop()
        if not connection.is_usable:
            error = UpstreamUnavailable("The provider closed the connection at once.")
            raise error if call.proxy is None else error.beyond_proxy()
        return connection


def _start(connection: Connection, head: bytes, call: UpstreamCall) -> Reply:
    reply = connection.start(head, call.body, call.timeouts)
    call.when_sent()
    return reply


def _head(origin: Origin, call: UpstreamCall) -> bytes:
    """The request's head up to the digits of its length. What cannot be written safely is our bug, not the client's."""
    # The messages hold no values: they may be secrets.
    if not _PATH.fullmatch(call.endpoint.path):
        raise AssertionError("a request path holds what cannot be sent")
    lines = [f"{call.method} {call.endpoint.path} HTTP/1.1", f"host: {_authority(origin)}"]
    for name, value in call.headers:
        if not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise AssertionError("a header name cannot be sent")
        if not _VALUE.fullmatch(value):
            raise AssertionError(f"the value of header {name} cannot be sent")
        lines.append(f"{name}: {value}")
    lines.append("content-length: ")
    return "\r\n".join(lines).encode("ascii")


def _authority(origin: Origin) -> str:
    host = bracketed(origin.host)
    return host if origin.port == (443 if origin.tls else 80) else f"{host}:{origin.port}"
