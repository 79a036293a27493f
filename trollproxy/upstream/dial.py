"""Opening connections: straight to a provider, or through an outbound proxy; with TLS where the provider wants it.

Invariants:
- One deadline covers all of it: names, TCP, the proxy's handshake, TLS.
- A call with a proxy never goes any other way, and its provider's name is not looked up here.
- TLS is spoken with the provider, within the tunnel, and checked against the provider's name: a proxy sees ciphertext.
- Whatever fails leaves no transport open.
Must not know: pools, requests.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar, cast

from trollproxy.errors import GatewayError, ProxyFailed, UpstreamTimeout, UpstreamUnavailable
from trollproxy.records import Endpoint, OutboundProxy
from trollproxy.upstream.connection import Connection
from trollproxy.upstream.dns import Resolver
from trollproxy.upstream.tunnel import Handshake

Build = Callable[[], Connection]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class _Goal(NamedTuple):
    """Where a TCP connection leads, and whether TLS follows at once."""

    host: str
    port: int
    tls: bool


class _Opening(asyncio.Protocol):
    """Shakes hands with a proxy, then stands in for the connection until that takes over."""

    def __init__(self, handshake: Handshake, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[None] = loop.create_future()
        self.opened.add_done_callback(_see)
        self._handshake = handshake
        self._is_spoiled = False  # something came, or all of it went, between the handshake and the first request
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._handshake.start())

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            self._is_spoiled = True
            return
        try:
            answer = self._handshake.feed(data)
        except GatewayError as error:
            self.opened.set_exception(error)
            return
        if answer:
            self.transport.write(answer)
        if self._handshake.is_done:
            self.opened.set_result(None)

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, cause: Exception | None) -> None:
        self._is_spoiled = True
        if not self.opened.done():
            error = ProxyFailed("The outbound proxy hung up before a way to the provider was open.")
            error.__cause__ = cause
            self.opened.set_exception(error)

    def hand_over(self, transport: asyncio.Transport, connection: Connection) -> Connection:
        """In one step, so that nothing can arrive in between."""
        if self._is_spoiled:
            raise UpstreamUnavailable("The provider closed the connection at once, or spoke first.").beyond_proxy()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        return connection


class Dialer:
    """Opens connections with one set of trusted certificates."""

    def __init__(self, resolver: Resolver, ssl_context: ssl.SSLContext) -> None:
        self._resolver = resolver
        self._ssl_context = ssl_context

    async def open(
        self, build: Build, endpoint: Endpoint, *, proxy: OutboundProxy | None, connect_s: float
    ) -> Connection:
        deadline_s = asyncio.get_running_loop().time() + connect_s
        if proxy is None:
            return await self._straight(build, endpoint, deadline_s)
        opening = await self._open_tunnel(proxy, endpoint, deadline_s)
        try:
            transport = await self._secure(opening, endpoint, deadline_s) if endpoint.tls else opening.transport
            return opening.hand_over(transport, build())
        except BaseException:
            opening.transport.abort()
            raise

    async def _straight(self, build: Build, endpoint: Endpoint, deadline_s: float) -> Connection:
        try:
            async with asyncio.timeout_at(deadline_s):
                addresses = await self._resolver.resolve(endpoint.host)
                goal = _Goal(endpoint.host, endpoint.port, endpoint.tls)
                return await self._connect_any(build, goal, addresses=addresses, deadline_s=deadline_s)
        except OSError as error:
            raise _unreachable(error) from error

    async def _open_tunnel(self, proxy: OutboundProxy, endpoint: Endpoint, deadline_s: float) -> _Opening:
        build = partial(_begin_tunnel, proxy, endpoint, asyncio.get_running_loop())
        try:
            async with asyncio.timeout_at(deadline_s):
                addresses = await self._resolve_proxy(proxy)
                goal = _Goal(proxy.host, proxy.port, tls=False)
                opening = await self._connect_any(build, goal, addresses=addresses, deadline_s=deadline_s)
                try:
                    await opening.opened
                except BaseException:
                    opening.transport.abort()
                    raise
                return opening
        except TimeoutError as error:
            raise ProxyFailed("The outbound proxy did not open a way to the provider in time.") from error
        except OSError as error:
            raise ProxyFailed("The outbound proxy could not be reached.") from error

    async def _resolve_proxy(self, proxy: OutboundProxy) -> Sequence[str]:
        try:
            return await self._resolver.resolve(proxy.host)
        except UpstreamUnavailable as error:
            raise ProxyFailed("The outbound proxy's name could not be resolved.") from error

    async def _secure(self, opening: _Opening, endpoint: Endpoint, deadline_s: float) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline_s):
                transport = await loop.start_tls(
                    opening.transport, opening, self._ssl_context, server_hostname=endpoint.host
                )
        except OSError as error:
            raise _unreachable(error).beyond_proxy() from error  # a proxy that meddles looks like this too
        assert transport is not None
        return transport

    async def _connect_any(
        self, build: Callable[[], _P], goal: _Goal, *, addresses: Sequence[str], deadline_s: float
    ) -> _P:
        """Each address gets its share of what time is left, so that a dead first one does not use it all up."""
        loop = asyncio.get_running_loop()
        for left in range(len(addresses), 0, -1):
            try:
                async with asyncio.timeout((deadline_s - loop.time()) / left):
                    return await self._connect(build, goal, addresses[-left])
            except OSError:  # TimeoutError is one, ssl.SSLError as well
                if left == 1:
                    raise
        raise AssertionError("the resolver returns at least one address")

    async def _connect(self, build: Callable[[], _P], goal: _Goal, address: str) -> _P:
        _, protocol = await asyncio.get_running_loop().create_connection(
            build,
            address,
            goal.port,
            ssl=self._ssl_context if goal.tls else None,
            server_hostname=goal.host if goal.tls else None,
        )
        return protocol


def _begin_tunnel(proxy: OutboundProxy, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> _Opening:
    return _Opening(Handshake(proxy, endpoint.host, endpoint.port), loop)


def _see(opened: asyncio.Future[None]) -> None:
    """So that a failure is no surprise to the loop where whoever waited has been cancelled."""
    if not opened.cancelled():
        opened.exception()


def _unreachable(error: OSError) -> GatewayError:
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("The provider did not take the connection in time.")
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamUnavailable("The provider's certificate is not trusted.")
    if isinstance(error, ssl.SSLError):
        return UpstreamUnavailable("No secure connection to the provider could be made.")
    return UpstreamUnavailable("The provider could not be reached.")
