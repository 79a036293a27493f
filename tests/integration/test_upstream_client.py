"""The client against servers on loopback that are scripted byte by byte."""

import asyncio
import ssl
from pathlib import Path

import msgspec
import pytest

from tests.aio import run
from tests.integration.byte_server import LONG, OK, SOON, Peer, echo, serving, stats
from tests.integration.certificates import make_certificate, server_context, trusting
from trollproxy.errors import Overloaded, UpstreamBroken, UpstreamTimeout, UpstreamUnavailable
from trollproxy.ports import Upstream, UpstreamCall
from trollproxy.records import Endpoint
from trollproxy.upstream.client import MAX_KEPT_HEAD_BYTES, MAX_ROUTES, Client, Origin, OriginStats
from trollproxy.upstream.connection import MAX_UNREAD_BYTES
from trollproxy.upstream.dns import Resolver


def test_the_client_is_the_port() -> None:
    async def scenario() -> None:
        upstream: Upstream = Client()
        assert upstream is not None

    run(scenario())


def test_a_connection_is_reused_last_in_first_out() -> None:
    async def scenario() -> None:
        async with serving(echo) as (server, client):
            for number in range(5):
                reply = await client.send(server.call(b"%d" % number))
                assert reply.status == 200
                assert await reply.read_all(100) == b"%d" % number
                assert await reply.read() == b""
            assert server.accepted == 1
            both = await asyncio.gather(client.send(server.call()), client.send(server.call()))
            assert [await reply.read_all(10) for reply in both] == [b"{}", b"{}"]
            assert stats(client) == OriginStats(open=2, idle=2, waiting=0, created=2)
            assert list(client.stats()) == [Origin("127.0.0.1", server.port, tls=False)]

    run(scenario())


def test_it_works_on_the_standard_loop_too() -> None:
    async def scenario() -> None:
        async with serving(echo) as (server, client):
            body = bytes(3_000_000)
            for _ in range(2):
                reply = await client.send(server.call(body, host="localhost"))
                assert await reply.read_all(len(body)) == body
            assert server.accepted == 1

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_try_send_needs_an_idle_connection() -> None:
    async def scenario() -> None:
        async with serving(echo) as (server, client):
            call = server.call(b"abc")
            assert client.try_send(call) is None
            await (await client.send(call)).read_all(10)
            reply = client.try_send(call)
            assert reply is not None
            done = asyncio.Event()
            reply.on_progress = lambda: done.set() if reply.is_complete else None
            await done.wait()
            assert reply.take() == b"abc"

    run(scenario())


@pytest.mark.parametrize("max_connections", [1, 10])
def test_a_connection_that_died_idle_is_replaced_once_and_the_request_arrives_once(max_connections: int) -> None:
    async def scenario() -> None:
        arrived: list[bytes] = []
        second = asyncio.Event()

        async def script(peer: Peer) -> None:
            if peer.number > 1:
                second.set()
            while (body := await peer.request()) is not None:
                if peer.number == 1 and arrived:
                    return  # taken off the wire, but no one acted on it
                arrived.append(body)
                await peer.send(OK)

        async with serving(script, max_connections=max_connections) as (server, client):
            await (await client.send(server.call(b"first"))).read_all(10)
            reply = await client.send(server.call(b"second"))
            assert await reply.read_all(10) == b"hello"
            assert second.is_set()
            assert arrived == [b"first", b"second"]
            assert server.accepted == 2

    run(scenario())


def test_the_resend_happens_only_once() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number == 1:
                await peer.send(OK)
                await peer.request()

        async with serving(script) as (server, client):
            await (await client.send(server.call())).read_all(10)
            with pytest.raises(UpstreamBroken):
                await client.send(server.call())
            assert server.accepted == 2

    run(scenario())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2"])
def test_a_fresh_connection_is_never_retried(answer: bytes) -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer)

        async with serving(script) as (server, client):
            with pytest.raises(UpstreamBroken):
                await client.send(server.call())
            assert server.accepted == 1

    run(scenario())


