"""The client's side of an exchange on an aiohttp connection: ready bytes to the transport, no response object.

Implements `ports.ClientStream`. One answer per object; whoever starts a streamed answer and does not end it leaves the
client with a visibly truncated one, and the connection is closed.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpVersion11

from trollproxy.outbox import Outbox
from trollproxy.ports import ClientStream

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request", 529: "Overloaded"}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n" for status, reason in _REASONS.items()}
_CLOSE = "connection: close\r\n"


class TransportStream(ClientStream):
    """Writes one answer."""

    __slots__ = (
        "_body",
        "_is_chunked",
        "_is_ended",
        "_keep_alive",
        "_outbox",
        "_protocol",
        "_transport",
        "_when_gone",
        "is_started",
        "status",
    )

    def __init__(self, protocol: BaseProtocol, outbox: Outbox, *, keep_alive: bool, is_chunked: bool = True) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._outbox = outbox
        self._body: StreamReader | None = None
        self._is_chunked = is_chunked
        self._keep_alive = keep_alive
        self._is_ended = False
        self._when_gone: Callable[[], object] | None = None
        self.is_started = False
        self.status = 0  # of the answer, once it has begun

    @classmethod
    def to(cls, request: web.BaseRequest, outbox: Outbox, *, keep_alive: bool) -> "TransportStream":
        """The answer to a request of aiohttp's, whose body may still be on its way."""
        keep_alive = keep_alive and request.keep_alive
        stream = cls(request.protocol, outbox, keep_alive=keep_alive, is_chunked=request.version >= HttpVersion11)
        stream._body = request.content
        return stream

    @property
    def is_gone(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def is_full(self) -> bool:
        return self._protocol.writing_paused

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow on the connection: only after a complete answer."""
        return self._keep_alive and self._is_ended

    def when_gone(self, call: Callable[[], object] | None) -> None:
        self._when_gone = call
        if call is not None and self.is_gone:
            call()

    def lost(self) -> None:
        """The connection is gone; said by the connection."""
        if self._when_gone is not None:
            self._when_gone()

    def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self._begin(status, headers, framing=f"content-length: {len(body)}\r\n", body=body)
        self._is_ended = True

    def start(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        if self._is_chunked:
            self._begin(status, headers, framing="transfer-encoding: chunked\r\n")
        else:
            self._keep_alive = False  # HTTP/1.0 knows the end of a stream by the end of the connection
            self._begin(status, headers, framing="")

    def write(self, data: bytes) -> None:
        transport = self._transport
        assert self.is_started
        assert not self._is_ended
        if transport is not None and not transport.is_closing():
            self._outbox.send(transport, b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def drain(self) -> None:
        if self._protocol.writing_paused and not self.is_gone:
            with suppress(ConnectionError):  # gone while we waited: `when_gone` says so
                await self._protocol._drain_helper()  # noqa: SLF001 - aiohttp's only wait for a writable transport

    def end(self) -> None:
        assert self.is_started
        if self._is_chunked:
            self._put(b"0\r\n\r\n")
        self._is_ended = True

    def _begin(self, status: int, headers: Sequence[tuple[str, str]], *, framing: str, body: bytes = b"") -> None:
        assert not self.is_started, "an answer begins once"
        self.is_started = True
        self.status = status
        if self._body is not None and not self._body.is_eof():
            self._keep_alive = False  # answered before the request was whole: what follows cannot be told from its rest
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if not lines.count("\n") == len(headers) == lines.count("\r"):
            raise AssertionError("a header value with a line break is our bug")
        status_line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"
        head = f"{status_line}{lines}{framing}{'' if self._keep_alive else _CLOSE}\r\n"
        self._put(head.encode("latin-1", "replace") + body)

    def _put(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._outbox.send(self._transport, data)


class Written(web.StreamResponse):
    """What aiohttp gets back from our handler: an answer that is already on the wire."""

    def __init__(self, stream: TransportStream) -> None:
        super().__init__()
        self._stream = stream

    @property
    def keep_alive(self) -> bool | None:
        return self._stream.keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - already sent
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        assert not data
