"""What these tests ask, and the bytes of streams."""

import json
from collections.abc import Iterable
from typing import Any

from trollproxy.chat import Reply, Request, StreamEvent, Text, Turn, collect
from trollproxy.wire.format import Asked, Entry, Target
from trollproxy.wire.openai_chat.tongue import ChatTongue
from trollproxy.wire.sse import EventSplitter, event_data

TONGUE = ChatTongue()
ENTRY = Entry()
REQUEST_ID = "req_0123456789abcdef01234567"
OWN = "gpt-5.6"  # a model of the vendor's, which takes everything
OTHER = "some-model"  # of one of the many that speak the dialect
DONE = b"data: [DONE]\n\n"


def asked(*, wants_usage: bool = True, **members: Any) -> Asked:
    turns = (Turn("user", (Text(text="hi"),)),)
    known: dict[str, Any] = {
        "request": Request(model="m", turns=turns, stream=True, wants_usage=wants_usage),
        "entry": ENTRY,
        "model": "named-by-client",
        "request_id": REQUEST_ID,
        "now_s": 1_760_000_000,
        "input_tokens": 42,
    }
    return Asked(**(known | members))


def read(*messages: Any, **members: Any) -> Request:
    body = {"model": "m", "messages": messages or [{"role": "user", "content": "hi"}]} | members
    return TONGUE.read_request(json.dumps(body).encode(), ENTRY)


def write(request: Request, model: str = OWN) -> Any:
    return json.loads(TONGUE.write_request(request, Target(model=model)))


def chunk(delta: Any = None, finish: str | None = None, *, index: int = 0, **members: Any) -> bytes:
    """One event of a stream with one choice."""
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    choice |= {name: members.pop(name) for name in ("logprobs",) if name in members}
    return event({"id": "chatcmpl-1", "model": "theirs", "choices": [choice]} | members)


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def read_stream(*events: bytes) -> list[StreamEvent]:
    """All that a stream says, its end included."""
    reader = TONGUE.stream_reader(asked())
    found = [said for told in events for said in reader.read(told)]
    return found + reader.finish()


def read_back(data: bytes) -> Reply:
    return collect(read_stream(*EventSplitter().feed(data)))


def write_stream(events: Iterable[StreamEvent], **members: Any) -> bytes:
    writer = TONGUE.stream_writer(asked(**members))
    return b"".join(map(writer.write, events))


def told(data: bytes) -> list[Any]:
    """The chunks of a written stream, without its last word."""
    found = [event_data(part) for part in EventSplitter().feed(data)]
    return [json.loads(each) for each in found if each != b"[DONE]"]
