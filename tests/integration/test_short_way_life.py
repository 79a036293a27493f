"""How a request on the short way and its connection live and end: deadlines, drains, hang-ups, and what is charged."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.aio import run
from tests.integration.live_gateway import Answer, Line, Live, live, provider
from tests.integration.short_way import LIMITS, PROBE, Ways, plain
from tests.integration.test_gateway import BUFFERS, Flood
from trollproxy.control.first_start import DEMO_CREDIT_NUSD
from trollproxy.records import Charge
from trollproxy.web import connection
from trollproxy.web.client_stream import TransportStream
from trollproxy.web.connection import Connection

SAID = json.dumps(
    {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 0, "completion_tokens": 5}}
).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(SAID), SAID)
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
PRICE_NUSD = 1_000_000  # of a token


class Slow:
    """A provider that answers the first requests at once, and the later ones when it is told to."""

    def __init__(self, at_once: int = 1) -> None:
        self.at_once = at_once
        self.asked = 0
        self.waits = asyncio.Event()
        self.go_on = asyncio.Event()

    async def answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.asked > self.at_once:
            self.waits.set()
            await self.go_on.wait()
        writer.write(REPLY)


@asynccontextmanager
async def house(folder: Path, slow: Slow, **config: Any) -> AsyncIterator[Live]:
    limits = LIMITS | config.pop("limits", {})
    async with provider(slow.answer) as upstream, live(folder, limits=limits, **upstream, **config) as there:
        yield there
        assert there.gateway.accounts.held_nusd() == 0
        assert there.gateway.gate.in_flight == 0


async def until_charged(there: Live, count: int) -> list[Charge]:
    """The charges, once nothing runs any more."""
    while there.gateway.gate.in_flight:
        await asyncio.sleep(0)
    charges, left = await there.books()
    assert len({charge.request_id for charge in charges}) == len(charges) == count
    assert left == DEMO_CREDIT_NUSD - sum(charge.cost_nusd for charge in charges)
    return charges


def ask(there: Live, n: int = 5, **members: Any) -> bytes:
    return there.request(model="m", max_tokens=n, **members)


async def ok(line: Line) -> Answer:
    answer = await line.answer()
    assert (answer.status, answer.body) == (200, SAID)
    return answer


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


def test_the_head_may_come_before_the_body_once(tmp_path: Path, ways: Ways) -> None:
    """As many clients send them. Neither this request nor the next is disturbed."""

    async def scene() -> None:
        async with house(tmp_path, Slow(10)) as there, there.line() as line:
            head, end, body = ask(there).partition(b"\r\n\r\n")
            for pieces, short in (([head + end, body], 0), ([ask(there, 500)], 1), ([head + end, body], 1)):
                await ways.send(line, *pieces)
                await ok(line)
                assert ways.short == short

    run(scene())


def test_the_keep_alive_timeout_spares_who_waits_and_closes_who_idles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: Ways
) -> None:
    async def scene() -> None:
        slow, strikes = Slow(), asyncio.Semaphore(0)
        process = Connection._process_keepalive

        def striking(there: Connection) -> None:
            process(there)
            strikes.release()

        monkeypatch.setattr(Connection, "_process_keepalive", striking)
        async with house(tmp_path, slow, limits={"keepAlive": "100ms"}) as there, there.line() as line:
            await line.send(ask(there))
            await ok(line)
            await line.send(ask(there, 7))
            await slow.waits.wait()
            assert ways.short == 1
            for _ in range(3):
                await strikes.acquire()
            slow.go_on.set()
            await ok(line)
            await line.send(ask(there, 8))
            await ok(line)
            assert await line.is_closed()
            assert ways.short == 2

    run(scene())


def test_the_header_deadline_spares_a_first_request_that_goes_the_short_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: Ways
) -> None:
    async def scene() -> None:
        slow = Slow()
        async with house(tmp_path, slow, limits={"headerTimeout": "100ms"}) as there:
            await there.ask(ask(there))
            async with there.line() as line, there.line() as silent:
                await line.send(ask(there))
                await slow.waits.wait()
                assert ways.short == 1
                async with there.line() as later:
                    for each in (silent, later):
                        assert (await each.answer()).status == 408
                slow.go_on.set()
                await ok(line)
                async with there.line() as later:
                    assert (await later.answer()).status == 408
                await line.send(ask(there))
                await ok(line)
                assert ways.short == 2

    monkeypatch.setattr(connection, "SWEEP_S", 0.02)
    run(scene())


def test_the_header_deadline_strikes_half_a_head_after_the_short_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: Ways
) -> None:
    async def scene() -> None:
        slow = Slow()
        async with house(tmp_path, slow, limits={"headerTimeout": "100ms"}) as there:
            await there.ask(ask(there))
            for data in (ask(there)[:30], PROBE[:-1]):
                async with there.line() as line:
                    slow.waits.clear()
                    slow.go_on.clear()
                    await ways.send(line, ask(there))
                    await slow.waits.wait()
                    await ways.send(line, data)  # half a head behind it
                    slow.go_on.set()
                    await ok(line)
                    assert (await line.answer()).status == 408
                    assert await line.is_closed()
            assert ways.short == 2

    monkeypatch.setattr(connection, "SWEEP_S", 0.02)
    run(scene())


@pytest.mark.parametrize("behind", [b"", PROBE])
def test_a_drain_lets_it_finish_and_closes(tmp_path: Path, ways: Ways, behind: bytes) -> None:
    async def scene() -> None:
        slow = Slow()
        async with house(tmp_path, slow, drainTimeout="30s") as there, there.line() as line:
            await line.send(ask(there))
            await ok(line)
            await ways.send(line, ask(there))
            await slow.waits.wait()
            if behind:
                await ways.send(line, behind)
            draining = asyncio.create_task(there.drain())
            while not there.gateway.gate.is_draining:
                await asyncio.sleep(0)
            assert ways.short == 1
            slow.go_on.set()
            await ok(line)
            assert await line.is_closed()
            await draining

    run(scene())


def test_a_drain_cuts_what_outlasts_it(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        slow = Slow()
        async with house(tmp_path, slow, drainTimeout="50ms") as there, there.line() as line:
            await line.send(ask(there))
            await ok(line)
            await line.send(ask(there))
            await slow.waits.wait()
            assert ways.short == 1
            charges, _ = await there.books()
            assert await line.is_closed()
        assert sorted(charge.ended_by for charge in charges) == ["client_disconnected", "completed"]

    run(scene())


@pytest.mark.parametrize(("patience", "tokens"), [("50ms", 0), ("30s", 5)], ids=["no count", "the count still comes"])
@pytest.mark.parametrize("behind", [b"", PROBE, b"POST / HT"])
def test_a_hang_up_is_seen_while_the_provider_is_waited_for(
    tmp_path: Path, ways: Ways, behind: bytes, patience: str, tokens: int
) -> None:
    async def scene() -> None:
        slow = Slow()
        async with house(tmp_path, slow, billing={"drainAfterDisconnect": patience}) as there:
            async with there.line() as line:
                await line.send(ask(there))
                await ok(line)
                await ways.send(line, ask(there, 7))
                await slow.waits.wait()
                if behind:
                    await ways.send(line, behind)
            while connections(there):
                await asyncio.sleep(0)
            if tokens:
                slow.go_on.set()
            charges = await until_charged(there, 2)
        assert ways.short == 1
        assert {charge.ended_by: charge.cost_nusd for charge in charges} == {
            "completed": 5 * PRICE_NUSD,
            "client_disconnected": tokens * PRICE_NUSD,
        }

    run(scene())


def test_half_a_request_and_a_hang_up_cost_nothing(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        async with house(tmp_path, Slow(1_000)) as there:
            whole = ask(there)
            for place in range(1, len(whole), 7):
                async with there.line() as line:
                    await ways.send(line, whole)
                    await ok(line)
                    await ways.send(line, whole[:place])
                while connections(there):
                    await asyncio.sleep(0)
            count = len(range(1, len(whole), 7))
            assert ways.short == count - 1
            charges = await until_charged(there, count)
        assert {charge.ended_by for charge in charges} == {"completed"}

    run(scene())


def test_a_client_that_does_not_read_pauses_the_provider(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        flood, patience = Flood(), {"drainAfterDisconnect": "50ms"}
        async with provider(flood.answer) as upstream, live(tmp_path, **upstream, billing=patience) as there:
            async with there.line() as line:
                await line.send(there.request())
                assert (await line.answer()).status == 200
                line.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await line.send(ask(there, stream=True))
                await flood.is_paused.wait()
                assert ways.short == 1
                assert flood.sent < BUFFERS
            await flood.is_cut.wait()
            charges = await until_charged(there, 2)
        assert {charge.model: charge.ended_by for charge in charges} == {
            "demo": "completed",
            "m": "client_disconnected",
        }

    run(scene())


def test_a_request_behind_a_slow_one_is_answered_after_it(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        slow = Slow()
        async with house(tmp_path, slow) as there, there.line() as line:
            await line.send(ask(there))
            await ok(line)
            await ways.send(line, ask(there))
            await slow.waits.wait()
            await ways.send(line, there.request(model="none"))
            assert slow.asked == 2
            slow.go_on.set()
            await ok(line)
            assert (await line.answer()).status == 404
            assert ways.short == 2
            await line.send(ask(there))
            await ok(line)
            assert ways.short == 3

    run(scene())


def test_many_behind_a_slow_one_are_answered_in_order_and_kept_within_a_bound(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        slow, count = Slow(), 1_000
        async with house(tmp_path, slow) as there, there.line() as line:
            await line.send(ask(there))
            await ok(line)
            await ways.send(line, ask(there))
            await slow.waits.wait()
            path = "x" * 5_000
            for n in range(count):
                line.writer.write(b"GET /%d%b HTTP/1.1\r\nhost: x\r\n\r\n" % (n, path.encode()))
            while not (held := connections(there)[0]).transport or held.transport.is_reading():
                await asyncio.sleep(0)
            assert sum(map(len, held._behind)) < connection.MAX_BEHIND_BYTES + 256 * 1024
            assert len(held._behind) <= connection.MAX_BEHIND_READS
            slow.go_on.set()
            await ok(line)
            for n in range(count):
                answer = await line.answer()
                assert answer.status == 404
                assert b"/%dx" % n in answer.body

    run(scene())


def connections(there: Live) -> list[Any]:
    return there.gateway._listening[0].server.connections


def test_a_head_is_not_remembered_as_the_request_before_it(tmp_path: Path, ways: Ways) -> None:
    """Two that are read before the first is looked at."""

    async def scene() -> None:
        async with live(tmp_path, limits=LIMITS) as there:
            one = there.request(max_tokens=5)
            other = one.replace(b"/v1/chat/completions", b"/v1/messages")
            async with there.line() as line:
                while not connections(there) or connections(there)[0]._waiter is None:
                    await asyncio.sleep(0)
                connections(there)[0].data_received(one)
                connections(there)[0].data_received(other)
                expected = [plain(await line.answer()), plain(await line.answer())]
            assert [b'"type":"message"' in body for _, _, body in expected] == [False, True]
            for _ in range(3):
                assert [plain(await there.ask(one)), plain(await there.ask(other))] == expected
            assert ways.short == 4

    run(scene())


def test_a_head_is_not_remembered_as_a_request_behind_its_late_body(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        async with house(tmp_path, Slow(10)) as there, there.line() as line:
            nothing = ask(there).replace(b"/v1/chat/completions", b"/v1/nothing")
            await ways.send(line, nothing[:-9], nothing[-9:] + ask(there))
            assert (await line.answer()).status == 404
            await ok(line)
            assert (await there.ask(nothing)).status == 404
            assert ways.short == 0

    run(scene())


def test_the_late_body_of_a_refused_request_does_not_keep_the_loop_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: Ways
) -> None:
    async def scene() -> None:
        async with house(tmp_path, Slow()) as there, there.line() as line:
            await line.send(there.head(100, key="sk-wrong"))
            assert (await line.answer()).status == 401
            before = ways.reads
            await line.send(b"x" * 50)
            await line.send(b"x" * 50)
            assert await line.is_closed()
            assert ways.reads - before == 2

    run(scene())


def test_each_of_many_is_charged_once(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        async with house(tmp_path, Slow(1_000)) as there:
            receipts = set()
            async with there.line() as line:
                for n in range(200):
                    await line.send(ask(there, n + 5))
                    receipts.add((await ok(line)).headers["x-trollproxy-receipt"])
            assert ways.short == 199
            charges = await until_charged(there, 200)
        assert receipts == {f"/v1/receipts/{charge.request_id}" for charge in charges}
        assert {(charge.cost_nusd, charge.ended_by) for charge in charges} == {(5 * PRICE_NUSD, "completed")}

    run(scene())


REFUSED: dict[int, dict[str, Any]] = {
    400: {"messages": 5},
    402: {"max_tokens": 10_000},
    404: {"model": "none"},
}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_is_the_same_on_both_ways(tmp_path: Path, ways: Ways, status: int) -> None:
    async def scene() -> None:
        async with house(tmp_path, Slow()) as there, there.line() as line:
            refused = there.request(**{"model": "m", **REFUSED[status]})
            answers = []
            for data in (refused, ask(there), refused, refused):
                await line.send(data)
                answers.append(await line.answer())
            assert ways.short == 2
            assert [answer.status for answer in answers] == [status, 200, status, status]
            told = [(answer.error_code, answer.headers.keys()) for answer in answers if answer.status == status]
            assert told == [told[0]] * 3

    run(scene())


def test_a_stream_is_whole_and_charged_once(tmp_path: Path, ways: Ways) -> None:
    async def scene() -> None:
        async with live(tmp_path, limits=LIMITS) as there:
            async with there.line() as line:
                answers = []
                for _ in range(3):
                    await line.send(there.request(max_tokens=9, stream=True))
                    answers.append(await line.answer())
            assert ways.short == 2
            assert plain(answers[0]) == plain(answers[1]) == plain(answers[2])
            assert answers[2].headers["content-type"].startswith("text/event-stream")
            assert answers[2].body.endswith(b"data: [DONE]\n\n")
            charges = await until_charged(there, 3)
        assert len({charge.cost_nusd for charge in charges}) == 1
        assert {charge.ended_by for charge in charges} == {"completed"}

    run(scene())


def test_a_stream_that_the_provider_cuts_ends_as_on_the_other_way(tmp_path: Path, ways: Ways) -> None:
    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + EVENT)
        await writer.drain()
        writer.close()

    async def scene() -> None:
        async with provider(cut) as upstream, live(tmp_path, limits=LIMITS, **upstream) as there:
            ends = []
            for short in (0, 1):
                async with there.line() as line:
                    await line.send(ask(there, stream=True))
                    answer = await line.answer()
                    await line.send(PROBE)
                    ends.append((plain(answer), (await line.answer()).body))
                assert ways.short == short
            assert ends[0] == ends[1]

    run(scene())


def test_an_answer_that_breaks_off_closes_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ways: Ways
) -> None:
    """A bug of ours, say. The client must not wait for what never comes."""

    async def scene() -> None:
        async with house(tmp_path, Slow(10)) as there, there.line() as line:
            await line.send(ask(there))
            await ok(line)
            monkeypatch.setattr(TransportStream, "send", lambda *_: None)
            await line.send(ask(there))
            assert await line.is_closed()
            assert ways.short == 1

    run(scene())
