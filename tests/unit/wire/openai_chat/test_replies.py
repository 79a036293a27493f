"""Whole answers: what the many servers of the dialect send, and what clients of it get of anyone's answer."""

import json
from typing import Any

import msgspec
import pytest

from tests.unit.wire.openai_chat.asked import asked
from tests.unit.wire.openai_chat.talk import TONGUE
from trollproxy.chat import (
    Choice,
    Citation,
    Finish,
    Media,
    Refusal,
    Reply,
    State,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
    Usage,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.openai_chat.usage import read_usage


def read(message: Any = None, finish: str | None = "stop", **members: Any) -> Reply:
    choice = {"message": message, "finish_reason": finish}
    choice |= {name: members.pop(name) for name in ("logprobs",) if name in members}
    return TONGUE.read_reply(json.dumps({"choices": [choice]} | members).encode(), asked())


def parts(**message: Any) -> tuple[Any, ...]:
    return read(message).choices[0].parts


def write(*said: Any, finish: Finish = "stop", **members: Any) -> Any:
    reply = Reply(
        **({"reply_id": "msg_1", "model": "theirs", "choices": (Choice(parts=said, finish=finish),)} | members)
    )
    return json.loads(TONGUE.write_reply(reply, asked()))


def message_of(*said: Any) -> Any:
    return write(*said)["choices"][0]["message"]


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"b":1,"a":2}'}}


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "refusal"),
        ("error", "malformed"),
        ("insufficient_system_resource", "malformed"),
        ("of_tomorrow", "stop"),
        ("", "stop"),
        (None, "stop"),
        ("tool_calls", "stop"),  # but nothing is called
    ],
)
def test_words_for_the_end(word: str | None, finish: Finish) -> None:
    assert read({"content": "x"}, word).choices[0].finish == finish


@pytest.mark.parametrize("word", ["stop", "tool_calls", "function_call", "", None, "of_tomorrow"])
def test_what_is_called_counts_whatever_the_word(word: str | None) -> None:
    assert read({"tool_calls": [CALL]}, word).choices[0].finish == "tool_calls"


def test_a_cut_call_is_cut() -> None:
    assert read({"tool_calls": [CALL]}, "length").choices[0].finish == "length"


def test_the_parts_of_a_message_in_their_order() -> None:
    assert parts(content="Hi", reasoning_content="hm", refusal="No.", tool_calls=[CALL]) == (
        Thinking(text="hm", state=State("openai_chat", "")),
        Text(text="Hi"),
        Refusal(text="No."),
        ToolCall(call_id="c", name="f", arguments='{"b":1,"a":2}'),
    )


def test_what_says_nothing_is_no_part() -> None:
    assert parts(content="", reasoning_content="", refusal=None, tool_calls=[], annotations=[]) == ()
    assert read(None).choices[0].parts == ()


def test_content_as_a_list() -> None:
    listed = [{"type": "text", "text": "a"}, {"type": "odd"}, {"type": "text", "text": "b"}]
    assert parts(content=listed) == (Text(text="ab"),)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [('{"a":1}', '{"a":1}'), ("", ""), (None, ""), ({"a": 1}, '{"a": 1}'), ("{broken", "{broken")],
)
def test_arguments_in_all_their_shapes(arguments: Any, text: str) -> None:
    (call,) = parts(tool_calls=[{"id": "c", "function": {"name": "f", "arguments": arguments}}])
    assert call.arguments == text


def test_calls_without_ids_get_some_that_differ() -> None:
    first, second = parts(tool_calls=[{"function": {"name": "f"}}, {"id": "", "function": {"name": "f"}}])
    assert (first.call_id, second.call_id) == tuple(f"call_{'0' * 24}_{n}" for n in (0, 1))


def test_citations_that_are_no_pages_are_left() -> None:
    annotations = [{"type": "file_citation"}, {"type": "url_citation", "url_citation": {"url": "https://x"}}]
    assert parts(content="a", annotations=annotations) == (Text(text="a", citations=(Citation(url="https://x"),)),)