def test_a_connection_that_answered_a_byte_is_not_retried() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            await peer.send(b"H")

        async with serving(script) as (server, client):
            await (await client.send(server.call())).read_all(10)
            with pytest.raises(UpstreamBroken, match="truncated"):
                await client.send(server.call())
            assert server.accepted == 1

    run(scenario())


def test_a_truncated_body_is_said_to_be_one() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK[:-2])

        async with serving(script) as (server, client):
            reply = await client.send(server.call())
            with pytest.raises(UpstreamBroken, match="truncated"):
                await reply.read_all(100)

    run(scenario())


def test_a_body_until_close_ends_cleanly() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000)

        async with serving(script) as (server, client):
            reply = await client.send(server.call())
            assert await reply.read_all(1 << 20) == b"x" * 100_000

    run(scenario())


def test_a_reply_split_at_every_byte() -> None:
    async def scenario() -> None:
        stream = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"

        async def script(peer: Peer) -> None:
            for at in range(len(stream)):
                await peer.request()
                peer.writer.write(stream[:at])
                await asyncio.sleep(
                    0
                )  # both parts leave in the order written; whether they meet is the kernel's choice
                await peer.send(stream[at:])
            await peer.gone()

        async with serving(script) as (server, client):
            for _ in range(len(stream)):
                reply = await client.send(server.call())
                assert await reply.read_all(10) == b"hello"
            assert server.accepted == 1

    run(scenario())


def test_a_slow_head_and_a_stalled_body_time_out() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            if await peer.request() == b"stall":
                await peer.send(OK[:-2])
            await peer.gone()

        async with serving(script) as (server, client):
            with pytest.raises(UpstreamTimeout, match="begin to answer") as caught:
                await client.send(server.call(b"slow", timeouts=SOON))
            assert caught.value.code == "upstream_timeout"
            reply = await client.send(server.call(b"stall", timeouts=SOON))
            with pytest.raises(UpstreamTimeout, match="in the middle"):
                await reply.read_all(100)
            assert server.accepted == 2

    run(scenario())


