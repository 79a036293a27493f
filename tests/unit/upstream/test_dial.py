"""The moment between a proxy's handshake and the first request, which real sockets do not hold still."""

import asyncio
from typing import cast

import pytest

from tests.aio import run
from trollproxy.errors import GatewayError, ProxyFailed
from trollproxy.records import OutboundProxy
from trollproxy.upstream.connection import Connection
from trollproxy.upstream.dial import _Opening
from trollproxy.upstream.tunnel import Handshake

PROXY = OutboundProxy(proxy_id="p", kind="http", host="h", port=1)
GRANTED = b"HTTP/1.1 200 OK\r\n\r\n"


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.protocol: object = None

    def write(self, data: bytes) -> None:
        self.written += data

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol


class FakeConnection:
    def __init__(self) -> None:
        self.transport: object = None

    def connection_made(self, transport: object) -> None:
        self.transport = transport


def opening() -> tuple[_Opening, asyncio.Transport]:
    transport = cast(asyncio.Transport, FakeTransport())
    found = _Opening(Handshake(PROXY, "provider", 443), asyncio.get_running_loop())
    found.connection_made(transport)
    return found, transport


def test_the_connection_takes_over() -> None:
    async def scenario() -> None:
        found, transport = opening()
        found.data_received(GRANTED)
        await found.opened
        connection = cast(Connection, FakeConnection())
        assert found.hand_over(transport, connection) is connection
        assert cast(FakeTransport, transport).protocol is connection
        assert cast(FakeConnection, connection).transport is transport

    run(scenario())


@pytest.mark.parametrize("what", ["data", "eof", "lost"])
def test_what_comes_too_early_spoils_the_tunnel(what: str) -> None:
    async def scenario() -> None:
        found, transport = opening()
        found.data_received(GRANTED)
        match what:
            case "data":
                found.data_received(b"x")
            case "eof":
                found.eof_received()
            case _:
                found.connection_lost(None)
        await found.opened
        with pytest.raises(GatewayError) as caught:
            found.hand_over(transport, cast(Connection, FakeConnection()))
        assert caught.value.retry == "other_proxy"

    run(scenario())


def test_a_failure_is_told_once() -> None:
    async def scenario() -> None:
        found, _ = opening()
        cause = ConnectionResetError()
        found.connection_lost(cause)
        found.eof_received()
        with pytest.raises(ProxyFailed) as caught:
            await found.opened
        assert caught.value.__cause__ is cause

    run(scenario())
