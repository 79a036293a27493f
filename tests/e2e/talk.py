"""HTTP without an SDK: plain requests, and streams on bare sockets that a test can cut wherever it likes."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

TIMEOUT_S = 20.0
DialectName = Literal["openai_chat", "anthropic"]


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What a bare client must know of a dialect."""

    name: DialectName
    path: str
    key_header: str
    key_prefix: str
    headers: dict[str, str]
    request_id: str
    body: dict[str, Any]

    def authorize(self, key: str) -> dict[str, str]:
        return {**self.headers, self.key_header: self.key_prefix + key}

    def ask(self, text: str, **changes: Any) -> dict[str, Any]:
        return {**self.body, "messages": [{"role": "user", "content": text}], **changes}


OPENAI = Dialect(
    name="openai_chat",
    path="/v1/chat/completions",
    key_header="authorization",
    key_prefix="Bearer ",
    headers={"content-type": "application/json"},
    request_id="x-request-id",
    body={"model": "demo"},
)
ANTHROPIC = Dialect(
    name="anthropic",
    path="/v1/messages",
    key_header="x-api-key",
    key_prefix="",
    headers={"content-type": "application/json", "anthropic-version": "2023-06-01"},
    request_id="request-id",
    body={"model": "demo", "max_tokens": 1000},
)
DIALECTS = (OPENAI, ANTHROPIC)


def ask(port: int, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
    """`body`: bytes as they are, an iterator of bytes in chunks, anything else as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    data = body if body is None or isinstance(body, (bytes, Iterator)) else json.dumps(body).encode()
    try:
        connection.request(method, path, data, dict(headers or {}), encode_chunked=isinstance(data, Iterator))
        reply = connection.getresponse()
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


class RawStream:
    """A streamed answer on a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @classmethod
    async def open(cls, port: int, dialect: Dialect, key: str, text: str, **changes: Any) -> "RawStream":
        """Send a request for a stream and read the head of its answer."""
        stream = cls(*await asyncio.open_connection("127.0.0.1", port))
        body = json.dumps(dialect.ask(text, stream=True, **changes)).encode()
        headers = {"host": "gateway", "content-length": str(len(body)), **dialect.authorize(key)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        stream._writer.write(f"POST {dialect.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await stream._read_head()
        return stream

    async def read_events(self, count: int) -> None:
        """Read until this many events have come, counting from the stream's beginning."""
        while self.body.count(b"data: ") < count:
            piece = await self._reader.read(65_536)
            assert piece, f"ended after {self.body!r}"
            self.body += piece

    async def read_all(self) -> bytes:
        """Read to the end; the last chunk must have come."""
        while not self.body.endswith(b"\r\n0\r\n\r\n"):
            piece = await self._reader.read(65_536)
            assert piece, f"ended without its last chunk: {self.body[-300:]!r}"
            self.body += piece
        return self.body

    async def read_until_cut(self) -> bytes:
        """Read what comes until the connection is gone, however it goes."""
        with contextlib.suppress(ConnectionError):
            while piece := await self._reader.read(65_536):
                self.body += piece
        return self.body

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # the other side was faster
            await self._writer.wait_closed()

    async def _read_head(self) -> None:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        pairs = (line.partition(": ") for line in head[1:] if line)
        self.headers = {name.lower(): value for name, _, value in pairs}
