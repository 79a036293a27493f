"""The same bytes sent the short way and aiohttp's, and what came of them."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.aio import run
from tests.integration.live_gateway import Answer, Line, Live, live
from trollproxy.web import connection
from trollproxy.web.connection import Connection
from trollproxy.web.short_way import ShortWay

TURNS = 100  # of the loop, in which a piece that is read at all has been read
PROBE = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"
PONG = b"OK\n"
VARYING = re.compile(rb"req_[0-9a-f]{32}")
UNEQUAL = {"x-request-id", "request-id", "x-trollproxy-receipt", "date"}
LIMITS = {
    "devRpm": 100_000,
    "proRpm": 100_000,
    "failedAuthPerMinutePerIp": 100_000,
    "maxBodyBytes": "20kB",
    "bodyTimeout": "300ms",
}


class Ways:
    """Counts what goes the short way, and what is read at all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.short = self.reads = 0
        self.are_closed = False
        self._patch = monkeypatch
        go, read = ShortWay.go, Connection.data_received

        def going(way: ShortWay, data: bytes) -> bool:
            is_gone = go(way, data)
            self.short += is_gone
            return is_gone

        def reading(there: Connection, data: bytes) -> None:
            self.reads += bool(data)
            read(there, data)

        monkeypatch.setattr(ShortWay, "go", going)
        monkeypatch.setattr(Connection, "data_received", reading)
        monkeypatch.setattr(connection, "LINGER_S", 0.2)

    def close(self) -> None:
        """Let everything go aiohttp's way."""
        self.are_closed = True
        self._patch.setattr(ShortWay, "go", lambda *_: False)

    async def send(self, line: Line, *pieces: bytes) -> None:
        """Each piece is read by itself, unless the gateway has stopped reading."""
        for piece in pieces:
            if line.writer.is_closing():
                return  # the gateway has closed
            before = self.reads
            line.writer.write(piece)
            for _ in range(TURNS):
                await asyncio.sleep(0)
                if self.reads > before:
                    break


class Seen(NamedTuple):
    """What a client got back for the same bytes on either way."""

    answers: list[tuple[int, dict[str, str], bytes]]
    is_open: bool


def plain(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """An answer without what differs from one to the next."""
    headers = {name: value for name, value in answer.headers.items() if name not in UNEQUAL and "limit" not in name}
    return answer.status, headers, VARYING.sub(b"req_", answer.body)


async def read_on(line: Line, until: bytes = PONG) -> Seen:
    """All answers, up to the one that the connection ends or the probe has."""
    answers = list[tuple[int, dict[str, str], bytes]]()
    while True:
        try:
            answer = await line.answer()
        except asyncio.IncompleteReadError:
            return Seen(answers, is_open=False)
        except ConnectionError:  # reset, since we sent more than it read; what it said before that is here
            line.reader._exception = None  # type: ignore[attr-defined]
            line.reader.feed_eof()
            continue
        if answer.body == until:
            return Seen(answers, is_open=True)
        answers.append(plain(answer))


async def warm(there: Live, line: Line, ways: Ways) -> None:
    """One request that makes the head known, and two that are like it. Counts anew from here."""
    for n in (1, 20, 300):
        await ways.send(line, there.request(max_tokens=n))
        assert (await line.answer()).status == 200
    assert ways.are_closed or ways.short >= 2
    ways.short = 0


async def exchange(there: Live, ways: Ways, pieces: Sequence[bytes]) -> Seen:
    """Send the pieces over a warm connection, then a probe, which tells whether it is in order."""
    async with there.line() as line:
        await warm(there, line, ways)
        await ways.send(line, *pieces, PROBE)
        return await read_on(line)


def play(folder: Path, scene: Any, **config: Any) -> None:
    async def life() -> None:
        async with live(folder, limits=LIMITS | config.pop("limits", {}), trustedProxies=[], **config) as there:
            await scene(there)
            assert there.gateway.accounts.held_nusd() == 0
            assert there.gateway.gate.in_flight == 0

    run(life())