def test_a_lagging_reader_holds_the_provider_back() -> None:
    async def scenario() -> None:
        total = 50_000_000
        sent = 0

        async def script(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            while sent < total:
                await peer.send(bytes(500_000))
                sent += 500_000
            await peer.gone()

        async with serving(script) as (server, client):
            reply = await client.send(server.call())
            full = asyncio.Event()
            reply.on_progress = lambda: full.set() if reply.buffered_bytes > MAX_UNREAD_BYTES else None
            peak = received = 0
            while received < total:
                if total - received > 2_000_000:
                    await full.wait()
                    full.clear()
                peak = max(peak, reply.buffered_bytes)
                received += len(await reply.read())
            assert received == total
            assert peak <= MAX_UNREAD_BYTES + 262_144  # the bound and one receive buffer
            assert await reply.read() == b""

    run(scenario())


def test_cancelling_drops_the_connection() -> None:
    async def scenario() -> None:
        arrived, gone = asyncio.Event(), asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            arrived.set()
            await peer.gone()
            gone.set()

        async with serving(script) as (server, client):
            task = asyncio.get_running_loop().create_task(client.send(server.call()))
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await gone.wait()
            assert stats(client).open == 0

    run(scenario())


def test_an_early_refusal_is_delivered_while_the_upload_is_under_way() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
            await peer.gone()

        async with serving(script) as (server, client):
            reply = await client.send(server.call(bytes(5_000_000)))
            assert reply.status == 413
            assert await reply.read_all(10) == b"big"

    run(scenario())


def test_a_large_upload_arrives_whole() -> None:
    async def scenario() -> None:
        body = bytes(range(256)) * 40_000
        async with serving(echo) as (server, client):
            reply = await client.send(server.call(body))
            assert await reply.read_all(len(body)) == body
            assert stats(client).idle == 1

    run(scenario())


def test_unreachable_providers_are_unavailable_and_unnamed() -> None:
    async def scenario() -> None:
        async with serving(echo) as (server, client):
            dead_port = server.port
        client = Client()
        endpoint = Endpoint(host="127.0.0.1", port=dead_port, tls=False, path="/")
        with pytest.raises(UpstreamUnavailable) as caught:
            await client.send(UpstreamCall(endpoint=endpoint, headers=(), body=b"", timeouts=LONG))
        assert "127" not in caught.value.message
        assert isinstance(caught.value.__cause__, OSError)
        assert stats(client).open == 0
        await client.close()

    run(scenario())


def test_the_next_address_is_tried_and_the_connect_deadline_holds() -> None:
    async def scenario() -> None:
        never = asyncio.Event()

        async def lookup(host: str) -> list[tuple[str, float]]:
            if host == "stuck":
                await never.wait()
            return [("127.0.0.9", 60.0), ("127.0.0.1", 60.0)]  # the server listens on the second one only

        async with serving(echo, resolver=Resolver(lookup=lookup)) as (server, client):
            reply = await client.send(server.call(b"abc", host="two.example"))
            assert await reply.read_all(10) == b"abc"
            with pytest.raises(UpstreamTimeout, match="take the connection"):
                await client.send(server.call(timeouts=SOON, host="stuck"))
            assert client.stats()[Origin("stuck", server.port, tls=False)].open == 0

    run(scenario())


@pytest.mark.parametrize(
    "headers",
    [
        (("a\r\nb", "c"),),
        (("a", "b\r\nc: d"),),
        (("a", "b\nc"),),
        (("a", "b\0"),),
        (("", "b"),),
        (("a b", "c"),),
        (("a", "é"),),
        (("Host", "other"),),
        (("Content-Length", "1"),),
        (("transfer-encoding", "chunked"),),
    ],
)
def test_unsafe_headers_are_our_bug_and_never_sent(headers: tuple[tuple[str, str], ...]) -> None:
    async def scenario() -> None:
        async with serving(echo) as (server, client):
            endpoint = Endpoint(host="127.0.0.1", port=server.port, tls=False, path="/")
            with pytest.raises(AssertionError):
                await client.send(UpstreamCall(endpoint=endpoint, headers=headers, body=b"", timeouts=LONG))
            assert server.accepted == 0

    run(scenario())


def test_the_head_is_written_as_given() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            head = await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(head), head))
            await peer.gone()

        async with serving(script) as (server, client):
            endpoint = Endpoint(host="127.0.0.1", port=server.port, tls=False, path="/v1/x?a=b")
            call = UpstreamCall(endpoint=endpoint, headers=(("Accept", "*/*"),), body=b"abc", timeouts=LONG)
            head = await (await client.send(call)).read_all(1000)
            assert head == (
                b"POST /v1/x?a=b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nAccept: */*\r\ncontent-length: 3\r\n\r\n"
                % server.port
            )

    run(scenario())


async def tell_heads(peer: Peer) -> None:
    """Answer each request with its own head."""
    while True:
        try:
            head = await peer.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(head), head))


async def sent_head(client: Client, call: UpstreamCall) -> list[str]:
    """The request line and the headers but those that frame the message, as the server sees them."""
    head = (await (await client.send(call)).read_all(100_000)).decode().split("\r\n")
    return [line for line in head if line and not line.startswith(("host: ", "content-length: "))]


def test_each_call_has_its_own_head_though_heads_are_kept() -> None:
    async def scenario() -> None:
        async with serving(tell_heads) as (server, client):
            endpoint = Endpoint(host="127.0.0.1", port=server.port, tls=False, path="/a")
            other = msgspec.structs.replace(endpoint, path="/b")
            headers = (("x", "1"),)
            alike = tuple((name, value) for name, value in headers)
            assert alike is not headers
            for given in (headers, alike, headers):
                call = UpstreamCall(endpoint=endpoint, headers=given, body=b"", timeouts=LONG)
                for _ in "twice":
                    assert await sent_head(client, call) == ["POST /a HTTP/1.1", "x: 1"]
                moved = msgspec.structs.replace(call, endpoint=other)
                assert await sent_head(client, moved) == ["POST /b HTTP/1.1", "x: 1"]
                asking = msgspec.structs.replace(call, method="GET")
                assert await sent_head(client, asking) == ["GET /a HTTP/1.1", "x: 1"]

    run(scenario())


