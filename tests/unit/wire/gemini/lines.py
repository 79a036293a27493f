"""Short words for the answers that the tests of this package are made of."""

from collections.abc import Iterable
from typing import Any

import msgspec

from trollproxy.chat import Request, StreamEvent, Text, Turn
from trollproxy.wire.format import Asked, Entry
from trollproxy.wire.gemini.tongue import GeminiTongue
from trollproxy.wire.sse import EventSplitter

TONGUE = GeminiTongue()


def asked(*, is_array: bool = False) -> Asked:
    return Asked(
        request=Request(model="some-model", turns=(Turn("user", (Text(text="hi"),)),), stream=True),
        entry=Entry(model="some-model", stream=True, is_array=is_array),
        model="some-model",
        request_id="req_0123456789abcdef01234567",
        now_s=1_700_000_000,
        input_tokens=3,
    )


def chunk(*parts: Any, index: int = 0, **members: Any) -> bytes:
    """One event of a stream with one candidate."""
    about = {name: members.pop(name) for name in list(members) if name in ABOUT_ALL}
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": index} | members
    return event({"candidates": [candidate]} | about)


ABOUT_ALL = ("usageMetadata", "modelVersion", "responseId", "promptFeedback")


def event(answer: Any) -> bytes:
    return b"data: " + msgspec.json.encode(answer) + b"\n\n"


def read_stream(*events: bytes) -> list[StreamEvent]:
    """All that a stream says, its end included."""
    reader = TONGUE.stream_reader(asked())
    found = [said for piece in events for said in reader.read(piece)]
    return found + reader.finish()


def write_stream(events: Iterable[StreamEvent], *, is_array: bool = False) -> bytes:
    writer = TONGUE.stream_writer(asked(is_array=is_array))
    return b"".join(map(writer.write, events))


def answers_of(data: bytes) -> list[Any]:
    return [msgspec.json.decode(piece[6:]) for piece in EventSplitter().feed(data)]
