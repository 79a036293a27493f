"""What the vendor's own library makes of written streams: plain iteration and its accumulating helper agree."""

from typing import Any

import httpx2
import openai
import pytest

from tests.unit.wire.openai_chat.asked import asked
from trollproxy.chat import (
    Choice,
    Counted,
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
    ToolCall,
    Usage,
    events_of,
)
from trollproxy.wire import OPENAI_CHAT
from trollproxy.wire.openai_chat.tongue import ChatTongue

TONGUE = ChatTongue()
HI: list[Any] = [{"role": "user", "content": "Hi"}]
STRICT: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
]


def library(events: list[StreamEvent], *, wants_usage: bool = True, between: bytes = b"") -> openai.OpenAI:
    writer = TONGUE.stream_writer(asked(wants_usage=wants_usage))
    content = between.join([b"", *map(writer.write, events)])
    answer = httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"})
    http = httpx2.Client(transport=httpx2.MockTransport(lambda _: answer))
    return openai.OpenAI(api_key="k", base_url="http://gateway/v1", http_client=http, max_retries=0)


def final(events: list[StreamEvent], **members: Any) -> Any:
    with library(events).chat.completions.stream(model="m", messages=HI, **members) as stream:
        return stream.get_final_completion()


def chunks(events: list[StreamEvent], *, wants_usage: bool = True) -> list[Any]:
    return list(library(events, wants_usage=wants_usage).chat.completions.create(model="m", messages=HI, stream=True))


def said(*parts: Any, finish: Any = "stop") -> list[StreamEvent]:
    choices = (Choice(parts=parts, finish=finish),)
    return events_of(Reply(reply_id="", model="m", choices=choices, usage=Usage(uncached=5, out_text=3)))


def test_strict_calls_that_overlap_are_each_parsed_whole() -> None:
    """The helper parses a call as soon as another one speaks, so none may be cut in two."""
    events: list[StreamEvent] = [
        Started(),
        PartStarted(index=0, part=ToolCall(call_id="a", name="f")),
        PartStarted(index=1, part=ToolCall(call_id="b", name="f")),
        PartGrew(index=0, text='{"a":'),
        PartGrew(index=1, text='{"a":2}'),
        PartEnded(index=1),
        PartGrew(index=0, text="1}"),
        PartEnded(index=0),
        Finished(finish="tool_calls"),
        Ended(),
    ]
    calls = final(events, tools=STRICT).choices[0].message.tool_calls
    assert [(call.id, call.function.parsed_arguments) for call in calls] == [("a", {"a": 1}), ("b", {"a": 2})]


def test_choices_that_begin_in_any_order() -> None:
    events: list[StreamEvent] = [Started()]
    for index, choice in enumerate((2, 0, 1)):
        events += [PartStarted(index=index, part=Text(text=f"answer {choice}"), choice=choice), PartEnded(index=index)]
    events += [Finished(finish="stop", choice=choice) for choice in (1, 2, 0)]
    events += [Counted(usage=Usage(uncached=1, out_text=9), is_final=True), Ended()]
    completion = final(events, n=3)
    assert [choice.message.content for choice in completion.choices] == ["answer 0", "answer 1", "answer 2"]
    assert [choice.finish_reason for choice in completion.choices] == ["stop", "stop", "stop"]


def test_a_custom_call_is_gathered() -> None:
    """The helper follows it, though its last step, the parsed completion, knows functions only."""
    events = said(ToolCall(call_id="c", name="patch", arguments="*** Begin", is_custom=True), finish="tool_calls")
    with library(events).chat.completions.stream(model="m", messages=HI) as stream:
        stream.until_done()
        message: Any = stream.current_completion_snapshot.choices[0].message.to_dict()
    (call,) = message["tool_calls"]
    assert call["custom"] == {"name": "patch", "input": "*** Begin"}
    assert (call["id"], call["type"]) == ("c", "custom")


def test_a_refusal_is_gathered() -> None:
    message = final(said(Refusal(text="I cannot."))).choices[0].message
    assert (message.refusal, message.content) == ("I cannot.", "")


@pytest.mark.parametrize("wants_usage", [True, False])
def test_usage_is_one_chunk_without_choices_for_those_who_asked(*, wants_usage: bool) -> None:
    got = chunks(said(Text(text="Hi")), wants_usage=wants_usage)
    assert [bool(chunk.choices) for chunk in got].count(False) == wants_usage
    assert [chunk.usage is not None for chunk in got] == [False] * (len(got) - wants_usage) + [True] * wants_usage


def test_every_chunk_has_the_same_head() -> None:
    got = chunks(said(Text(text="Hi"), ToolCall(call_id="c", name="f", arguments="{}"), finish="tool_calls"))
    heads = {(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in got}
    assert heads == {("chatcmpl-" + "0" * 24, 1_760_000_000, "named-by-client", "chat.completion.chunk")}
    assert [chunk.choices[0].finish_reason for chunk in got if chunk.choices][-1] == "tool_calls"


def test_keep_alives_are_not_seen() -> None:
    stream = library(said(Text(text="Hi")), between=OPENAI_CHAT.keep_alive).chat.completions.create(
        model="m", messages=HI, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == "Hi"


def test_malformed_output_is_raised_after_what_was_said() -> None:
    stream = library(said(Text(text="Hi"), finish="malformed")).chat.completions.create(
        model="m", messages=HI, stream=True
    )
    seen = [next(stream).choices[0].delta.content for _ in range(2)]
    assert seen == ["", "Hi"]
    with pytest.raises(openai.APIError, match="could not be used"):
        next(stream)
