"""The client's pool: places, waiters, expiry, what becomes of a connection that was given up."""

import asyncio

import pytest

from tests.aio import run
from tests.integration.byte_server import OK, Peer, echo, serving, stats
from trollproxy.errors import Overloaded, UpstreamBroken
from trollproxy.upstream.client import OriginStats


def test_giving_up_in_the_middle_of_a_body_frees_the_place() -> None:
    async def scenario() -> None:
        gone = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK[:-2])
            await peer.gone()
            gone.set()

        async with serving(script) as (server, client):
            reply = await client.send(server.call())
            assert await reply.read() == b"hel"
            reply.close()
            await gone.wait()
            assert stats(client).open == 0

    run(scenario())


def test_a_full_pool_queues_and_hands_over() -> None:
    async def scenario() -> None:
        async with serving(echo, max_connections=1, max_waiters=3) as (server, client):
            replies = await asyncio.gather(*(client.send(server.call(b"%d" % number)) for number in range(4)))
            assert [await reply.read_all(10) for reply in replies] == [b"0", b"1", b"2", b"3"]
            assert server.accepted == 1
            assert stats(client) == OriginStats(open=1, idle=1, waiting=0, created=1)

    run(scenario())


def test_the_queue_is_bounded_in_length_and_time() -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            arrived.set()
            await peer.gone()

        async with serving(script, max_connections=1, max_waiters=1, wait_timeout_s=0.1) as (server, client):
            loop = asyncio.get_running_loop()
            first = loop.create_task(client.send(server.call()))
            await arrived.wait()
            second = loop.create_task(client.send(server.call()))
            while stats(client).waiting == 0:
                await asyncio.sleep(0)
            assert client.try_send(server.call()) is None
            with pytest.raises(Overloaded, match="Too many"):
                await client.send(server.call())
            with pytest.raises(Overloaded, match="too long"):
                await second
            assert stats(client) == OriginStats(open=1, idle=0, waiting=0, created=1)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

    run(scenario())


def test_a_lost_connection_lets_a_waiter_in_and_a_cancelled_waiter_passes_its_place_on() -> None:
    async def scenario() -> None:
        arrived, may_close = asyncio.Event(), asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number == 1:
                arrived.set()
                await may_close.wait()
            else:
                await peer.send(OK)
                await peer.gone()

        async with serving(script, max_connections=1) as (server, client):
            loop = asyncio.get_running_loop()
            first = loop.create_task(client.send(server.call()))
            await arrived.wait()
            cancelled = loop.create_task(client.send(server.call()))
            third = loop.create_task(client.send(server.call()))
            while stats(client).waiting < 2:
                await asyncio.sleep(0)
            first.add_done_callback(lambda _: cancelled.cancel())  # in the very step in which its place is granted
            may_close.set()
            results = await asyncio.gather(first, cancelled, third, return_exceptions=True)
            assert isinstance(results[0], UpstreamBroken)
            assert isinstance(results[1], asyncio.CancelledError)
            assert not isinstance(results[2], BaseException)
            assert await results[2].read_all(10) == b"hello"

    run(scenario())


@pytest.mark.parametrize("is_reused", [True, False])
def test_what_a_waiter_was_granted_while_being_cancelled_goes_to_the_next(is_reused: bool) -> None:
    async def scenario() -> None:
        may_end = asyncio.Event()

        async def script(peer: Peer) -> None:
            while await peer.request() is not None:
                await peer.send(OK[:-2])
                await may_end.wait()
                if peer.number == 1 and not is_reused:
                    return
                await peer.send(OK[-2:])

        async with serving(script, max_connections=1) as (server, client):
            loop = asyncio.get_running_loop()
            reply = await client.send(server.call())
            cancelled = loop.create_task(client.send(server.call()))
            third = loop.create_task(client.send(server.call()))
            while stats(client).waiting < 2:
                await asyncio.sleep(0)

            def cancel_once_granted() -> None:  # asked in every step: the grant is made, and its task has not run yet
                if stats(client).waiting == 1:
                    cancelled.cancel()
                else:
                    loop.call_soon(cancel_once_granted)

            cancel_once_granted()
            may_end.set()
            results = await asyncio.gather(cancelled, third, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert not isinstance(results[1], BaseException)
            assert await results[1].read_all(10) == b"hello"
            assert server.accepted == (1 if is_reused else 2)
            reply.close()

    run(scenario())


def test_an_idle_connection_expires_and_a_closed_one_is_not_used() -> None:
    async def scenario() -> None:
        gone = asyncio.Event()

        async def script(peer: Peer) -> None:
            await echo(peer)
            gone.set()

        async with serving(script, idle_limit_s=0.05) as (server, client):
            await (await client.send(server.call())).read_all(10)
            await gone.wait()
            assert stats(client).open == 0
            await (await client.send(server.call())).read_all(10)
            assert server.accepted == 2

    run(scenario())
