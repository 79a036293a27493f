"""The vendor's own library reads what we write: whole, streamed, and through its accumulating helper."""

import json
import warnings
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from tests.unit.wire.openai_chat.asked import MODEL, asked
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
    StreamEvent,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    ToolResult,
    Usage,
    events_of,
)
from trollproxy.errors import UpstreamUnavailable
from trollproxy.wire.format import Entry
from trollproxy.wire.openai_chat.tongue import ChatTongue

TONGUE = ChatTongue()
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in "fg"
]
USER: list[Any] = [{"role": "user", "content": "Hi"}]


def client(content: bytes, sent: list[bytes] | None = None, kind: str = "text/event-stream") -> openai.OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if sent is not None:
            sent.append(request.content)
        return httpx2.Response(200, content=content, headers={"content-type": kind})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(api_key="k", base_url="http://gateway/v1", http_client=http, max_retries=0)


def streamed(*events: StreamEvent) -> bytes:
    writer = TONGUE.stream_writer(asked())
    return b"".join(map(writer.write, events))


RICH = Reply(
    reply_id="chatcmpl-1",
    model="m",
    choices=(
        Choice(
            parts=(
                Thinking(text="Hm."),
                Text(
                    text="Hello",
                    citations=(Citation(url="https://a", title="A"), Citation(url="https://b", title="B")),
                    scores=(TokenScore(token="Hello", logprob=-0.1),),
                ),
                Text(text=" you", citations=(Citation(url="https://c", title="C"),)),
                ToolCall(call_id="a", name="f", arguments='{"x": 1}'),
                ToolCall(call_id="b", name="g", arguments="{}"),
            ),
            finish="tool_calls",
        ),
    ),
    usage=Usage(uncached=5, read=2, out_text=3, out_reasoning=1),
)


def check_rich(completion: Any) -> None:
    message = completion.choices[0].message
    assert message.content == "Hello you"
    assert message.reasoning_content == "Hm."
    assert [(call.id, call.type, call.function.name) for call in message.tool_calls] == [
        ("a", "function", "f"),
        ("b", "function", "g"),
    ]
    assert message.tool_calls[0].function.arguments == '{"x": 1}'
    urls = [
        each["url_citation"]["url"] if isinstance(each, dict) else each.url_citation.url for each in message.annotations
    ]
    assert urls == ["https://a", "https://b", "https://c"]
    assert completion.choices[0].logprobs.content[0].token == "Hello"
    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.usage.prompt_tokens_details.cached_tokens == 2
    assert completion.usage.completion_tokens == 4
    assert completion.model == MODEL


def test_a_whole_answer():
    library = client(TONGUE.write_reply(RICH, asked()), kind="application/json")
    check_rich(library.chat.completions.create(model=MODEL, messages=USER))


def test_the_accumulating_helper():
    with client(streamed(*events_of(RICH))).chat.completions.stream(
        model=MODEL, messages=USER, tools=TOOLS, stream_options={"include_usage": True}
    ) as stream:
        kinds = {event.type for event in stream}
        check_rich(stream.get_final_completion())
    assert {"content.done", "tool_calls.function.arguments.done", "logprobs.content.done"} <= kinds


def test_overlapping_calls():
    events: list[StreamEvent] = [
        Started(),
        PartStarted(index=0, part=ToolCall(call_id="a", name="f")),
        PartGrew(index=0, text="{"),
        PartStarted(index=1, part=ToolCall(call_id="b", name="g")),
        PartGrew(index=1, text="{}"),
        PartGrew(index=0, text="}"),
        PartEnded(index=0),
        PartEnded(index=1),
        Finished(finish="tool_calls"),
        Ended(),
    ]
    library = client(streamed(*events))
    with library.chat.completions.stream(model=MODEL, messages=USER, tools=TOOLS) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls is not None
    assert [call.function.arguments for call in calls] == ["{}", "{}"]


class _Answer(BaseModel):
    city: str


def test_a_parsed_answer_and_a_refusal():
    for parts in ((Text(text='{"city":"Rome"}'),), (Refusal(text="No."),)):
        reply = Reply(reply_id="", model="m", choices=(Choice(parts=parts, finish="stop"),))
        library = client(TONGUE.write_reply(reply, asked()), kind="application/json")
        message = library.chat.completions.parse(model=MODEL, messages=USER, response_format=_Answer).choices[0].message
        assert (message.parsed == _Answer(city="Rome")) is (message.refusal is None)


def test_a_failure_inside_a_stream_is_raised():
    begun = streamed(Started(), PartStarted(index=0, part=Text(text="Hi")))
    failed = begun + TONGUE.stream_writer(asked()).fail(UpstreamUnavailable("It broke.", code="upstream_failed"))
    with pytest.raises(openai.APIError, match="It broke"):
        list(client(failed).chat.completions.create(model=MODEL, messages=USER, stream=True))


def test_what_the_library_replays_is_read():
    """An agent appends the message object, or its dump, to the history and answers the calls."""
    completion = client(TONGUE.write_reply(RICH, asked()), kind="application/json").chat.completions.create(
        model=MODEL, messages=USER
    )
    message = completion.choices[0].message
    results = [{"role": "tool", "tool_call_id": call_id, "content": "42"} for call_id in "ab"]
    for replayed in (message, message.model_dump(), message.model_dump(exclude_none=True), message.to_dict()):
        history: list[Any] = [*USER, replayed, *results]
        sent: list[bytes] = []
        library = client(TONGUE.write_reply(RICH, asked()), sent, kind="application/json")
        library.chat.completions.create(model=MODEL, messages=history, tools=TOOLS)
        request = TONGUE.read_request(sent[0], Entry())
        thought, text, *calls = request.turns[1].parts
        assert (thought.text, text.text) == ("Hm.", "Hello you")  # type: ignore[union-attr]
        assert [call.call_id for call in calls] == ["a", "b"]  # type: ignore[union-attr]
        assert [type(part) for part in request.turns[2].parts] == [ToolResult, ToolResult]


def test_what_the_parsing_helper_replays_is_read():
    sent: list[bytes] = []
    reply = Reply(reply_id="", model="m", choices=(Choice(parts=(Text(text='{"city":"Rome"}'),), finish="stop"),))
    library = client(TONGUE.write_reply(reply, asked()), sent, kind="application/json")
    message = library.chat.completions.parse(model=MODEL, messages=USER, response_format=_Answer).choices[0].message
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic finds the parsed answer odd where none is declared
        dumped = message.model_dump()
    again: list[Any] = [*USER, dumped, *USER]
    library.chat.completions.parse(model=MODEL, messages=again, response_format=_Answer)
    request = TONGUE.read_request(sent[1], Entry())
    assert [turn.role for turn in request.turns] == ["user", "assistant", "user"]
    assert request.output is not None
    assert request.output.name == "_Answer"
    assert json.loads(bytes(request.output.schema or b""))["required"] == ["city"]
