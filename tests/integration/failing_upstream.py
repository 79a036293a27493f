"""Providers that fail on command, all of them behind one port, each under a path of its own; and who asked them.

A provider's script is a list of acts that is played for every request to it: bytes are sent as they are, a number is a
silence in seconds, a word is how the connection ends. Every answer is HTTP written by hand, so that it can be wrong.
"""

import asyncio
import json
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tests.e2e.native import Said, Vendor, events

# Bytes to send, seconds of silence, or a word. close, reset: the connection ends. hang: nothing more comes, until the
# other side ends it. relayed: wait until the client has some of it.
Act = bytes | float | str
Acts = Sequence[Act]

JSON, SSE, HTML = "application/json", "text/event-stream", "text/html"
END = b"0\r\n\r\n"
SAID = Said(text="Hello from the provider.")
_BEGINNINGS: dict[Vendor, int] = {"openai": 1, "responses": 4, "anthropic": 3, "gemini": 0}
_ENDINGS: dict[Vendor, int] = {"openai": 3, "responses": 5, "anthropic": 3, "gemini": 1}
_PATH = re.compile(rb"POST /([\w.-]+)/")
_MODEL = re.compile(rb"(?:alone|backed|kept)-\d+(?!.*(?:alone|backed|kept)-\d)", re.DOTALL)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_KEY = re.compile(rb"\r\n(?:authorization: Bearer|x-api-key:|x-goog-api-key:) (\S+)\r\n", re.IGNORECASE)


def head(status: int = 200, kind: str = JSON, *more: str, length: int | None = None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", f"content-type: {kind}", framing, *more, "", ""]).encode()


def whole(body: object, status: int = 200, kind: str = JSON, *more: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head(status, kind, *more, length=len(data)) + data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def begun(vendor: Vendor) -> list[bytes]:
    """What a stream sends before its first token."""
    return [chunk(event) for event in events(vendor, SAID)[: _BEGINNINGS[vendor]]]


def speaking(vendor: Vendor) -> list[bytes]:
    """A stream up to its first token."""
    return [chunk(event) for event in events(vendor, SAID)[: _BEGINNINGS[vendor] + 1]]


def nearly(vendor: Vendor) -> list[bytes]:
    """A stream without its last event."""
    return [chunk(event) for event in events(vendor, SAID)[:-1]]


def spoken(vendor: Vendor) -> list[bytes]:
    """A stream with all of its tokens and nothing of its ending."""
    return [chunk(event) for event in events(vendor, SAID)[: -_ENDINGS[vendor]]]


def complete(vendor: Vendor) -> list[bytes]:
    return [chunk(event) for event in events(vendor, SAID)]


class Asked(NamedTuple):
    """One request as a provider got it."""

    model: str
    provider: str
    key: str


class FailingUpstreams:
    """`scripts` by provider; `asked` in order; `relayed`, by model, is set by whoever reads the client's side.

    The model's name is the request's own: a provider is found by its path, and who asked by the model.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, Acts] = {}
        self.then: dict[str, Acts] = {}  # from the request after the next on
        self.asked: list[Asked] = []
        self.relayed: dict[str, asyncio.Event] = {}
        self.peers: set[tuple[str, int]] = set()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def url(self, provider: str) -> str:
        """Each has an address of its own, so that none is asked over a connection that another has left."""
        place = list(self.scripts).index(provider)
        return f"http://127.1.{place // 250}.{place % 250 + 1}:{self.port}/{provider}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "0.0.0.0", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.peers.add(writer.get_extra_info("peername")[:2])
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Play one request's script; whether the connection may carry another."""
        asked = await reader.readuntil(b"\r\n\r\n")
        path, key, length = _PATH.search(asked), _KEY.search(asked), _LENGTH.search(asked)
        assert path is not None
        assert key is not None
        assert length is not None
        body = await reader.readexactly(int(length[1]))
        provider, model = path[1].decode(), _MODEL.search(asked + body)
        assert model is not None
        self.asked.append(Asked(model[0].decode(), provider, key[1].decode()))
        acts = self.scripts[provider]
        if provider in self.then:
            self.scripts[provider] = self.then.pop(provider)
        for act in acts:
            if act == "relayed":
                await self.relayed[model[0].decode()].wait()
            elif not await self._play(act, reader, writer):
                return False
        return True

    async def _play(self, act: Act, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        match act:
            case bytes():
                writer.write(act)
                await writer.drain()
            case "hang":
                await reader.read()
                return False
            case "reset":
                _reset(writer)
                return False
            case "close":
                return False
            case float():
                await asyncio.sleep(act)
            case _:
                raise AssertionError(act)
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of which it is sure that nobody listens there: it is bound and that is all."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def clogged_port() -> Iterator[int]:
    """A port that takes no connection: whoever knocks hears nothing. The kernel lets two into a queue of none."""
    with socket.socket() as bound, socket.socket() as first, socket.socket() as second:
        bound.bind(("127.0.0.1", 0))
        bound.listen(0)
        for one in (first, second):
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(bound.getsockname())
        yield bound.getsockname()[1]
