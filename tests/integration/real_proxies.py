"""Calls through real proxies, tinyproxy and microsocks of Debian. `make proxies` runs this; it needs both installed.

apt-get install tinyproxy-bin microsocks
"""

import asyncio
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, Popen

import msgspec
import pytest

from tests.aio import run
from tests.integration.byte_server import LONG, Peer, echo, serving
from tests.integration.certificates import make_certificate, server_context, trusting
from tests.integration.proxy_server import Kind
from trollproxy.errors import GatewayError
from trollproxy.records import OutboundProxy

NAME = "localhost"
START_S = 10.0
KINDS: tuple[Kind, ...] = ("http", "socks5")
every_kind = pytest.mark.parametrize("kind", KINDS)

TINYPROXY = """
Port {port}
Listen 127.0.0.1
MaxClients 20
LogLevel Critical
BasicAuth user right
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), NAME)


@contextmanager
def real_proxy(kind: Kind, folder: Path) -> Iterator[tuple[OutboundProxy, Popen[bytes]]]:
    port = free_port()
    if kind == "http":
        (folder / "tinyproxy.conf").write_text(TINYPROXY.format(port=port))
        command = ["tinyproxy", "-d", "-c", str(folder / "tinyproxy.conf")]
    else:
        command = ["microsocks", "-i", "127.0.0.1", "-p", str(port), "-u", "user", "-P", "right"]
    program = shutil.which(command[0])
    assert program, f"{command[0]} is not installed: apt-get install tinyproxy-bin microsocks"
    with Popen([program, *command[1:]], stdout=DEVNULL, stderr=DEVNULL) as process:
        try:
            wait_for(port)
            record = OutboundProxy(
                proxy_id=kind, kind=kind, host="127.0.0.1", port=port, username="user", password="right"
            )
            yield record, process
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for(port: int) -> None:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise AssertionError("the proxy did not start")


@pytest.mark.parametrize("tls", [False, True])
@every_kind
def test_calls_go_through(kind: Kind, tls: bool, certificate: Path, tmp_path: Path) -> None:
    async def scenario(proxy: OutboundProxy) -> None:
        options = {"tls": server_context(certificate)} if tls else {}
        async with serving(echo, ssl_context=trusting(certificate), **options) as (server, client):
            call = msgspec.structs.replace(server.call(tls=tls, host=NAME), proxy=proxy)
            for body in (b"abc", bytes(2_000_000), b"def"):
                reply = await client.send(msgspec.structs.replace(call, body=body))
                assert await reply.read_all(len(body)) == body
            assert server.accepted == 1  # one tunnel for all
            await client.probe(proxy, call.endpoint, LONG)

    with real_proxy(kind, tmp_path) as (proxy, _):
        run(scenario(proxy))


@every_kind
def test_refusals_are_told_apart(kind: Kind, tmp_path: Path) -> None:
    async def scenario(proxy: OutboundProxy) -> None:
        async with serving(echo) as (server, client):
            call = server.call(host=NAME)
            for password in ("wrong", None):
                stranger = msgspec.structs.replace(proxy, username="user" if password else None, password=password)
                with pytest.raises(GatewayError) as caught:
                    await client.send(msgspec.structs.replace(call, proxy=stranger))
                assert caught.value.code == "proxy_auth"
            closed = msgspec.structs.replace(call.endpoint, host="127.0.0.1", port=free_port())
            with pytest.raises(GatewayError) as caught:
                await client.send(msgspec.structs.replace(call, proxy=proxy, endpoint=closed))
            assert (caught.value.code, caught.value.retry) == ("upstream_unavailable", "other_proxy")
            assert server.accepted == 0

    with real_proxy(kind, tmp_path) as (proxy, _):
        run(scenario(proxy))


@every_kind
def test_a_proxy_that_is_killed(kind: Kind, tmp_path: Path) -> None:
    async def scenario(proxy: OutboundProxy, process: Popen[bytes]) -> None:
        arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            arrived.set()
            await peer.gone()

        async with serving(script) as (server, client):
            call = msgspec.structs.replace(server.call(host=NAME), proxy=proxy)
            task = asyncio.get_running_loop().create_task(client.send(call))
            await arrived.wait()
            process.kill()
            with pytest.raises(GatewayError) as caught:
                await task
            assert (caught.value.code, caught.value.retry) == ("upstream_broken", "other_proxy")
            with pytest.raises(GatewayError) as caught:
                await client.send(call)
            assert caught.value.code == "proxy_unavailable"
            assert server.accepted == 1

    with real_proxy(kind, tmp_path) as (proxy, process):
        run(scenario(proxy, process))