@pytest.mark.parametrize("most", [1, 7, MAX_ROUTES])
def test_headers_of_a_freed_object_are_never_anothers(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """New objects come to stand where freed ones stood."""

    async def scenario() -> None:
        async with serving(tell_heads) as (server, client):
            endpoint = Endpoint(host="127.0.0.1", port=server.port, tls=False, path="/a")
            places = set()
            for number in range(100):
                headers = (("x", str(number)),)
                places.add(id(headers))
                call = UpstreamCall(endpoint=endpoint, headers=headers, body=b"", timeouts=LONG)
                assert await sent_head(client, call) == ["POST /a HTTP/1.1", f"x: {number}"]
                assert len(client._routes) <= most
                del headers, call
            assert (len(places) < 100) == (most < 100)

    monkeypatch.setattr("trollproxy.upstream.client.MAX_ROUTES", most)
    run(scenario())


def test_long_heads_are_sent_and_not_kept() -> None:
    async def scenario() -> None:
        async with serving(tell_heads) as (server, client):
            endpoint = Endpoint(host="127.0.0.1", port=server.port, tls=False, path="/a")
            value = "x" * MAX_KEPT_HEAD_BYTES
            call = UpstreamCall(endpoint=endpoint, headers=(("x", value),), body=b"", timeouts=LONG)
            for _ in "twice":
                assert await sent_head(client, call) == ["POST /a HTTP/1.1", f"x: {value}"]
            assert client._routes == {}

    run(scenario())


def test_a_kept_head_leads_nowhere_once_the_client_is_closed() -> None:
    async def scenario() -> None:
        async with serving(echo) as (server, client):
            call = server.call(b"abc")
            await (await client.send(call)).read_all(10)
            await client.close()
            assert client.try_send(call) is None
            with pytest.raises(Overloaded):
                await client.send(call)

    run(scenario())


def test_a_closed_client_refuses_and_ends_what_waits() -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            arrived.set()
            await peer.gone()

        async with serving(script, max_connections=1) as (server, client):
            loop = asyncio.get_running_loop()
            first = loop.create_task(client.send(server.call()))
            await arrived.wait()
            second = loop.create_task(client.send(server.call()))
            while stats(client).waiting == 0:
                await asyncio.sleep(0)
            await client.close()
            results = await asyncio.gather(first, second, return_exceptions=True)
            assert [type(result) for result in results] == [Overloaded, Overloaded]
            with pytest.raises(Overloaded):
                await client.send(server.call())

    run(scenario())


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("loop_name", ["uvloop", "asyncio"])
def test_tls_with_a_trusted_certificate(certificate: Path, loop_name: str) -> None:
    async def scenario() -> None:
        chosen: list[str | None] = []

        async def script(peer: Peer) -> None:
            chosen.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
            await echo(peer)

        contexts = {"tls": server_context(certificate), "ssl_context": trusting(certificate)}
        async with serving(script, **contexts) as (server, client):
            for body in (b"abc", bytes(2_000_000)):
                reply = await client.send(server.call(body, tls=True, host="localhost"))
                assert await reply.read_all(len(body)) == body
            assert server.accepted == 1
            assert chosen == ["http/1.1"]
            with pytest.raises(UpstreamUnavailable, match="not trusted"):
                await client.send(server.call(tls=True, host="127.0.0.1"))

    if loop_name == "uvloop":
        run(scenario())
    else:
        asyncio.run(asyncio.wait_for(scenario(), 60))


def test_tls_with_an_untrusted_certificate(certificate: Path) -> None:
    async def scenario() -> None:
        async with serving(echo, tls=server_context(certificate)) as (server, client):
            with pytest.raises(UpstreamUnavailable, match="not trusted") as caught:
                await client.send(server.call(tls=True, host="localhost"))
            assert "localhost" not in caught.value.message
            assert isinstance(caught.value.__cause__, ssl.SSLError)
            assert stats(client).open == 0

    run(scenario())


def test_a_plain_server_behind_tls_is_unavailable() -> None:
    async def scenario() -> None:
        async def script(peer: Peer) -> None:
            await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with serving(script) as (server, client):
            with pytest.raises(UpstreamUnavailable):
                await client.send(server.call(tls=True))

    run(scenario())
