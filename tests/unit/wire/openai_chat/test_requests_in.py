"""Requests read: every member of the vendor's reference is carried, declared to go, or refused by its name."""

import json
from contextlib import suppress
from typing import Any

import openai.types.chat.completion_create_params as reference
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.openai_chat.talk import ENTRY, TONGUE, read
from trollproxy.chat import (
    Media,
    OutputSchema,
    Part,
    Reasoning,
    Refusal,
    Request,
    State,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trollproxy.errors import InvalidRequest
from trollproxy.wire.openai_chat.shapes import ChatRequest

USER = {"role": "user", "content": "hi"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def said(**members: Any) -> tuple[Part, ...]:
    """The parts of an assistant's message."""
    return read(USER, {"role": "assistant"} | members, USER).turns[1].parts


def call(call_id: str = "c", name: str = "f", arguments: str = "{}", **members: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}} | members


def refused(*messages: Any, **members: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(*messages, **members)
    return caught.value


def test_every_member_of_the_reference_is_known() -> None:
    members = {
        *reference.CompletionCreateParamsBase.__annotations__,
        *reference.CompletionCreateParamsStreaming.__annotations__,
    }
    assert members <= set(ChatRequest.__struct_fields__)


# Members


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_the_newer_limit_goes_before_the_older(limits: dict[str, Any], limit: int | None) -> None:
    assert read(**limits).max_output_tokens == limit


@pytest.mark.parametrize(
    "defaults",
    [
        {"frequency_penalty": 0},
        {"presence_penalty": 0.0},
        {"logit_bias": {}},
        {"metadata": {}},
        {"n": 1},
        {"logprobs": False, "top_logprobs": 0},
        {"response_format": {"type": "text"}},
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"modalities": ["text"]},
        {"store": False},
        {"stop": []},
        {"tools": []},
        {"prediction": {"type": "content", "content": "x"}},
        {"prompt_cache_retention": "24h"},
        dict.fromkeys(set(ChatRequest.__struct_fields__) - {"model", "messages"}),
    ],
)
def test_a_default_asks_for_nothing(defaults: dict[str, Any]) -> None:
    assert read(**defaults) == Request(model="m", turns=(Turn("user", (Text(text="hi"),)),))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"moderation": {"model": "omni"}}, "moderation"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"of_tomorrow": 1}, "of_tomorrow"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "odd": 1}}},
            "response_format.json_schema.odd",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp"}]}}},
            "tool_choice.allowed_tools.tools",
        ),
    ],
)
def test_what_others_do_not_have_is_refused_by_its_name(members: dict[str, Any], param: str) -> None:
    error = refused(**members)
    assert (error.code, error.param) == ("not_translatable", param)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": [{"type": "file", "file": {}}]},
        {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function"}]},
        {"role": "assistant", "audio": {"id": "audio_1"}},
        {"role": "robot", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x", "odd": 1}]},
        {"role": "user"},
    ],
)
def test_a_message_that_cannot_be_is_refused_with_its_place(message: Any) -> None:
    assert (refused(message).param or "").startswith("messages")


def test_sampling_with_scores() -> None:
    assert read(logprobs=True).sampling.logprobs == 0
    assert read(logprobs=True, top_logprobs=3).sampling.logprobs == 3
    assert read(top_logprobs=3).sampling.logprobs is None
    assert read(stop="END").stop == ("END",)
    assert read(logit_bias={"1": 2}).sampling.logit_bias is not None


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
def test_efforts(effort: Any) -> None:
    assert read(reasoning_effort=effort).reasoning == Reasoning(effort=effort)


def test_no_thinking_and_an_effort_that_is_none() -> None:
    assert read(reasoning_effort="none").reasoning == Reasoning(mode="off")
    assert refused(reasoning_effort="much").param == "reasoning_effort"


def test_output() -> None:
    assert read(response_format={"type": "json_object"}).output == OutputSchema()
    whole = read(response_format={"type": "json_schema", "json_schema": {"name": "a", "strict": None}}).output
    assert whole is not None
    assert (whole.name, whole.strict, bytes(whole.schema or b"")) == ("a", None, b"{}")


def test_who_asks() -> None:
    assert read(user="old").user == "old"
    assert read(user="old", safety_identifier="new").user == "new"


@pytest.mark.parametrize(
    ("members", "wants"),
    [
        ({}, True),
        ({"stream": True}, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
    ],
)
def test_usage_is_for_those_who_ask(members: dict[str, Any], *, wants: bool) -> None:
    assert read(**members).wants_usage is wants


# Tools


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="any")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="any", names=("f",))),
        ({"type": "custom", "custom": {"name": "g"}}, ToolChoice(mode="any", names=("g",))),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [FUNCTION, {"type": "custom", "custom": {"name": "g"}}]},
            },
            ToolChoice(mode="any", names=("f", "g")),
        ),
    ],
)
def test_tool_choice(choice: Any, meant: ToolChoice) -> None:
    assert read(tools=[FUNCTION], tool_choice=choice).tool_choice == meant


def test_the_deprecated_choice() -> None:
    functions = [FUNCTION["function"]]
    assert read(functions=functions, function_call={"name": "f"}).tool_choice == ToolChoice(mode="any", names=("f",))
    assert read(functions=functions, function_call="none").tool_choice == ToolChoice(mode="none")
    assert [tool.name for tool in read(functions=functions).tools] == ["f"]


