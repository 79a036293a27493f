"""A provider that answers as planned but for some calls, which fail: by the rate that stands in the path.

It speaks the format that it is asked in, whatever the client's is. What fails, fails before the first token.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Literal, Self

import msgspec

from tests.faults.plans import Plan
from tests.faults.provider import pieces

Ending = Literal["keep", "close", "reset", "hang"]
Broken = tuple[bytes, Ending]

_ASK = re.compile(rb"POST /(\d+)/\S*(messages|completions) HTTP")
_LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
_PAGE = b"<html>Bad gateway</html>"
THINKS_S = 0.02  # at most, before it says anything, also that it fails
HANGS, THROTTLES = 0.05, 0.02  # shares of the failures


def _refused(status: int, kind: str) -> Broken:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "scripted"}}).encode()
    return _whole(status, body, "application/json"), "keep"


def _whole(status: int, body: bytes, kind: str) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        kind.encode(),
        len(body),
        body,
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_KINDS: tuple[Broken, ...] = (
    _refused(500, "api_error"),
    _refused(502, "api_error"),
    _refused(503, "overloaded_error"),
    _refused(529, "overloaded_error"),
    (_whole(200, _PAGE, "text/html"), "keep"),
    (_whole(200, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', "application/json"), "keep"),
    (_whole(200, b'{"choices":[{"mess', "application/json"), "keep"),
    (b"", "close"),
    (b"", "reset"),
    (_STREAM[:40], "close"),
    (_STREAM, "reset"),
    (_STREAM + _chunk(_OVERLOADED) + b"0\r\n\r\n", "keep"),
    (_STREAM + _chunk(b": hello\n\n"), "close"),
    (_STREAM + b"0\r\n\r\n", "keep"),
)
_THROTTLED = _refused(429, "rate_limit_error")


class FlakyProvider:
    """Serves on a free port of the loopback. `seen` counts the tries of each marker, `peers` is who connected."""

    def __init__(self, plans: Mapping[str, Plan], rng: Random) -> None:
        self._plans = plans
        self._rng = rng
        self.seen: Counter[str] = Counter()
        self.peers: set[tuple[str, int]] = set()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.peers.add(writer.get_extra_info("peername")[:2])
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway hung up
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        asked, length = _ASK.search(head), _LENGTH.search(head)
        assert asked is not None
        assert length is not None
        plan = self._plans[json.loads(await reader.readexactly(int(length[1])))["model"]]
        self.seen[plan.marker] += 1
        await asyncio.sleep(self._rng.random() * THINKS_S)
        if self._rng.random() < int(asked[1]) / 100:
            return await self._fail(reader, writer)
        spoken: Any = "anthropic" if asked[2] == b"messages" else "openai_chat"
        for piece in pieces(msgspec.structs.replace(plan, dialect=spoken)):
            if writer.is_closing():
                return False  # the gateway hung up, or its proxy died; uvloop takes nothing more
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(plan.pause_s)
        return True

    async def _fail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        drawn = self._rng.random()
        if drawn < HANGS:
            await reader.read()
            return False
        if writer.is_closing():
            return False
        said, ending = _THROTTLED if drawn < HANGS + THROTTLES else self._rng.choice(_KINDS)
        writer.write(said)
        await writer.drain()
        end: dict[Ending, Callable[[], object]] = {"reset": writer.transport.abort}
        end.get(ending, lambda: None)()
        return ending == "keep"