@pytest.mark.parametrize("tier", [None, "auto", "default"])
def test_a_plain_tier_is_none(tier: str | None) -> None:
    assert read({"content": "a"}, service_tier=tier).tier is None
    assert read({"content": "a"}, service_tier="flex").tier == "flex"


# Accounting


def usage(**members: Any) -> Usage | None:
    return read_usage(msgspec.Raw(json.dumps(members)))


def test_the_buckets_are_taken_apart() -> None:
    assert usage(
        prompt_tokens=100,
        completion_tokens=50,
        total_tokens=150,
        prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 30},
        completion_tokens_details={"reasoning_tokens": 40},
    ) == Usage(uncached=10, write_30m=30, read=60, out_text=10, out_reasoning=40)


@pytest.mark.parametrize(
    ("members", "counted"),
    [
        # xAI: "counted separately from completion_tokens, but in the total_tokens"
        (
            {
                "prompt_tokens": 12,
                "completion_tokens": 1,
                "total_tokens": 399,
                "completion_tokens_details": {"reasoning_tokens": 386},
            },
            Usage(uncached=12, out_text=1, out_reasoning=386),
        ),
        # Gemini's endpoint: thoughts are in the total only
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115},
            Usage(uncached=10, out_text=5, out_reasoning=100),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 0}, Usage(uncached=10, out_text=5)),
        ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(uncached=10, out_text=5)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage()),
        ({"prompt_tokens": None, "prompt_tokens_details": None}, Usage()),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(read=9)),
    ],
)
def test_other_ways_of_counting(members: dict[str, Any], counted: Usage) -> None:
    assert usage(**members) == counted


def test_no_accounting_is_not_zero() -> None:
    assert read({"content": "a"}).usage is None
    assert read({"content": "a"}, usage=None).usage is None


# Writing


def test_a_plain_answer_is_written() -> None:
    assert write(Text(text="Hi"), usage=Usage(uncached=3, out_text=1), tier="priority") == {
        "id": "chatcmpl-msg_1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "named-by-client",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 1,
            "total_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "service_tier": "priority",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [("chatcmpl-1", "chatcmpl-1"), ("msg_1", "chatcmpl-msg_1"), ("", "chatcmpl-" + "0" * 24)],
)
def test_ids(given: str, told: str) -> None:
    assert write(Text(text="a"), reply_id=given)["id"] == told


def test_what_other_dialects_have_more_of() -> None:
    message = message_of(
        Thinking(text="h", state=State("anthropic", "sig")),
        Thinking(state=State("anthropic", "x"), is_redacted=True),
        Thinking(text="m"),
        Text(text="a", citations=(Citation(url="https://x", start=0, end=1), Citation(cited_text="page 3"))),
        Media(kind="image", data="AAAA", media_type="image/webp"),
        Text(text="b"),
        Refusal(text="No."),
    )
    assert message == {
        "role": "assistant",
        "content": "a![image](data:image/webp;base64,AAAA)b",
        "refusal": "No.",
        "reasoning_content": "hm",
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {"url": "https://x", "title": "https://x", "start_index": 0, "end_index": 1},
            }
        ],
    }


def test_calls_are_written() -> None:
    message = message_of(
        ToolCall(call_id="a", name="f", arguments='{"b":1}', state=State("gemini", "sig")),
        ToolCall(call_id="b", name="f"),
        ToolCall(call_id="c", name="patch", arguments="*** Begin", is_custom=True),
    )
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"b":1}'}},
        {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** Begin"}},
    ]


def test_scores_of_all_texts_are_one_list() -> None:
    score = TokenScore(token="a", logprob=-0.5, bytes=(97,), top=(TokenScore(token="b", logprob=-1.0),))
    choice = write(Text(text="a", scores=(score,)), Text(text="a", scores=(score,)))["choices"][0]
    told = {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": None}],
    }
    assert choice["logprobs"] == {"content": [told, told]}


def test_choices_are_numbered() -> None:
    choices = tuple(Choice(parts=(Text(text=text),), finish="stop") for text in "ab")
    told = write(choices=choices)["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in told] == [(0, "a"), (1, "b")]


def test_malformed_output_is_an_error() -> None:
    with pytest.raises(UpstreamBroken):
        write(Text(text="a"), finish="malformed")
