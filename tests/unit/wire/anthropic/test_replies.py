"""Whole answers of Anthropic read, and answers of any origin written for its clients."""

import json
from typing import Any

import pytest

from tests.unit.wire.anthropic.asked import REQUEST_ID, asked
from trollproxy.chat import (
    AnswerPart,
    Choice,
    Citation,
    Finish,
    Media,
    Refusal,
    Reply,
    State,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.anthropic.replies import read_reply, write_reply

ASKED = asked()
USED = {"input_tokens": 3, "output_tokens": 5}


def read(*blocks: dict[str, Any], **members: Any) -> Reply:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "stop_reason": "end_turn",
    }
    message |= {"content": list(blocks), "usage": USED}
    return read_reply(json.dumps(message | members).encode(), ASKED)


def said(*blocks: dict[str, Any]) -> tuple[AnswerPart, ...]:
    return read(*blocks).choices[0].parts


def written(*parts: AnswerPart, finish: Finish = "stop", **members: Any) -> dict[str, Any]:
    stop_sequence = members.pop("stop_sequence", None)
    choice = Choice(parts=parts, finish=finish, stop_sequence=stop_sequence)
    known: dict[str, Any] = {"reply_id": "msg_1", "model": "x", "choices": (choice,), "usage": Usage()}
    reply = Reply(**(known | members))
    message: dict[str, Any] = json.loads(write_reply(reply, ASKED))
    return message


def test_a_plain_answer_is_read() -> None:
    assert read({"type": "text", "text": "hi"}) == Reply(
        reply_id="msg_1",
        model="claude",
        choices=(Choice(parts=(Text(text="hi"),), finish="stop"),),
        usage=Usage(uncached=3, out_text=5),
    )


def test_all_kinds_of_block_are_read() -> None:
    assert said(
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "text", "text": "hi", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"z": 1, "a": 2}, "caller": {"type": "direct"}},
    ) == (
        Thinking(state=State("anthropic", "c2ln")),
        Thinking(state=State("anthropic", "ZGF0YQ=="), is_redacted=True),
        Text(text="hi"),
        ToolCall(call_id="toolu_1", name="look", arguments='{"z": 1, "a": 2}'),
    )


def test_a_call_without_an_id_gets_one() -> None:
    assert said({"type": "tool_use", "name": "look", "input": {}}) == (
        ToolCall(call_id=f"call_{'0' * 24}_0", name="look", arguments="{}"),
    )


def test_a_citation_is_of_all_that_its_block_says() -> None:
    page = {"type": "page_location", "cited_text": "c", "document_title": "d", "start_page_number": 1}
    web = {"type": "web_search_result_location", "url": "https://x", "title": "t", "cited_text": "c"}
    found = {"type": "search_result_location", "source": "https://y", "title": "t", "cited_text": "c"}
    parts = said(
        {"type": "text", "text": "As said, "},
        {"type": "text", "text": "grass is green", "citations": [page, web, found]},
    )
    assert isinstance(parts[1], Text)
    assert parts[1].citations == (
        Citation(title="d", cited_text="c", start=9, end=23),
        Citation(url="https://x", title="t", cited_text="c", start=9, end=23),
        Citation(url="https://y", title="t", cited_text="c", start=9, end=23),
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "context_full"),
        ("refusal", "refusal"),
        ("pause_turn", "paused"),
        ("compaction", "paused"),
        ("of_tomorrow", "stop"),
        (None, "stop"),
    ],
)
def test_why_it_ended(reason: str | None, finish: str) -> None:
    assert read(stop_reason=reason).choices[0].finish == finish


def test_the_stop_sequence_and_the_words_of_a_refusal_are_kept() -> None:
    assert read(stop_reason="stop_sequence", stop_sequence="END").choices[0].stop_sequence == "END"
    details = {"type": "refusal", "category": "bio", "explanation": "No."}
    assert read(stop_reason="refusal", stop_details=details).choices[0].parts == (Refusal(text="No."),)


