"""The provider of the fault tests: answers as the plan of each request says, and remembers every request it saw.

A request is seen when its last byte has come, whatever becomes of the answer. Connections are kept open until the
gateway ends them, so that no request has reason to be sent twice. It runs in the process of the test, and outlives
every gateway.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Self, cast

from tests.faults.plans import PIECE, Plan

IDLE_WITHIN_S = 15.0
_LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)
_HEAD = "HTTP/1.1 {}\r\ncontent-type: {}\r\n{}\r\n"


class Provider:
    """Serves on a free port of the loopback. `seen` counts the sightings of each marker."""

    def __init__(self, plans: Mapping[str, Plan]) -> None:
        self.plans = plans
        self.seen: Counter[str] = Counter()
        self.busy = 0
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def wait_idle(self) -> None:
        """Until all that a dead gateway has sent is read; no connection may be left."""
        async with asyncio.timeout(IDLE_WITHIN_S):
            while self.tasks:
                await asyncio.gather(*self.tasks)

    def serve(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class _Connection(asyncio.Protocol):
    """Notes a request in the very call that brings its last byte, so that no later loss can hide it."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._received = b""
        self._asked: asyncio.Queue[Plan | None] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._provider.serve(self._answer(cast("asyncio.Transport", transport)))  # uvloop's is one only in what it does

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (request := self._take_request()) is not None:
            plan = self._provider.plans[json.loads(request)["model"]]
            self._provider.seen[plan.marker] += 1
            self._asked.put_nowait(plan)

    def connection_lost(self, exc: Exception | None) -> None:
        self._asked.put_nowait(None)

    def _take_request(self) -> bytes | None:
        """The body of the next request, if all of it has come."""
        head, found, rest = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not found or length is None or len(rest) < int(length[1]):
            return None
        self._received = rest[int(length[1]) :]
        return rest[: int(length[1])]

    async def _answer(self, transport: asyncio.Transport) -> None:
        while (plan := await self._asked.get()) is not None:
            self._provider.busy += 1
            try:
                await _play(plan, transport)
            finally:
                self._provider.busy -= 1
            if plan.fate == "broken":
                transport.close()


async def _play(plan: Plan, transport: asyncio.Transport) -> None:
    for piece in pieces(plan):
        if transport.is_closing():
            return  # the gateway is gone; uvloop takes nothing more
        transport.write(piece)
        await asyncio.sleep(
            plan.pause_s
        )  # the time that a provider takes, so that kills fall into the midst of answers


def pieces(plan: Plan) -> Iterator[bytes]:
    if plan.fate == "error":
        yield _whole("500 Internal Server Error", {"error": {"type": "api_error", "message": "scripted"}})
    elif not plan.stream:
        answer = _whole("200 OK", _reply(plan))
        yield answer[:-9]
        if plan.fate == "answer":
            yield answer[-9:]
    else:
        yield _HEAD.format("200 OK", "text/event-stream", "transfer-encoding: chunked\r\n").encode()
        events = list(_chat_events(plan) if plan.dialect == "openai_chat" else _messages_events(plan))
        kept = events if plan.fate == "answer" else events[: len(events) // 2]
        yield from (b"%x\r\n%b\r\n" % (len(event), event) for event in kept)
        if plan.fate == "answer":
            yield b"0\r\n\r\n"


def _whole(status: str, answer: object) -> bytes:
    body = json.dumps(answer).encode()
    return _HEAD.format(status, "application/json", f"content-length: {len(body)}\r\n").encode() + body


def _reply(plan: Plan) -> dict[str, Any]:
    text = PIECE * plan.pieces
    if plan.dialect == "openai_chat":
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": _chat_usage(plan)}
    content = [{"type": "text", "text": text}]
    return {"id": "a", "type": "message", "role": "assistant", "content": content, "usage": _messages_usage(plan)}


def _chat_usage(plan: Plan) -> dict[str, Any]:
    prompt = plan.uncached + plan.read
    cached = {"cached_tokens": plan.read}
    return {"prompt_tokens": prompt, "completion_tokens": plan.out, "prompt_tokens_details": cached}


def _messages_usage(plan: Plan) -> dict[str, Any]:
    return {"input_tokens": plan.uncached, "cache_read_input_tokens": plan.read, "output_tokens": plan.out}


def _chat_events(plan: Plan) -> Iterator[bytes]:
    def event(choices: list[object], **more: object) -> bytes:
        chunk = {"id": "c", "object": "chat.completion.chunk", "choices": choices, **more}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    for _ in range(plan.pieces):
        yield event([{"index": 0, "delta": {"content": PIECE}, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield event([], usage=_chat_usage(plan))
    yield b"data: [DONE]\n\n"


def _messages_events(plan: Plan) -> Iterator[bytes]:
    def event(kind: str, **more: object) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()

    begun = {"id": "a", "type": "message", "role": "assistant", "content": []}
    yield event("message_start", message={**begun, "usage": {**_messages_usage(plan), "output_tokens": 1}})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for _ in range(plan.pieces):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": PIECE})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": plan.out})
    yield event("message_stop")
