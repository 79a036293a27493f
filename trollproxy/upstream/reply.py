"""A provider's answer while it arrives, between the connection that fills it and whoever reads it.

Synchronous at heart: `on_progress`, `take` and the flags can be driven from callbacks; the coroutines are a thin layer
over them. Whoever was given a reply reads it to its end or closes it. Must not know: HTTP, sockets, pools.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from trollproxy.errors import GatewayError, UpstreamBroken
from trollproxy.ports import UpstreamReply
from trollproxy.upstream.signal import Signal


class Source(Protocol):
    """The connection, as far as its reply needs it."""

    is_reading_paused: bool

    def resume(self) -> None:
        """The reader has taken what was buffered."""

    def drop(self) -> None: ...


class Reply(UpstreamReply):
    """A provider's answer (`ports.UpstreamReply`). `on_progress` is called when a head, a piece or the end has come."""

    __slots__ = (
        "_pieces",
        "_waiter",
        "buffered_bytes",
        "connection",
        "error",
        "has_head",
        "headers",
        "is_complete",
        "is_resendable",
        "on_progress",
        "status",
    )

    def __init__(self, connection: Source) -> None:
        self.connection: Source | None = connection  # None once nothing more can arrive
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.has_head = False
        self.is_complete = False  # all has arrived; pieces may still wait to be taken
        self.is_resendable = False  # the reused connection had died: the request may be sent once more
        self.error: GatewayError | None = None
        self.buffered_bytes = 0
        self.on_progress: Callable[[], None] | None = None
        self._pieces: list[bytes] = []
        self._waiter: Signal | None = None

    def take(self) -> bytes:
        """All that is buffered, without waiting; b"" says nothing about the end."""
        pieces = self._pieces
        if not pieces:
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.buffered_bytes = 0
        if self.connection is not None and self.connection.is_reading_paused:
            self.connection.resume()
        return data

    async def read(self) -> bytes:
        while not self._pieces:
            if self.is_complete:
                return b""
            if self.error is not None:
                raise self.error
            await self._wait()
        return self.take()

    async def each(self, take: Callable[[bytes], bool]) -> bool:
        assert self.on_progress is None, "two read one reply"
        taking = _Taking(self, take, asyncio.get_running_loop())
        self.on_progress = taking.go_on
        try:
            taking.go_on()
            await taking.ended
        finally:
            self.on_progress = None
        if taking.failed is not None:
            raise taking.failed
        if taking.is_taking and self.error is not None:
            raise self.error
        return taking.is_taking

    async def read_all(self, limit: int) -> bytes:
        if self.is_complete and self.buffered_bytes <= limit:
            return self.take()
        pieces: list[bytes] = []
        total = 0
        while piece := await self.read():
            total += len(piece)
            if total > limit:
                self.close()
                raise UpstreamBroken("The provider's answer is longer than the gateway accepts.")
            pieces.append(piece)
        return b"".join(pieces)

    async def wait_for_head(self) -> None:
        try:
            while not self.has_head and self.error is None:
                waiter = self._waiter = Signal(asyncio.get_running_loop())
                await waiter
        except asyncio.CancelledError:
            self._waiter = None
            self.close()
            raise
        if self.error is not None and not self.has_head:
            raise self.error

    def close(self) -> None:
        self._pieces.clear()
        self.buffered_bytes = 0
        if self.connection is not None:
            self.connection.drop()
            self.finish(UpstreamBroken("The answer was given up before its end."))

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.has_head = True

    def push(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.buffered_bytes += len(piece)

    def finish(self, error: GatewayError | None = None) -> None:
        self.connection = None
        self.error = error
        self.is_complete = error is None
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            waiter.fire()
        if self.on_progress is not None:
            self.on_progress()

    async def _wait(self) -> None:
        assert self._waiter is None, "two tasks read one reply"
        waiter = self._waiter = Signal(asyncio.get_running_loop())
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiter = None
            raise


class _Taking:
    """Gives the pieces of a reply to who takes them, in the very callback that they arrive in."""

    __slots__ = ("_reply", "_take", "ended", "failed", "is_taking")

    def __init__(self, reply: Reply, take: Callable[[bytes], bool], loop: asyncio.AbstractEventLoop) -> None:
        self._reply = reply
        self._take = take
        self.ended = Signal(loop)
        self.is_taking = True
        self.failed: Exception | None = None

    def go_on(self) -> None:
        reply = self._reply
        try:
            if reply.buffered_bytes:
                self.is_taking = self._take(reply.take())
        except Exception as error:  # noqa: BLE001 - it is the waiting coroutine's, which raises it
            self.is_taking, self.failed = False, error
        if not self.is_taking or reply.is_complete or reply.error is not None:
            reply.on_progress = None
            self.ended.fire()
