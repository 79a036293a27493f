"""A TCP proxy that breaks: it stands between the gateway and its database and is switched from fault to fault.

    with Chaos(mongod.port) as chaos:
        uri = f"mongodb://127.0.0.1:{chaos.port}/books?directConnection=true"
        with chaos.failing("half_open"):
            ...

It runs in a thread of its own, so a test may block. Each direction holds at most one piece of CHUNK bytes and what the
streams allow; a side that does not read holds up the other. Randomness comes from the seed that is given.
"""

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Literal, Self

Fault = Literal["refuse", "reset", "half_open", "delay", "drop_reply", "cut"]
FAULTS: tuple[Fault, ...] = ("refuse", "reset", "half_open", "delay", "drop_reply", "cut")

CHUNK = 16 * 1024
HIGH_WATER = 64 * 1024
MAX_DELAY_S = 0.05
ANSWER_WITHIN_S = 10.0
# How a command that changes something begins, in an OP_MSG's first document: a string of the command's name.
WRITES = (b"\x02insert\x00", b"\x02update\x00")


class Link:
    """One client's connection and ours to the server."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.has_written = False  # the client's last command changes something

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Chaos:
    """`port` is where clients connect; `struck` counts what a fault did to them."""

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.port = 0
        self.fault: Fault | None = None
        self.struck = 0
        self._target = target
        self._random = random.Random(seed)
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._listening: asyncio.Server | None = None
        self._lifted = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos")

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_WITHIN_S)
        self._loop.close()

    def switch(self, fault: Fault | None) -> None:
        """Break in this way from now on; None: work, on new connections where the old ones are spoilt."""
        self._wait(self._switch(fault))

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self.switch(fault)
        try:
            yield
        finally:
            self.switch(None)

    def _wait(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_WITHIN_S)

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _switch(self, fault: Fault | None) -> None:
        before, self.fault = self.fault, fault
        if fault in {"refuse", "reset"} or before == "half_open":
            await self._abort_all()
        if fault == "refuse" and self._listening is not None:
            self._listening.close()
            self._listening = None
        elif self._listening is None:
            await self._listen()
        if before == "half_open":
            self._lifted.set()
        if fault == "half_open":
            self._lifted = asyncio.Event()

    async def _close(self) -> None:
        self._lifted.set()
        if self._listening is not None:
            self._listening.close()
        await self._abort_all()

    async def _abort_all(self) -> None:
        tasks = list(self._links.values())
        for link in self._links:
            link.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = Link(writer)
        self._links[link] = task
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(link, reader)
        finally:
            link.abort()
            del self._links[link]

    async def _carry(self, link: Link, reader: asyncio.StreamReader) -> None:
        if self.fault == "reset":
            self.struck += 1
            return
        if self.fault == "half_open":
            self.struck += 1
            await self._lifted.wait()
            return
        answers, server = await asyncio.open_connection("127.0.0.1", self._target, limit=CHUNK)
        link.writers.append(server)
        for writer in link.writers:
            writer.transport.set_write_buffer_limits(high=HIGH_WATER)
        ways = [
            asyncio.ensure_future(self._pump(link, reader, is_reply=False)),
            asyncio.ensure_future(self._pump(link, answers, is_reply=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, link: Link, reader: asyncio.StreamReader, *, is_reply: bool) -> None:
        writer = link.writers[not is_reply]
        while data := await reader.read(CHUNK):
            if not is_reply:
                link.has_written = any(command in data for command in WRITES)
            passed = await self._break(link, data, is_reply=is_reply)
            writer.write(data[:passed])
            await writer.drain()
            if passed < len(data):
                return

    async def _break(self, link: Link, data: bytes, *, is_reply: bool) -> int:
        """How much of a piece passes; where that is not all of it, the connection is reset behind it."""
        fault = self.fault
        if fault == "delay":
            self.struck += 1
            await asyncio.sleep(self._random.random() * MAX_DELAY_S)
        elif fault == "half_open":
            self.struck += 1
            await self._lifted.wait()
            return 0
        elif fault == "cut":
            self.struck += 1
            return self._random.randrange(len(data))
        elif fault == "drop_reply" and is_reply and link.has_written:
            self.struck += 1
            return 0
        return len(data)
