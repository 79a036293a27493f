"""The short way through the server, as one connection goes it: in the very callback that a request arrives in.

A request that arrives in one piece, with a head that aiohttp has parsed before (`heads`), is carried out at once, and
aiohttp does not see it. One at a time: what is read meanwhile is the connection's to hold back. Must not know: when
the short way may be gone, which the connection decides.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from aiohttp.base_protocol import BaseProtocol

from trollproxy.gateway.errand import Errand
from trollproxy.gateway.exchange import Carrier, ClientRequest
from trollproxy.outbox import Outbox
from trollproxy.ports import ClientStream
from trollproxy.web.client_stream import TransportStream
from trollproxy.web.heads import Head, Heads

Arrived = Callable[[bool], object]


class Serve(Protocol):
    """Carries one request through the house."""

    def __call__(
        self, request: ClientRequest, client: ClientStream, body: bytes, *, task: Carrier
    ) -> Coroutine[Any, Any, None]: ...


class Known(NamedTuple):
    """The heads that are known, who serves the requests that have them, and by which way the answers go out."""

    heads: Heads
    serve: Serve
    outbox: Outbox


class ShortWay:
    """One connection's."""

    __slots__ = ("_arrived", "_head", "_heads", "_loop", "_outbox", "_protocol", "_serve", "errand", "peer", "stream")

    def __init__(
        self,
        protocol: BaseProtocol,
        known: Known,
        arrived: Callable[[bool], object],
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`arrived` is told when an answer is written, and whether another request may follow on the connection."""
        self._protocol = protocol
        self._heads, self._serve, self._outbox = known.heads, known.serve, known.outbox
        self._arrived = arrived
        self._loop = loop
        self._head: Head | None = None  # of the request before: most clients send one and the same
        self.peer = ""
        self.errand: Errand | None = None  # what is on its way
        self.stream: TransportStream | None = None  # and its answer

    def go(self, data: bytes) -> bool:
        """Carry out the request that `data` is; False if it is none whose head is known."""
        head = self._head
        body = head.body_in(data) if head is not None else None
        if head is None or body is None:
            head = self._head = self._heads.find(self.peer, data)
            body = head.body_in(data) if head is not None else None
            if head is None or body is None:
                return False
        stream = self.stream = TransportStream(self._protocol, self._outbox, keep_alive=True)
        errand = self.errand = Errand(self._arrive, self._loop)
        errand.run(self._serve(head.request, stream, body, task=errand))
        return True

    def lost(self) -> None:
        """The connection is gone."""
        if self.stream is not None:
            self.stream.lost()

    def _arrive(self) -> None:
        stream, self.stream, self.errand = self.stream, None, None
        self._arrived(stream is not None and stream.keep_alive)