@pytest.mark.parametrize(
    ("members", "tier"),
    [
        ({"service_tier": "standard"}, None),
        ({"service_tier": "priority"}, "priority"),
        ({"speed": "fast", "service_tier": "standard"}, "fast"),
    ],
)
def test_the_tier_that_is_billed(members: dict[str, str], tier: str | None) -> None:
    assert read(usage=USED | members).tier == tier
    assert read(usage=None).tier is None


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"content":7}', b'{"type":"error"}'])
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        read_reply(body, ASKED)


def test_a_plain_answer_is_written() -> None:
    assert written(Text(text="hi"), usage=Usage(uncached=1, read=2, write_5m=3, write_12h=4, out_text=5)) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "named-by-client",
        "content": [{"type": "text", "text": "hi", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 1,
            "cache_creation_input_tokens": 7,
            "cache_read_input_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
            "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 0},
            "service_tier": "standard",
        },
    }


def test_all_kinds_of_part_are_written() -> None:
    assert written(
        Thinking(text="hm", state=State("gemini", "c2ln")),
        Thinking(state=State("openai_responses", "gAAA"), is_redacted=True),
        Thinking(text="unsigned"),
        Thinking(),
        Thinking(is_redacted=True),
        Text(text=""),
        Text(text="a", citations=(Citation(url="https://x", title="t"), Citation(title="d", cited_text="c"))),
        Media(kind="image", data="aGk=", media_type="image/png"),
        Media(kind="image", url="https://x/y.png", name="cat"),
        ToolCall(call_id="c1", name="look", arguments='{"z":1,"a":2}'),
        ToolCall(call_id="c2", name="look", arguments='{"broken'),
        finish="tool_calls",
    )["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "trollproxy:gemini:c2ln"},
        {"type": "redacted_thinking", "data": "trollproxy:openai_responses:gAAA"},
        {"type": "thinking", "thinking": "unsigned", "signature": ""},
        {
            "type": "text",
            "text": "a",
            "citations": [
                {
                    "type": "web_search_result_location",
                    "url": "https://x",
                    "title": "t",
                    "cited_text": "",
                    "encrypted_index": "",
                },
                {
                    "type": "char_location",
                    "cited_text": "c",
                    "document_index": 0,
                    "document_title": "d",
                    "start_char_index": 0,
                    "end_char_index": 1,
                },
            ],
        },
        {"type": "text", "text": "![image](data:image/png;base64,aGk=)", "citations": None},
        {"type": "text", "text": "![cat](https://x/y.png)", "citations": None},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {"z": 1, "a": 2}},
        {"type": "tool_use", "id": "c2", "name": "look", "input": {"arguments": '{"broken'}},
    ]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("stop_sequence", "stop_sequence"),
        ("tool_calls", "tool_use"),
        ("length", "max_tokens"),
        ("context_full", "model_context_window_exceeded"),
        ("refusal", "refusal"),
        ("paused", "pause_turn"),
    ],
)
def test_why_an_answer_ended_is_written(finish: Finish, reason: str) -> None:
    assert written(finish=finish)["stop_reason"] == reason


def test_calls_and_refusals_are_told_whatever_the_finish_says() -> None:
    assert written(ToolCall(call_id="c", name="look"))["stop_reason"] == "tool_use"
    refused = written(Refusal(text="No."))
    assert (refused["stop_reason"], refused["content"][0]["text"]) == ("refusal", "No.")
    assert refused["stop_details"] == {"type": "refusal", "category": None, "explanation": None}


def test_an_unusable_answer_is_an_error() -> None:
    with pytest.raises(UpstreamBroken):
        written(finish="malformed")


@pytest.mark.parametrize(
    ("reply_id", "shown"),
    [("msg_1", "msg_1"), ("chatcmpl-1", "msg_chatcmpl-1"), ("", "msg_" + REQUEST_ID.removeprefix("req_"))],
)
def test_ids_have_the_dialects_prefix(reply_id: str, shown: str) -> None:
    assert written(reply_id=reply_id)["id"] == shown


def test_unknown_usage_is_our_estimate() -> None:
    assert written(usage=None)["usage"]["input_tokens"] == 42


def test_tiers_and_tools_of_the_provider_are_told() -> None:
    assert written(tier="fast")["usage"]["speed"] == "fast"
    assert written(tier="priority")["usage"]["service_tier"] == "priority"
    assert written(usage=Usage(tool_requests=2))["usage"]["server_tool_use"]["web_search_requests"] == 2
