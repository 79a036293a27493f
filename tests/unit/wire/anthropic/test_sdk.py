"""Anthropic's own SDK, without a network: it must follow what is written, and what it sends must be understood."""

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pydantic
import pytest

from tests.unit.wire.anthropic.asked import asked
from trollproxy.chat import (
    Choice,
    Citation,
    Ended,
    Finished,
    PartEnded,
    PartGrew,
    PartStarted,
    Refusal,
    Reply,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    ToolCall,
    Usage,
    events_of,
)
from trollproxy.errors import Overloaded
from trollproxy.wire.anthropic.replies import write_reply
from trollproxy.wire.anthropic.requests_in import read_request
from trollproxy.wire.anthropic.stream_writer import MessagesWriter
from trollproxy.wire.format import Entry

ASKED = asked()
HI: list[Any] = [{"role": "user", "content": "hi"}]
CHOICE = Choice(
    parts=(
        Thinking(text="hm", state=State("gemini", "c2ln")),
        Thinking(state=State("openai_responses", "gAAA"), is_redacted=True),
        Text(text="hello", citations=(Citation(url="https://x", title="t"),)),
        ToolCall(call_id="c1", name="look", arguments='{"a":1}'),
        ToolCall(call_id="c2", name="look", arguments=""),
    ),
    finish="tool_calls",
)
REPLY = Reply(reply_id="chatcmpl-1", model="x", choices=(CHOICE,), usage=Usage(uncached=5, read=2, out_text=7))
Answer = Callable[[httpx2.Request], httpx2.Response]


def client(answer: Answer) -> anthropic.Anthropic:
    transport = httpx2.MockTransport(answer)
    return anthropic.Anthropic(
        api_key="k", base_url="http://gateway", max_retries=0, http_client=httpx2.Client(transport=transport)
    )


def stream_of(events: list[StreamEvent], last: bytes = b"") -> Answer:
    writer = MessagesWriter(ASKED)
    raw = b"".join(writer.write(event) for event in events) + last
    return lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)


def final(answer: Answer) -> Any:
    with client(answer).messages.stream(model="m", max_tokens=9, messages=HI) as stream:
        return stream.get_final_message()


def check(message: Any) -> None:
    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"]
    assert message.content[0].signature == "trollproxy:gemini:c2ln"
    assert message.content[2].citations[0].url == "https://x"
    assert [call.input for call in message.content[3:]] == [{"a": 1}, {}]
    assert (message.stop_reason, message.model, message.usage.output_tokens) == ("tool_use", "named-by-client", 7)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (5, 2)


def test_a_stream_is_followed() -> None:
    check(final(stream_of(events_of(REPLY))))


def test_parts_that_overlap_are_followed() -> None:
    events: list[StreamEvent] = [
        Started(),
        PartStarted(index=0, part=ToolCall(call_id="a", name="look")),
        PartStarted(index=1, part=ToolCall(call_id="b", name="look")),
        PartGrew(index=1, text='{"b":1}'),
        PartGrew(index=0, text='{"a":1}'),
        PartEnded(index=1),
        PartEnded(index=0),
        Finished(finish="tool_calls"),
        Ended(),
    ]
    message = final(stream_of(events))
    assert [(call.id, call.input) for call in message.content] == [("a", {"a": 1}), ("b", {"b": 1})]
    assert message.usage.input_tokens == 42


def test_a_refusal_is_followed() -> None:
    choice = Choice(parts=(Refusal(text="No."),), finish="refusal")
    message = final(stream_of(events_of(Reply(reply_id="", model="m", choices=(choice,)))))
    assert (message.content[0].text, message.stop_reason, message.stop_details.type) == ("No.", "refusal", "refusal")


def test_an_error_in_a_stream_is_raised() -> None:
    broken = stream_of(events_of(REPLY)[:3], MessagesWriter(ASKED).fail(Overloaded("busy")))
    with pytest.raises(anthropic.APIStatusError) as caught:
        final(broken)
    assert "busy" in str(caught.value)


def test_a_whole_answer_is_read() -> None:
    raw = write_reply(REPLY, ASKED)
    answer = client(lambda _: httpx2.Response(200, headers={"content-type": "application/json"}, content=raw))
    check(answer.messages.create(model="m", max_tokens=9, messages=HI))


class City(pydantic.BaseModel):
    name: str


def test_what_the_sdk_sends_is_understood() -> None:
    sent: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.read())
        return stream_of(events_of(REPLY))(request)

    sdk = client(answer)
    first: Any = final(answer)
    replayed: list[Any] = [*HI, {"role": "assistant", "content": first.content}]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "ok"} for call in first.content[3:]]
    replayed.append({"role": "user", "content": results})
    stream = sdk.messages.stream(model="m", max_tokens=9, messages=replayed, output_format=City)
    with stream as answering, pytest.raises(pydantic.ValidationError):
        answering.until_done()
    request = read_request(sent[-1], Entry())
    assert request.turns[1].parts[0] == CHOICE.parts[0]
    assert request.turns[1].parts[1] == CHOICE.parts[1]
    assert request.output is not None
    assert json.loads(bytes(request.output.schema or b""))["properties"]["name"]
