"""What clients of the dialect see of a stream: every line that their libraries break on."""

import json
from typing import Any

import pytest

from tests.unit.wire.openai_chat.asked import MODEL, REQUEST_ID, asked
from trollproxy.chat import (
    Citation,
    Counted,
    Ended,
    Finish,
    Finished,
    Media,
    PartCited,
    PartEnded,
    PartGrew,
    PartScored,
    PartSigned,
    PartStarted,
    Refusal,
    Started,
    State,
    StreamEvent,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    Usage,
)
from trollproxy.errors import UpstreamUnavailable
from trollproxy.wire.openai_chat.stream_writer import ChatWriter


def written(*events: StreamEvent, wants_usage: bool = False) -> list[Any]:
    writer = ChatWriter(asked(wants_usage=wants_usage))
    lines = b"".join(map(writer.write, events)).decode().split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [line if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def deltas(*events: StreamEvent) -> list[Any]:
    """Of the chunks between the role and the end."""
    chunks = written(Started(), *events)
    return [chunk["choices"][0]["delta"] for chunk in chunks[1:]]


def test_a_whole_stream():
    chunks = written(
        Started(reply_id="msg_1", model="claude"),
        PartStarted(index=0, part=Text(text="")),
        PartGrew(index=0, text="Hi"),
        PartEnded(index=0),
        Finished(finish="stop"),
        Counted(usage=Usage(uncached=3, out_text=1), is_final=True),
        Ended(),
    )
    assert [chunk["choices"] for chunk in chunks[:-1]] == [
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "Hi"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
    ]
    assert chunks[-1] == "data: [DONE]"
    assert all("usage" not in chunk for chunk in chunks[:-1])
    heads = [{name: chunk[name] for name in ("id", "object", "created", "model")} for chunk in chunks[:-1]]
    assert heads == 3 * [
        {"id": "chatcmpl-msg_1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": MODEL}
    ]


def test_usage_comes_last_and_only_to_those_who_asked():
    usage = Usage(uncached=10, write_1h=5, write_5m=1, read=20, out_text=3, out_reasoning=4)
    events = (
        Started(),
        Counted(usage=Usage(uncached=1), is_final=False),
        Finished(finish="stop"),
        Counted(usage=usage, is_final=True),
        Ended(),
    )
    *chunks, last, done = written(*events, wants_usage=True)
    assert done == "data: [DONE]"
    assert [chunk["usage"] for chunk in chunks] == [None, None]
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 36,
        "completion_tokens": 7,
        "total_tokens": 43,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    assert not any("usage" in chunk for chunk in written(*events)[:-1])


def test_calls_are_numbered_from_0_named_once_and_said_one_after_the_other():
    calls = deltas(
        PartStarted(index=0, part=Thinking()),
        PartSigned(index=0, state=State("anthropic", "sig")),
        PartEnded(index=0),
        PartStarted(index=1, part=ToolCall(call_id="a", name="f")),
        PartGrew(index=1, text="{"),
        PartStarted(index=2, part=ToolCall(call_id="b", name="g", arguments="[")),
        PartGrew(index=2, text="]"),
        PartGrew(index=1, text="}"),
        PartEnded(index=1),
        PartEnded(index=2),
    )
    assert calls == [
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "["}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "]"}}]},
    ]


def test_a_call_without_arguments_says_an_empty_object():
    assert deltas(PartStarted(index=0, part=ToolCall(call_id="a", name="f")), PartEnded(index=0))[1:] == [
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    ]


def test_each_choice_numbers_its_own_calls():
    chunks = written(
        Started(),
        PartStarted(index=0, part=ToolCall(call_id="a", name="f")),
        PartStarted(index=1, part=ToolCall(call_id="b", name="f"), choice=1),
    )
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 0, 1, 1]
    assert chunks[2]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[3]["choices"][0]["delta"]["tool_calls"][0]["index"] == 0


def test_a_custom_call():
    assert deltas(
        PartStarted(index=0, part=ToolCall(call_id="a", name="shell", is_custom=True)), PartGrew(index=0, text="ls")
    ) == [
        {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "shell", "input": ""}}]},
        {"tool_calls": [{"index": 0, "custom": {"input": "ls"}}]},
    ]


def test_thoughts_refusals_and_pictures():
    assert deltas(
        PartStarted(index=0, part=Thinking()),
        PartGrew(index=0, text="Hm"),
        PartStarted(index=1, part=Thinking(is_redacted=True, state=State("anthropic", "x"))),
        PartStarted(index=2, part=Refusal(text="No.")),
        PartStarted(index=3, part=Media(kind="image", data="AAAA", media_type="image/png")),
    ) == [
        {"reasoning_content": "Hm"},
        {"refusal": "No."},
        {"content": "![image](data:image/png;base64,AAAA)"},
    ]


def test_citations_come_in_one_list_before_the_end():
    """A second list is a mistake to the Python library, and takes the place of the first in the JavaScript one."""
    cited = [
        {
            "type": "url_citation",
            "url_citation": {"url": f"https://{name}", "title": "T", "start_index": 0, "end_index": 2},
        }
        for name in "ab"
    ]
    assert deltas(
        PartStarted(index=0, part=Text(text="Hi", citations=(Citation(url="https://a", title="T", end=2),))),
        PartCited(index=0, citation=Citation(url="https://b", title="T", end=2)),
        PartCited(index=0, citation=Citation(cited_text="page 3")),
        Finished(finish="stop"),
    ) == [{"content": "Hi"}, {"annotations": cited}, {}]


def test_scores():
    score = TokenScore(token="Hi", logprob=-0.5, bytes=(72, 105), top=(TokenScore(token="Yo", logprob=-1.0),))
    chunk = written(Started(), PartStarted(index=0, part=Text(text="")), PartScored(index=0, scores=(score,)))[-1]
    top = [{"token": "Yo", "logprob": -1.0, "bytes": None}]
    assert chunk["choices"][0]["logprobs"] == {
        "content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": top}]
    }


@pytest.mark.parametrize(
    ("finish", "word"),
    [
        ("stop", "stop"),
        ("stop_sequence", "stop"),
        ("tool_calls", "tool_calls"),
        ("length", "length"),
        ("context_full", "length"),
        ("paused", "length"),
        ("refusal", "content_filter"),
    ],
)
def test_words_for_the_end(finish: Finish, word: str):
    assert written(Started(), Finished(finish=finish))[-1]["choices"][0]["finish_reason"] == word


def test_malformed_output_is_a_failure_and_the_last_word():
    *_, failed = written(Started(), Finished(finish="malformed"), Ended())
    assert failed["error"]["type"] == "api_error"


def test_a_failure_is_the_last_word():
    said = ChatWriter(asked()).fail(UpstreamUnavailable("The provider failed.", code="upstream_failed"))
    assert said.startswith(b"data: {") and said.endswith(b"}\n\n")  # noqa: PT018 - one frame
    body = json.loads(said[6:])
    assert body["error"]["message"] == "The provider failed."
    assert body["request_id"] == REQUEST_ID
