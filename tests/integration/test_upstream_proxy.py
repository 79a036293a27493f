"""Calls through outbound proxies, over real sockets: what works, every failure, and that nothing ever goes straight."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.aio import run
from tests.integration.byte_server import LONG, OK, SOON, Peer, Script, Server, echo, serving, stats
from tests.integration.certificates import make_certificate, server_context, trusting
from tests.integration.proxy_server import PHASES, Act, ByteProxy, Fault, Kind, Phase, proxying
from trollproxy.errors import (
    GatewayError,
    Overloaded,
    ProxyFailed,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from trollproxy.ports import ProxyProbe, UpstreamCall
from trollproxy.records import OutboundProxy, Timeouts
from trollproxy.upstream.client import Client, Origin, OriginStats
from trollproxy.upstream.dns import Resolver

NAME = "provider.test"  # nobody but the proxies knows where that is
KINDS: tuple[Kind, ...] = ("http", "socks5")
STALL = Timeouts(connect_s=0.3, first_byte_s=20, idle_s=20)
both_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"), NAME)


async def no_lookup(host: str) -> list[tuple[str, float]]:
    raise AssertionError(f"{host} was looked up on this side")


@asynccontextmanager
async def house(
    script: Script, *proxies: ByteProxy, certificate: Path | None = None, **options: Any
) -> AsyncIterator[tuple[Server, Client]]:
    """A provider that is reached through the proxies only: at the end, all it has seen are their addresses."""
    if certificate is not None:
        options |= {"tls": server_context(certificate), "ssl_context": trusting(certificate)}
    options.setdefault("resolver", Resolver(lookup=no_lookup))
    async with proxying(*proxies):
        for proxy in proxies:
            proxy.names[NAME] = "127.0.0.1"
        async with serving(script, **options) as (server, client):
            yield server, client
            ways = {way for proxy in proxies for way in proxy.ways}
            assert set(server.peers) <= ways


def through(
    server: Server, proxy: OutboundProxy | None, body: bytes = b"{}", *, tls: bool = False, timeouts: Timeouts = LONG
) -> UpstreamCall:
    call = server.call(body, timeouts=timeouts, tls=tls, host=NAME if proxy is not None else "127.0.0.1")
    return msgspec.structs.replace(call, proxy=proxy)


async def failure(client: Client, call: UpstreamCall) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await client.send(call)
    assert NAME not in caught.value.message
    assert "127" not in caught.value.message
    return caught.value


# What works


@pytest.mark.parametrize("loop_name", ["uvloop", "asyncio"])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("username", [None, "user"])
@both_kinds
def test_one_tunnel_carries_many_calls(
    certificate: Path, kind: Kind, username: str | None, tls: bool, loop_name: str
) -> None:
    async def scenario() -> None:
        proxy = ByteProxy(kind, username=username, password="p:w@ä" if username else None)
        async with house(echo, proxy, certificate=certificate if tls else None) as (server, client):
            for body in (b"abc", b"def", bytes(2_000_000), b"ghi"):
                reply = await client.send(through(server, proxy.record(), body, tls=tls))
                assert await reply.read_all(len(body)) == body
            assert proxy.asked == [(NAME, server.port)]
            assert server.peers == proxy.ways
            assert (b"POST /v1/messages" in proxy.relayed) == (not tls)
            origin = Origin(NAME, server.port, tls=tls, proxy_id="p")
            assert client.stats() == {origin: OriginStats(open=1, idle=1, waiting=0, created=1)}

    if loop_name == "uvloop":
        run(scenario())
    else:
        asyncio.run(asyncio.wait_for(scenario(), 60))


def test_tunnels_are_not_shared_by_proxies_nor_with_direct_calls() -> None:
    async def scenario() -> None:
        one, two = ByteProxy("http", username="u", password="1"), ByteProxy("socks5")
        async with proxying(one, two), serving(echo) as (server, client):
            one.names[NAME] = two.names[NAME] = "127.0.0.1"
            ways = [one.record("one"), two.record("two"), None]
            for _ in range(3):
                for way in ways:
                    call = msgspec.structs.replace(server.call(), proxy=way)
                    await (await client.send(call)).read_all(10)
            assert (one.accepted, two.accepted, server.accepted) == (1, 1, 3)
            assert [origin.proxy_id for origin in client.stats()] == ["one", "two", None]
            assert len(set(server.peers) - set(one.ways) - set(two.ways)) == 1

            one.password = "2"  # the same proxy with another password is another way
            old = msgspec.structs.replace(server.call(), proxy=one.record("one", password="1"))
            new = msgspec.structs.replace(server.call(), proxy=one.record("one"))
            await (await client.send(new)).read_all(10)
            assert one.accepted == 2
            await (await client.send(old)).read_all(10)  # opened while its password was good
            assert one.accepted == 2
            origin = Origin("127.0.0.1", server.port, tls=False, proxy_id="one")
            assert client.stats()[origin] == OriginStats(open=2, idle=2, waiting=0, created=2)

    run(scenario())


@both_kinds
def test_a_tunnel_that_died_idle_is_replaced_by_one_through_the_same_proxy(kind: Kind) -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            while await peer.request() is not None and not (peer.number == 1 and server.accepted_bodies):
                server.accepted_bodies += 1
                await peer.send(OK)

        proxy = ByteProxy(kind)
        async with house(script, proxy) as (byte_server, client):
            for _ in range(2):
                assert await (await client.send(through(byte_server, proxy.record()))).read_all(10) == b"hello"
            assert len(proxy.ways) == proxy.accepted == 2

    class server:
        accepted_bodies = 0

    run(scenario())


@both_kinds
def test_the_next_address_of_a_proxy_is_tried(kind: Kind) -> None:
    async def scenario() -> None:
        async def lookup(host: str) -> list[tuple[str, float]]:
            assert host == "proxy.test"
            return [("127.0.0.9", 60.0), ("127.0.0.1", 60.0)]

        proxy = ByteProxy(kind)
        async with house(echo, proxy, resolver=Resolver(lookup=lookup)) as (server, client):
            record = msgspec.structs.replace(proxy.record(), host="proxy.test")
            assert await (await client.send(through(server, record, b"abc"))).read_all(10) == b"abc"

    run(scenario())


# What fails


@pytest.mark.parametrize("password", ["wrong", None])
@both_kinds
def test_wrong_credentials(kind: Kind, password: str | None) -> None:
    async def scenario() -> None:
        proxy = ByteProxy(kind, username="user", password="right")
        async with house(echo, proxy) as (server, client):
            record = proxy.record(username="user" if password else None, password=password)
            error = await failure(client, through(server, record))
            assert isinstance(error, ProxyFailed)
            assert (error.code, error.failure, error.retry) == ("proxy_auth", "auth", "other_proxy")
            assert (server.accepted, stats(client).open) == (0, 0)

    run(scenario())


FAULTS: list[tuple[Kind, Phase, Act]] = [
    (kind, phase, act)
    for kind in KINDS
    for phase in PHASES[kind]
    for act in ("stall", "close", "half_close", "reset", "noise")
]


@pytest.mark.parametrize("username", [None, "user"])
@pytest.mark.parametrize(("kind", "phase", "act"), FAULTS)
def test_a_fault_at_any_step_is_our_own_error_in_time(
    certificate: Path, kind: Kind, phase: Phase, act: Act, username: str | None
) -> None:
    async def scenario() -> None:
        proxy = ByteProxy(kind, username=username, password=username)
        proxy.fault = Fault(phase, act)
        async with house(echo, proxy, certificate=certificate) as (server, client):
            started_s = time.monotonic()
            timeouts = STALL if act == "stall" else LONG  # all the others are noticed at once
            error = await failure(client, through(server, proxy.record(), tls=True, timeouts=timeouts))
            assert time.monotonic() - started_s < LONG.connect_s / 2
            assert error.retry == "other_proxy"
            assert error.origin == ("upstream" if phase == "opened" and not is_surplus(error) else "proxy")
            assert isinstance(error, ProxyFailed | UpstreamUnavailable | UpstreamTimeout)
            assert (proxy.accepted, stats(client).open) == (1, 0)

            proxy.fault = None
            assert await (await client.send(through(server, proxy.record(), tls=True))).read_all(10) == b"{}"

    run(scenario())


def is_surplus(error: GatewayError) -> bool:
    """Whether noise behind the answer was met with the answer, or a moment later."""
    return "without being asked" in error.message


@both_kinds
def test_a_proxy_that_dies_in_the_middle(kind: Kind) -> None:
    async def scenario() -> None:
        proxy = ByteProxy(kind)
        arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            body = await peer.request()
            if body == b"body":
                await peer.send(OK[:-2])
            arrived.set()
            await peer.gone()

        async with house(script, proxy) as (server, client):
            waiting = asyncio.get_running_loop().create_task(client.send(through(server, proxy.record(), b"head")))
            reply = await client.send(through(server, proxy.record(), b"body"))
            await arrived.wait()
            await proxy.kill()
            with pytest.raises(UpstreamBroken, match="truncated") as caught:
                await reply.read_all(100)
            assert (caught.value.origin, caught.value.retry) == ("upstream", "other_proxy")
            with pytest.raises(UpstreamBroken, match="without an answer") as caught:
                await waiting
            assert (caught.value.origin, caught.value.retry) == ("upstream", "other_proxy")
            error = await failure(client, through(server, proxy.record()))
            assert (error.code, error.retry) == ("proxy_unavailable", "other_proxy")

    run(scenario())


@both_kinds
def test_a_provider_that_the_proxy_cannot_reach(kind: Kind) -> None:
    async def scenario() -> None:
        proxy = ByteProxy(kind)
        async with house(echo, proxy) as (server, client):
            call = through(server, proxy.record())
            proxy.names[NAME] = "127.0.0.9"
            error = await failure(client, call)
            assert (error.code, error.origin, error.retry) == ("upstream_unavailable", "upstream", "other_proxy")

    run(scenario())


def test_a_proxy_whose_name_is_unknown_and_one_that_is_closed() -> None:
    async def scenario() -> None:
        async def lookup(host: str) -> list[tuple[str, float]]:
            return []

        proxy = ByteProxy("http")
        async with house(echo, proxy, resolver=Resolver(lookup=lookup)) as (server, client):
            record = msgspec.structs.replace(proxy.record(), host="proxy.test")
            error = await failure(client, through(server, record))
            assert isinstance(error, ProxyFailed)
            assert "name" in error.message
            await client.close()
            assert isinstance(await failure(client, through(server, record)), Overloaded)
            with pytest.raises(Overloaded):
                await client.probe(record, server.call().endpoint, LONG)

    run(scenario())


@both_kinds
def test_a_proxy_that_ends_tls_itself_is_not_trusted(certificate: Path, tmp_path: Path, kind: Kind) -> None:
    """It leads to a server of its own that calls itself the provider, with a certificate nobody vouches for."""

    async def scenario() -> None:
        seen = 0

        async def listen_in(peer: Peer) -> None:
            nonlocal seen
            seen += (await peer.request()) is not None

        proxy = ByteProxy(kind)
        options: dict[str, Any] = {"tls": server_context(make_certificate(tmp_path, NAME))}
        async with house(listen_in, proxy, ssl_context=trusting(certificate), **options) as (server, client):
            error = await failure(client, through(server, proxy.record(), tls=True))
            assert "not trusted" in error.message
            assert (error.origin, error.retry) == ("upstream", "other_proxy")
            assert seen == 0

    run(scenario())


def test_the_certificate_must_be_of_the_provider_and_not_of_the_proxy(certificate: Path) -> None:
    async def scenario() -> None:
        proxy = ByteProxy("http")
        proxy.names["other.test"] = "127.0.0.1"
        async with house(echo, proxy, certificate=certificate) as (server, client):
            call = msgspec.structs.replace(server.call(tls=True, host="other.test"), proxy=proxy.record())
            assert "not trusted" in (await failure(client, call)).message

    run(scenario())


@pytest.mark.parametrize("tls", [False, True])
def test_a_provider_that_hangs_up_at_once(certificate: Path, tls: bool) -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            pass

        proxy = ByteProxy("socks5")
        async with house(script, proxy, certificate=certificate if tls else None) as (server, client):
            error = await failure(client, through(server, proxy.record(), tls=tls))
            assert (error.origin, error.retry) == ("upstream", "other_proxy")
            while stats(client).open:
                await asyncio.sleep(0)

    run(scenario())


@pytest.mark.parametrize("phase", ["accepted", "asked", "opened"])
@both_kinds
def test_cancelling_hangs_up_on_the_proxy_and_frees_the_place(certificate: Path, kind: Kind, phase: Phase) -> None:
    async def scenario() -> None:
        proxy = ByteProxy(kind)
        proxy.fault = Fault(phase, "stall")
        async with house(echo, proxy, certificate=certificate, max_connections=1) as (server, client):
            task = asyncio.get_running_loop().create_task(client.send(through(server, proxy.record(), tls=True)))
            while not proxy.accepted or (phase == "opened" and not proxy.ways):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert stats(client).open == 0
            await asyncio.gather(*proxy.tasks)  # the stalled one ends with its client
            proxy.fault = None
            assert await (await client.send(through(server, proxy.record(), tls=True))).read_all(10) == b"{}"

    run(scenario())


def test_proxies_killed_one_by_one_under_load() -> None:
    """Whoever fails moves on to the next proxy: all succeed until the last has gone, then all fail cleanly."""

    async def scenario() -> None:
        proxies = [ByteProxy(kind) for kind in ("http", "socks5", "http")]
        succeeded, failed = [0] * 4, [0] * 4
        killed = 0
        is_over = False
        unexplained = 0
        lost: Counter[str] = Counter()

        async def caller(server: Server, client: Client, number: int) -> None:
            nonlocal unexplained
            records = [proxy.record(f"p{place}") for place, proxy in enumerate(proxies)]
            while not is_over:
                stage = killed
                for attempt in range(len(records)):
                    record = records[(number + attempt) % len(records)]
                    try:
                        await (await client.send(through(server, record))).read_all(10)
                    except GatewayError as error:
                        lost[error.retry] += 1
                        last = attempt == len(records) - 1
                        unexplained += last and stage < len(records) - 1
                    else:
                        succeeded[stage] += 1
                        break
                else:
                    failed[stage] += 1
                await asyncio.sleep(0)

        async with house(echo, *proxies) as (server, client):
            loop = asyncio.get_running_loop()
            callers = [loop.create_task(caller(server, client, number)) for number in range(20)]
            for proxy in proxies:
                await asyncio.sleep(0.15)
                await proxy.kill()
                killed += 1
            await asyncio.sleep(0.15)
            is_over = True
            await asyncio.gather(*callers)
            assert set(lost) == {"other_proxy"}
            assert unexplained == 0
            assert min(succeeded[:3]) > 20
            assert failed[:2] == [0, 0]
            assert (succeeded[3], failed[3] > 20) == (0, True)

    run(scenario())


# Probes


@pytest.mark.parametrize("tls", [False, True])
@both_kinds
def test_a_probe_goes_all_the_way_and_leaves_nothing(certificate: Path, kind: Kind, tls: bool) -> None:
    async def scenario() -> None:
        proxy = ByteProxy(kind)
        async with house(echo, proxy, certificate=certificate if tls else None) as (server, client):
            probe: ProxyProbe = client
            endpoint = server.call(tls=tls, host=NAME).endpoint
            await probe.probe(proxy.record(), endpoint, LONG)
            await asyncio.gather(*proxy.tasks)
            assert (len(proxy.ways), proxy.accepted) == (1, 1)
            assert client.stats() == {}
            proxy.fault = Fault("asked", "stall")
            with pytest.raises(ProxyFailed):
                await probe.probe(proxy.record(), endpoint, SOON)
            await proxy.kill()
            with pytest.raises(ProxyFailed):
                await probe.probe(proxy.record(), endpoint, LONG)

    run(scenario())
