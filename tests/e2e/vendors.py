"""An upstream that plays what a test tells it, in any vendor's format, and remembers what it was asked.

It runs on a loop of its own in a thread, so that tests may drive it with blocking SDKs. Every answer is given byte for
byte; `native.py` writes them as the vendors do.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

EVENT_STREAM = "text/event-stream"
WITHIN_S = 20.0


@dataclass(frozen=True)
class Played:
    """One answer. A stream's pieces are sent one by one; `holds_s` is how long it is silent before each of `at`."""

    pieces: tuple[bytes, ...]
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    silences: Mapping[int, float] = field(default_factory=dict)  # before which piece it is silent, for how many seconds
    is_cut: bool = False  # the connection is reset after the last piece


@dataclass(frozen=True)
class Seen:
    """One request, as the vendor got it."""

    path: str  # with its query
    headers: Mapping[str, str]  # names in lower case
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


def whole(body: object, *, status: int = 200, **headers: str) -> Played:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Played((json.dumps(body).encode(),), status=status, headers=named)


def streamed(*events: bytes, silences: Mapping[int, float] | None = None, is_cut: bool = False) -> Played:
    return Played(events, content_type=EVENT_STREAM, silences=silences or {}, is_cut=is_cut)


class Vendors:
    """All vendors behind one port; which one is asked is told by the path."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.port = 0
        self._answers: deque[Played] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vendors", daemon=True)
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def play(self, *answers: Played) -> None:
        """What the next requests get, one each."""
        self._answers.extend(answers)

    def reset(self) -> None:
        self.seen.clear()
        self._answers.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(WITHIN_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._runner is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(WITHIN_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()

    async def _open(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.path_qs, headers, await request.read()))
        if not self._answers:
            return web.Response(status=599, text="the test has no answer for this request")
        return await _give(request, self._answers.popleft())


async def _give(request: web.BaseRequest, played: Played) -> web.StreamResponse:
    headers = {"content-type": played.content_type, **played.headers}
    if played.content_type != EVENT_STREAM:
        return web.Response(status=played.status, body=b"".join(played.pieces), headers=headers)
    response = web.StreamResponse(status=played.status, headers=headers)
    await response.prepare(request)
    for place, piece in enumerate(played.pieces):
        await asyncio.sleep(played.silences.get(place, 0.0))
        await response.write(piece)
    if played.is_cut and request.transport is not None:
        request.transport.abort()
    return response
