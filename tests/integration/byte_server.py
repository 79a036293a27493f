"""A server on loopback that is scripted byte by byte, and a client to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from trollproxy.ports import UpstreamCall
from trollproxy.records import Endpoint, Timeouts
from trollproxy.upstream.client import Client, OriginStats, PoolLimits

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
SOON = Timeouts(connect_s=0.2, first_byte_s=0.2, idle_s=0.2)
LONG = Timeouts(connect_s=20, first_byte_s=20, idle_s=20)
HEADERS = (("content-type", "application/json"), ("authorization", "Bearer k"))


class Peer:
    """One accepted connection, as a script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number  # counted from 1

    async def request(self) -> bytes | None:
        """The next request's body, or None when the client has hung up."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        return await self.reader.readexactly(int(length[16:]))

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def gone(self) -> None:
        """Return when the client has closed."""
        with suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass


Script = Callable[[Peer], Awaitable[None]]


class Server:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.accepted = 0
        self.port = 0
        self.peers: list[tuple[str, int]] = []  # who connected, in order
        self.failures: list[BaseException] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.peers.append(writer.get_extra_info("peername")[:2])
        self.tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            await self.script(Peer(reader, writer, self.accepted))
        except ConnectionError:
            pass
        except Exception as error:  # noqa: BLE001 - shown by the test that owns the script
            self.failures.append(error)
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    def call(
        self, body: bytes = b"{}", *, timeouts: Timeouts = LONG, tls: bool = False, host: str = "127.0.0.1"
    ) -> UpstreamCall:
        endpoint = Endpoint(host=host, port=self.port, tls=tls, path="/v1/messages")
        return UpstreamCall(endpoint=endpoint, headers=HEADERS, body=body, timeouts=timeouts)


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[Server, Client]]:
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    limits = PoolLimits(**{name: options.pop(name) for name in PoolLimits._fields if name in options})
    client = Client(limits=limits, **options)
    try:
        yield server, client
    finally:
        await client.close()
        listener.close()
        await listener.wait_closed()
        await asyncio.gather(*server.tasks)  # they end on the client's close; no transport may outlive the loop
    assert server.failures == []


async def echo(peer: Peer) -> None:
    while (body := await peer.request()) is not None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def stats(client: Client) -> OriginStats:
    return next(iter(client.stats().values()))
