"""Outbound proxies on loopback, HTTP CONNECT and SOCKS5, that can fail in any way at any step of their handshake."""

import asyncio
import base64
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal, NamedTuple, cast

from trollproxy.records import OutboundProxy

Kind = Literal["http", "socks5"]
Phase = Literal["accepted", "greeted", "login", "asked", "answering", "opened"]
Act = Literal["stall", "close", "half_close", "reset", "noise"]

PHASES: dict[Kind, tuple[Phase, ...]] = {
    "http": ("accepted", "asked", "answering", "opened"),
    "socks5": ("accepted", "greeted", "login", "asked", "answering", "opened"),
}
GRANTED: dict[Kind, bytes] = {
    "http": b"HTTP/1.1 200 Connection established\r\nvia: 1.1 here\r\n\r\n",
    "socks5": b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38",
}
UNREACHED: dict[Kind, bytes] = {"http": b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "socks5": b"\x05\x05\x00\x01" + bytes(6)}


class Fault(NamedTuple):
    """What to do once the handshake has come this far. `answering`: half of the last answer was sent."""

    phase: Phase
    act: Act


class _Ended(Exception):
    """The fault has been played."""


class ByteProxy:
    """`ways` are the addresses from which it reached providers; nobody else may be seen there."""

    def __init__(self, kind: Kind, *, username: str | None = None, password: str | None = None) -> None:
        self.kind = kind
        self.username = username
        self.password = password
        self.fault: Fault | None = None
        self.names: dict[str, str] = {}  # its DNS
        self.accepted = 0
        self.asked: list[tuple[str, int]] = []
        self.ways: list[tuple[str, int]] = []
        self.relayed = bytearray()  # what clients sent through
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    def record(self, proxy_id: str = "p", **changes: str | None) -> OutboundProxy:
        credentials = {"username": self.username, "password": self.password} | changes
        return OutboundProxy(proxy_id=proxy_id, kind=self.kind, host="127.0.0.1", port=self.port, **credentials)

    async def listen(self) -> None:
        """On a free port; after a kill, on the same again."""
        self._listener = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """As a process that dies: nothing is flushed, nobody is told."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self.tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        self._writers.add(writer)
        try:
            await self._at("accepted", reader, writer)
            ask = self._read_socks5 if self.kind == "socks5" else self._read_connect
            host, port = await ask(reader, writer)
            self.asked.append((host, port))
            await self._at("asked", reader, writer)
            await self._open(reader, writer, (self.names.get(host, host), port))
        except (_Ended, ConnectionError, asyncio.IncompleteReadError):
            pass
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.failures.append(error)
        finally:
            await _close(writer)
            self._writers.discard(writer)

    async def _at(self, phase: Phase, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault is None or self.fault.phase != phase:
            return
        match self.fault.act:
            case "half_close":
                writer.write_eof()
            case "reset":
                writer.transport.abort()
            case "noise":
                writer.write(b"\x00noise\r\n\r\n")
        if self.fault.act not in {"close", "reset"}:
            with suppress(ConnectionError):
                while await reader.read(1 << 16):
                    pass
        raise _Ended

    async def _read_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        head = await reader.readuntil(b"\r\n\r\n")
        request, *fields = head.decode().split("\r\n")
        method, authority, version = request.split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        assert f"Host: {authority}" in fields
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        if self.username is not None and f"Proxy-Authorization: Basic {pair}" not in fields:
            await _refuse(
                writer, b'HTTP/1.1 407 No\r\nproxy-authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n'
            )
        host, _, port = authority.rpartition(":")
        return host.strip("[]"), int(port)

    async def _read_socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
        version, count = await reader.readexactly(2)
        assert version == 5
        methods = await reader.readexactly(count)
        await self._at("greeted", reader, writer)
        if self.username is None:
            writer.write(b"\x05\x00")
            await self._at("login", reader, writer)
        else:
            await self._log_in(reader, writer, methods)
        assert await reader.readexactly(3) == b"\x05\x01\x00"
        match (await reader.readexactly(1))[0]:
            case 1:
                host = str(ipaddress.IPv4Address(await reader.readexactly(4)))
            case 3:
                host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            case kind:
                raise AssertionError(kind)
        return host, int.from_bytes(await reader.readexactly(2), "big")

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, methods: bytes) -> None:
        if 2 not in methods:
            await _refuse(writer, b"\x05\xff")
        writer.write(b"\x05\x02")
        assert await reader.readexactly(1) == b"\x01"
        given = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
        await self._at("login", reader, writer)
        if given != [self.username, self.password]:
            await _refuse(writer, b"\x01\x01")
        writer.write(b"\x01\x00")

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> None:
        try:
            back, forth = await asyncio.open_connection(*target)
        except OSError:
            await _refuse(writer, UNREACHED[self.kind])
        self._writers.add(forth)
        self.ways.append(forth.get_extra_info("sockname")[:2])
        try:
            granted = GRANTED[self.kind]
            writer.write(granted[: len(granted) // 2])
            await self._at("answering", reader, writer)
            writer.write(granted[len(granted) // 2 :])
            await self._at("opened", reader, writer)
            await self._relay((reader, writer), (back, forth))
        finally:
            await _close(forth)
            self._writers.discard(forth)

    async def _relay(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        provider: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        pumps = [
            asyncio.ensure_future(_pump(client[0], provider[1], self.relayed)),
            asyncio.ensure_future(_pump(provider[0], client[1], bytearray())),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            record += data
            writer.write(data)
            await writer.drain()


async def _refuse(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer)
    await writer.drain()
    raise _Ended


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def proxying(*proxies: ByteProxy) -> AsyncIterator[None]:
    """Enter it before the client opens and leave it after it closed: proxies end with their connections."""
    for proxy in proxies:
        await proxy.listen()
    try:
        yield
    finally:
        for proxy in proxies:
            await proxy.kill()
    assert [failure for proxy in proxies for failure in proxy.failures] == []
