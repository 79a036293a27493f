"""Races and throttles with real sockets: whose connection is closed, who is let in, and what is on the books."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.aio import run
from tests.integration.live_gateway import Answer, Live, live, provider

SOON_S = 5.0
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
WHOLE = json.dumps({"choices": [{"message": {"role": "assistant", "content": "Hello"}}], "usage": USAGE}).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: {"choices":[],"usage":%b}\n\ndata: [DONE]\n\n'
PRICES = {"input": 1, "output": 1}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Actor:
    """A provider: it answers once `go` is set, and notes when it was asked and when it was hung up on."""

    def __init__(self, *, is_ready: bool = True) -> None:
        self.go = asyncio.Event()
        self.was_asked = asyncio.Event()
        self.is_cut = asyncio.Event()
        self.inside = self.most_inside = self.asked = 0
        if is_ready:
            self.go.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.was_asked.set()
        going, gone = asyncio.create_task(self.go.wait()), asyncio.create_task(_until_closed(reader))
        try:
            await asyncio.wait([going, gone], return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.is_cut.set()
                return
            self._answer(writer)
        finally:
            self.inside -= 1
            for task in (going, gone):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _answer(self, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(WHOLE)}\r\n\r\n"
        writer.write(head.encode() + WHOLE)


class Streaming(Actor):
    def _answer(self, writer: asyncio.StreamWriter) -> None:
        end = END % json.dumps(USAGE).encode()
        writer.write(HEAD + chunk(TOKEN) + chunk(end) + b"0\r\n\r\n")


async def _until_closed(reader: asyncio.StreamReader) -> None:
    """Without taking anything: the next request of the connection is somebody else's to read."""
    while not reader.at_eof():
        await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(folder: Path, first: Actor, second: Actor, **more: Any) -> AsyncIterator[Live]:
    """A model `m` whose upstream is `a` and whose fallback is `b`."""
    async with provider(first) as one, provider(second) as two:
        a, b = one["upstreams"]["main"], two["upstreams"]["main"]
        fallback = {"upstream": "b", "upstreamPricing": PRICES}
        model = {"id": "m", "upstream": "a", "pricing": PRICES, "upstreamPricing": PRICES, "fallbacks": [fallback]}
        upstreams = {"a": {**a, "type": "openai", **more.pop("throttled", {})}, "b": {**b, "type": "openai"}}
        async with live(folder, upstreams=upstreams, models=[model | more.pop("model", {})], **more) as there:
            yield there


async def status(there: Live) -> dict[str, Any]:
    head = f"GET /keys/status HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {there.key}\r\n\r\n"
    found: dict[str, Any] = json.loads((await there.ask(head.encode())).body)
    return found


def asking(there: Live, **members: Any) -> "asyncio.Task[Answer]":
    return asyncio.create_task(there.ask(there.request(model="m", max_tokens=10, **members)))


def test_the_losers_connection_is_closed_before_the_winner_is_relayed(tmp_path: Path) -> None:
    async def scene() -> None:
        slow, quick = Streaming(is_ready=False), Streaming()
        async with serving(tmp_path, slow, quick, model={"race": 2}) as there:
            answer = await asking(there, stream=True)
            assert (answer.status, TOKEN in answer.body) == (200, True)
            async with asyncio.timeout(SOON_S):
                await slow.is_cut.wait()
            shown = await status(there)
            assert [key["in_flight"] for keys in shown["providers"].values() for key in keys] == [0] * 3
            [charge], _ = await there.books()
        assert (charge.provider, charge.cost_nusd, charge.upstream_cost_nusd) == ("b", 15_000, 15_000)
        assert charge.lost_cost_nusd > 0

    run(scene())


def test_a_client_that_goes_closes_all_of_them(tmp_path: Path) -> None:
    async def scene() -> None:
        actors = [Streaming(is_ready=False), Streaming(is_ready=False)]
        brief = {"drainAfterDisconnect": "10ms"}
        async with serving(tmp_path, *actors, model={"race": 2}, billing=brief) as there:
            async with there.line() as line:
                await line.send(there.request(model="m", max_tokens=10, stream=True))
                for actor in actors:
                    await actor.was_asked.wait()
            async with asyncio.timeout(SOON_S):
                for actor in actors:
                    await actor.is_cut.wait()
            [charge], _ = await there.books()
        assert (charge.provider, charge.ended_by) == ("a", "client_disconnected")
        assert 0 < (charge.upstream_cost_nusd or 0) <= charge.lost_cost_nusd

    run(scene())


def test_a_crowd_goes_through_a_throttle_a_few_at_a_time(tmp_path: Path) -> None:
    async def scene() -> None:
        actor = Actor()
        throttle = {"throttled": {"throttle": {"maxInFlight": 3, "maxQueue": 100}}}
        async with serving(tmp_path, actor, Actor(), model={"fallbacks": []}, **throttle) as there:
            answers = await asyncio.gather(*(asking(there) for _ in range(60)))
            assert {answer.status for answer in answers} == {200}
            assert (actor.asked, actor.most_inside) == (60, 3)
            shown = (await status(there))["throttles"]["a"]
            assert (shown["in_flight"], shown["waiting"], shown["last_minute"]) == (0, 0, 60)
            charges, _ = await there.books()
        assert len(charges) == 60

    run(scene())


def test_who_leaves_the_line_or_waits_in_vain_is_charged_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        actor = Actor(is_ready=False)
        throttle = {"throttled": {"throttle": {"maxInFlight": 1, "maxQueue": 2, "queueTimeout": "300ms"}}}
        async with serving(tmp_path, actor, Actor(), model={"fallbacks": []}, **throttle) as there:
            ahead = asking(there)
            await actor.was_asked.wait()
            waiting = there.gateway.live.snapshot.turnstiles["a"].throttle
            async with there.line() as line:
                await line.send(there.request(model="m", max_tokens=10))
                while waiting.waiting < 1:
                    await asyncio.sleep(0.001)
            while waiting.waiting:
                await asyncio.sleep(0.001)
            late = await asking(there)
            assert (late.status, late.error_code, late.headers["retry-after"]) == (503, "upstream_throttled", "1")
            actor.go.set()
            assert (await ahead).status == 200
            assert there.gateway.accounts.held_nusd() == 0
            assert len((await there.books())[0]) == 1

    run(scene())


def test_what_finds_no_room_goes_to_the_fallback(tmp_path: Path) -> None:
    async def scene() -> None:
        actor = Actor(is_ready=False)
        async with serving(tmp_path, actor, Actor(), throttled={"throttle": {"maxInFlight": 1}}) as there:
            ahead = asking(there)
            await actor.was_asked.wait()
            assert (await asking(there)).status == 200
            actor.go.set()
            await ahead
            charges, _ = await there.books()
        assert sorted(charge.provider for charge in charges) == ["a", "b"]

    run(scene())