def test_schemas_keep_their_bytes() -> None:
    schema = b'{"type":"object", "properties":{"b":{},"a":{"maximum":123456789012345678901}}}'
    body = b'{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]}' % schema
    assert bytes(TONGUE.read_request(body, ENTRY).tools[0].parameters or b"") == schema


def test_nothing_to_say_is_no_schema() -> None:
    for parameters in ({}, {"parameters": None}):
        (tool,) = read(tools=[{"type": "function", "function": {"name": "f", **parameters}}]).tools
        assert tool.parameters is None


def test_marks_as_either_vendor_writes_them() -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}
    user = {"role": "user", "content": [{"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}}]}
    request = read(system, user, tools=[FUNCTION | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}])
    assert request.system == (Text(text="a", cache="5m"),)
    assert request.turns[0].parts == (Text(text="b", cache="30m"),)
    assert request.tools[0].cache == "1h"
    assert read(prompt_cache_options={"mode": "implicit", "ttl": "30m"}).cache == "30m"


# Messages


def test_leading_words_of_the_house_are_the_system_and_later_ones_keep_their_place() -> None:
    request = read(
        {"role": "developer", "content": "a", "name": "house"},
        {"role": "system", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        USER,
        {"role": "system", "content": "d"},
    )
    assert [text.text for text in request.system] == ["a", "b", "c"]
    assert [turn.role for turn in request.turns] == ["user", "system"]


@pytest.mark.parametrize(
    ("part", "media"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"}},
            Media(kind="image", data="AAAA", media_type="image/png"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x/a", "detail": "high"}},
            Media(kind="image", url="https://x/a", detail="high"),
        ),
        (
            {"type": "file", "file": {"filename": "a.CSV", "file_data": "AAAA"}},
            Media(kind="document", data="AAAA", media_type="text/csv", name="a.CSV"),
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/json;charset=utf-8;base64,AAAA"}},
            Media(kind="document", data="AAAA", media_type="application/json"),
        ),
        (
            {"type": "file", "file": {"file_id": "file-1", "filename": None}},
            Media(kind="document", file_id="file-1"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            Media(kind="audio", data="AAAA", media_type="audio/mp3"),
        ),
    ],
)
def test_media(part: Any, media: Media) -> None:
    assert read({"role": "user", "content": [part]}).turns[0].parts == (media,)


def test_results_of_one_round_are_one_turn_and_know_their_calls() -> None:
    custom = {"name": "p", "input": "x"}
    request = read(
        USER,
        {"role": "assistant", "tool_calls": [call("a"), {"id": "b", "type": "custom", "custom": custom}]},
        {"role": "tool", "tool_call_id": "a", "content": "1", "name": "f"},
        {
            "role": "tool",
            "tool_call_id": "b",
            "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
        },
        USER,
    )
    assert request.turns[1].parts[1] == ToolCall(call_id="b", name="p", arguments="x", is_custom=True)
    assert request.turns[2].parts == (
        ToolResult(call_id="a", name="f", parts=(Text(text="1"),)),
        ToolResult(call_id="b", parts=(Text(text="2"), Text(text="3")), is_custom=True),
    )
    assert [turn.role for turn in request.turns] == ["user", "assistant", "user", "user"]


def test_deprecated_calls_are_paired_by_their_order() -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    result = {"role": "function", "name": "f", "content": "1"}
    turns = read(USER, old, result, old, result | {"content": None}).turns
    calls = [part.call_id for turn in turns for part in turn.parts if isinstance(part, ToolCall)]
    results = [part for turn in turns for part in turn.parts if isinstance(part, ToolResult)]
    assert calls == [result.call_id for result in results] == ["call_f_1", "call_f_2"]
    assert [result.parts for result in results] == [(Text(text="1"),), ()]


def test_thoughts_know_the_member_they_came_in() -> None:
    assert said(content="a", reasoning_content="hm")[0] == Thinking(text="hm", state=State("openai_chat", ""))
    assert said(content="a", reasoning="hm")[0] == Thinking(text="hm", state=State("openai_chat", "reasoning"))
    assert said(content="a", reasoning_content="", reasoning=None) == (Text(text="a"),)


def test_refusals_in_either_form() -> None:
    assert said(refusal="No.") == (Refusal(text="No."),)
    assert said(content=[{"type": "refusal", "refusal": "No."}]) == (Refusal(text="No."),)


@pytest.mark.parametrize("arguments", ['{"b":1,"a":123456789012345678901}', "", "{broken", "[1]"])
def test_arguments_stay_as_they_are(arguments: str) -> None:
    assert said(tool_calls=[call(arguments=arguments)]) == (ToolCall(call_id="c", name="f", arguments=arguments),)


def test_what_replies_carry_is_taken_back() -> None:
    parts = said(
        content=None,
        refusal=None,
        annotations=[],
        audio=None,
        function_call=None,
        parsed={"a": 1},
        reasoning_details=[{"type": "reasoning.text"}],
        name="bot",
        tool_calls=[call(index=0, function={"name": "f", "arguments": "{}", "parsed_arguments": {}})],
    )
    assert parts == (ToolCall(call_id="c", name="f", arguments="{}"),)


# Anything

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=3) | st.sampled_from(["user", "text"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name", "id"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
MEMBERS = st.sampled_from([name for name in ChatRequest.__struct_fields__ if name != "model"])


@given(st.dictionaries(MEMBERS, VALUES, max_size=4))
def test_anything_is_read_or_refused(members: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        TONGUE.read_request(json.dumps({"model": "m", "messages": [USER]} | members).encode(), ENTRY)
