"""The real gateway inside a test's loop, a provider scripted request by request, and a client that speaks raw HTTP."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from trollproxy.app import Gateway
from trollproxy.config import load
from trollproxy.control.first_start import ADMIN, welcome
from trollproxy.records import Charge
from trollproxy.store.sqlite import SqliteStore


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error_code(self) -> str:
        code: str = json.loads(self.body)["error"]["code"]
        return code


class Line:
    """A connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, as far as a loopback lets one have it."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(5):
                await asyncio.sleep(0)

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        status = int(head[0].split(" ")[1])
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = b"" if status < 200 else await self.reader.read()
        return Answer(status, headers, body)

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def is_closed(self) -> bool:
        """Whether the gateway has closed, or does before long."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(5):
                return await self.reader.read(1) == b""
        return False

    def close(self) -> None:
        self.writer.close()


class Live:
    """A gateway that serves, with the key of its first start."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.gateway, self.key = gateway, key
        self.port = gateway.ports[0]
        self.is_drained = False

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        line = Line(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            yield line
        finally:
            line.close()

    def request(self, *, key: str | None = None, more: str = "", **members: Any) -> bytes:
        """A chat request, bytes and all."""
        body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hi"}], **members}).encode()
        return self.head(len(body), key=key, more=more) + body

    def head(self, length: int | None, *, key: str | None = None, more: str = "", version: str = "1.1") -> bytes:
        lines = [f"POST /v1/chat/completions HTTP/{version}", "host: x", f"authorization: Bearer {key or self.key}"]
        framing = [f"content-length: {length}"] if length is not None else []
        return "\r\n".join([*lines, *framing, *more.splitlines(), "", ""]).encode()

    async def ask(self, data: bytes) -> Answer:
        async with self.line() as line:
            await line.send(data)
            return await line.answer()

    async def drain(self) -> None:
        self.is_drained = True
        await self.gateway.drain()

    async def books(self) -> tuple[list[Charge], int]:
        """After a drain: the administrator's charges and what is left of the wallet."""
        await self.drain()
        store = SqliteStore(self.gateway.data_dir.database)
        await store.open()
        [user] = await store.read_users([ADMIN])
        charges = await store.list_charges(ADMIN, limit=10_000)
        assert await store.sum_ledger(ADMIN, "legacy") == user.credits_nusd
        await store.close()
        return charges, user.credits_nusd


@asynccontextmanager
async def live(folder: Path, **config: Any) -> AsyncIterator[Live]:
    """A gateway on a port of its own, with the scripted demo provider behind the model `demo`."""
    path = folder / "config.json"
    defaults = {"host": "127.0.0.1", "port": 0, "dataDir": str(folder / "data"), "drainTimeout": "1s"}
    path.write_text(json.dumps(defaults | config))
    settings = load(str(path), {}, {})
    gateway = Gateway(settings, read_settings=lambda: settings)
    await gateway.open()
    found = await welcome(gateway.store, gateway.office(), wallets=gateway.wallets, random_bytes=os.urandom)
    assert found is not None
    await gateway.listen()
    running = Live(gateway, found.secret)
    try:
        yield running
    finally:
        if not running.is_drained:
            await running.drain()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def provider(script: Script) -> AsyncIterator[dict[str, Any]]:
    """A provider that runs `script` for every request; yields the part of a configuration that leads to it."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(size[15:]))
                await script(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pricing = {"input": 0, "output": 1000}
    try:
        yield {
            "upstreams": {"main": {"baseUrl": f"http://127.0.0.1:{port}", "apiKey": "k"}},
            "models": [{"id": "m", "upstream": "main", "pricing": pricing}],
        }
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
