"""What these tests ask, and the bytes of streams."""

import json
from typing import Any

from trollproxy.chat import Reply, Request, StreamEvent, Turn, collect
from trollproxy.wire.format import Asked, Entry, Target
from trollproxy.wire.openai_responses import ResponsesTongue
from trollproxy.wire.sse import EventSplitter, event_data

TONGUE = ResponsesTongue()
ENTRY = Entry()
REQUEST_ID = "req_0123456789abcdef01234567"


def asked(**members: Any) -> Asked:
    known: dict[str, Any] = {
        "request": Request(model="m", turns=(Turn("user", ()),)),
        "entry": ENTRY,
        "model": "named-by-client",
        "request_id": REQUEST_ID,
        "now_s": 1_760_000_000,
        "input_tokens": 42,
    }
    return Asked(**(known | members))


def read(**members: Any) -> Request:
    body = {"model": "m", "input": "hi"} | members
    return TONGUE.read_request(json.dumps(body).encode(), ENTRY)


def write(request: Request, model: str = "gpt-5.6") -> Any:
    return json.loads(TONGUE.write_request(request, Target(model=model)))


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def write_stream(events: list[StreamEvent], **members: Any) -> bytes:
    writer = TONGUE.stream_writer(asked(**members))
    return b"".join(map(writer.write, events))


def read_stream(*chunks: bytes) -> list[StreamEvent]:
    splitter, reader = EventSplitter(), TONGUE.stream_reader(asked())
    found = [said for chunk in chunks for told in splitter.feed(chunk) for said in reader.read(told)]
    return found + reader.finish()


def read_reply_of(*chunks: bytes) -> Reply:
    return collect(read_stream(*chunks))


def told(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(event_data(part)) for part in EventSplitter().feed(data)]
