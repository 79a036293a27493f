"""The clients: a bounded crowd on bare sockets that asks as planned, hangs up as planned, and notes what it got.

An answer is complete when its last event, or the last byte of its body, has come: from then on the client may rely on
having been charged. The crowd ends by itself when nobody listens any more.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal, Protocol

from tests.e2e.talk import DIALECTS
from tests.faults.plans import Plan

# complete: the whole answer. refused: a whole answer that is an error. cut: the client hung up as planned.
# broken: the connection died under the client.
Outcome = Literal["complete", "refused", "cut", "broken"]

ANSWER_WITHIN_S = 30.0
_BY_NAME = {dialect.name: dialect for dialect in DIALECTS}
_LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)
_LAST_EVENTS = {"openai_chat": b"data: [DONE]\n", "anthropic": b"event: message_stop\n"}
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class CutOffError(Exception):
    """The plan says to hang up here."""


class Drawing(Protocol):
    """Who says what is asked next."""

    def draw(self) -> Plan: ...


class Crowd:
    """So many clients at once, each with one request at a time on a kept connection."""

    def __init__(self, planner: Drawing, *, size: int) -> None:
        self._planner = planner
        self.size = size
        self._is_over = False
        self.outcomes: dict[str, Outcome] = {}
        self.codes: Counter[str] = Counter()  # of refusals

    def run(self, port: int) -> Coroutine[Any, Any, None]:
        """Ask until told to stop, or until nobody listens. Who is told before the first request does not begin."""
        self._is_over = False
        return self._ask_all(port)

    def stop(self) -> None:
        """Let every client finish its request."""
        self._is_over = True

    async def _ask_all(self, port: int) -> None:
        await asyncio.gather(*(self._ask_on(port) for _ in range(self.size)))

    async def _ask_on(self, port: int) -> None:
        with suppress(ConnectionError):
            while not self._is_over:
                await self._ask_on_connection(*await asyncio.open_connection("127.0.0.1", port))

    async def _ask_on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests one after the other, until one ends the connection."""
        outcome: Outcome = "complete"
        try:
            while not self._is_over and outcome in {"complete", "refused"}:
                plan = self._planner.draw()
                self.outcomes[plan.marker] = "broken"  # whatever ends us before the answer does
                outcome = self.outcomes[plan.marker] = await self._ask(plan, reader, writer)
        finally:
            writer.transport.abort()

    async def _ask(self, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Outcome:
        dialect = _BY_NAME[plan.dialect]
        headers = {"host": "gateway", "content-length": str(len(plan.body)), **dialect.authorize(plan.person.secret)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST {dialect.path} HTTP/1.1\r\n{head}\r\n".encode() + plan.body)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await writer.drain()
                return await self._read_answer(plan, reader)
        except CutOffError:
            return "cut"
        except (ConnectionError, asyncio.IncompleteReadError):
            return "broken"

    async def _read_answer(self, plan: Plan, reader: asyncio.StreamReader) -> Outcome:
        _cut(plan, at="when_sent")
        head = await reader.readuntil(b"\r\n\r\n")
        _cut(plan, at="after_head")
        length = _LENGTH.search(head)
        if length is None:
            return await self._read_stream(plan, reader)
        body = await reader.readexactly(int(length[1]))
        if b" 200 " in head[:16]:
            return "complete"
        self._count_refusal(head, body)
        return "refused"

    async def _read_stream(self, plan: Plan, reader: asyncio.StreamReader) -> Outcome:
        body = b""
        while _LAST_EVENTS[plan.dialect] not in body and not body.endswith(_LAST_CHUNK):
            body += await _read_some(reader)
            _cut(plan, at="after_first_piece")
        if _LAST_EVENTS[plan.dialect] not in body:
            return "refused"  # it ended with an error event
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # the answer is whole without the last chunk
            while not body.endswith(_LAST_CHUNK):
                body += await _read_some(reader)
        return "complete"

    def _count_refusal(self, head: bytes, body: bytes) -> None:
        code = re.search(rb'"code": ?"(\w+)"', body)
        self.codes[f"{head.split()[1].decode()} {code[1].decode() if code else '?'}"] += 1


def _cut(plan: Plan, *, at: str) -> None:
    if plan.cut == at:
        raise CutOffError


async def _read_some(reader: asyncio.StreamReader) -> bytes:
    piece = await reader.read(65_536)
    if not piece:
        raise asyncio.IncompleteReadError(b"", None)
    return piece
