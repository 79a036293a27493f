"""Requests that are read: what maps, what goes, what is refused by name."""

import json
from typing import Any

import msgspec
import pytest

from tests.unit.wire.openai_responses.talk import read, write
from trollproxy.chat import (
    Media,
    Request,
    State,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from trollproxy.errors import InvalidRequest
from trollproxy.wire.openai_responses.sealed import seal_signature, seal_thought

HI = Turn("user", (Text(text="hi"),))
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
OWN = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "t"}],
    "encrypted_content": "gAAA",
}


def asking(**members: Any) -> Request:
    return Request(**({"model": "m", "turns": (HI,)} | members))


def parts_of(*items: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(part for turn in read(input=[*items]).turns for part in turn.parts)


def test_instructions_and_leading_messages_are_the_system() -> None:
    request = read(
        instructions="a",
        input=[
            {"role": "developer", "content": "b"},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "c"}]},
            {"role": "user", "content": "hi"},
            {"role": "developer", "content": "later"},
        ],
    )
    assert [text.text for text in request.system] == ["a", "b", "c"]
    assert request.turns == (HI, Turn("system", (Text(text="later"),)))


def test_all_that_a_model_said_in_a_row_is_one_turn() -> None:
    said = [
        OWN,
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": None, "parsed": None}],
        },
        {
            "type": "function_call",
            "id": "fc",
            "call_id": "1",
            "name": "f",
            "arguments": '{"a":1}',
            "status": "completed",
            "caller": {"type": "direct"},
            "async": None,
            "parsed_arguments": {},
        },
        {"type": "custom_tool_call", "call_id": "2", "name": "g", "input": "x"},
    ]
    results = [
        {"type": "function_call_output", "call_id": "1", "output": "r", "status": None},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "s"}]},
    ]
    request = read(input=[{"role": "user", "content": "hi"}, *said, *results, {"role": "user", "content": "go"}])
    assert [turn.role for turn in request.turns] == ["user", "assistant", "user"]
    thinking, text, call, custom = request.turns[1].parts
    assert isinstance(thinking, Thinking)
    assert thinking.text == "t"
    assert thinking.state is not None
    assert (thinking.state.origin, json.loads(thinking.state.data)) == ("openai_responses", OWN)
    assert text == Text(text="a")
    assert call == ToolCall(call_id="1", name="f", arguments='{"a":1}')
    assert custom == ToolCall(call_id="2", name="g", arguments="x", is_custom=True)
    assert request.turns[2].parts == (
        ToolResult(call_id="1", parts=(Text(text="r"),)),
        ToolResult(call_id="2", parts=(Text(text="s"),), is_custom=True),
        Text(text="go"),
    )


def test_the_vendor_s_own_reasoning_is_replayed_byte_by_byte() -> None:
    item = '{"type":"reasoning","id":"rs_1","summary":[],"content":null,"encrypted_content":"gAAA","status":null}'
    request = read(input=[msgspec.json.decode(item), {"role": "user", "content": "x"}])
    own = request.turns[0].parts[0]
    assert isinstance(own, Thinking)
    assert own.state == State("openai_responses", item)
    assert write(request)["input"][0] == json.loads(item)


def test_signatures_of_others_come_back_from_the_client() -> None:
    signed, redacted = State("anthropic", "a:b"), State("anthropic", "c")
    of_call, of_text = State("gemini", "d"), State("gemini", "e")

    def item(sealed: str, *summary: str) -> dict[str, Any]:
        texts = [{"type": "summary_text", "text": text} for text in summary]
        return {"type": "reasoning", "id": "rs_x", "summary": texts, "encrypted_content": sealed}

    assert parts_of(
        item(seal_thought(signed, is_redacted=False), "one", "two"),
        item(seal_thought(redacted, is_redacted=True)),
        item(seal_signature(of_text, "text", "said")),
        item(seal_signature(of_call, "call", "call_1")),
        {"role": "assistant", "content": "said"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "f", "arguments": "{}"},
        item(seal_signature(of_call, "call", "of a call that is gone")),
    ) == (
        Thinking(text="one\n\ntwo", state=signed),
        Thinking(state=redacted, is_redacted=True),
        Text(text="said", state=of_text),
        ToolCall(call_id="call_1", name="f", arguments="{}", state=of_call),
        ToolCall(call_id="call_2", name="f", arguments="{}"),
    )


def test_media() -> None:
    content = [
        {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "high"},
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf", "detail": "low"},
        {"type": "input_file", "file_data": "aGk=", "filename": "a.csv"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_file", "file_id": "file-2"},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
    ]
    assert parts_of({"role": "user", "content": content}) == (
        Media(kind="image", data="aGk=", media_type="image/png", detail="high"),
        Media(kind="image", url="https://example.com/a.png"),
        Media(kind="image", file_id="file-1"),
        Media(kind="document", data="aGk=", media_type="application/pdf", name="a.pdf", detail="low"),
        Media(kind="document", data="aGk=", media_type="text/csv", name="a.csv"),
        Media(kind="document", url="https://example.com/a.pdf"),
        Media(kind="document", file_id="file-2"),
        Media(kind="audio", data="aGk=", media_type="audio/mpeg"),
    )


def test_tools() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    request = read(
        tools=[
            FUNCTION | {"strict": True, "description": "d", "defer_loading": None, "output_schema": {}},
            {"type": "function", "name": "bare", "parameters": None, "strict": None},
            {"type": "custom", "name": "c", "format": grammar},
            {
                "type": "custom",
                "name": "free",
                "format": {"type": "text"},
                "allowed_callers": ["direct", "programmatic"],
            },
        ]
    )
    function, bare, custom, free = request.tools
    assert (function.name, function.strict, function.description) == ("f", True, "d")
    assert bare == Tool(name="bare")
    assert custom.is_custom
    assert json.loads(bytes(custom.grammar or b"")) == grammar
    assert free == Tool(name="free", is_custom=True)
    written = write(request)["tools"]
    assert written[0] == {
        "type": "function",
        "name": "f",
        "description": "d",
        "strict": True,
        "parameters": {"type": "object"},
    }
    assert written[1]["strict"] is False
    assert written[1]["parameters"] == {"type": "object", "properties": {}}
    assert written[2:] == [{"type": "custom", "name": "c", "format": grammar}, {"type": "custom", "name": "free"}]


def test_groups_of_tools_are_taken_apart() -> None:
    group = {
        "type": "namespace",
        "name": "crm",
        "description": "About.",
        "tools": [FUNCTION | {"description": "Find."}, {"type": "custom", "name": "g"}],
    }
    plain = {"type": "namespace", "name": "functions", "description": "", "tools": [FUNCTION | {"name": "h"}]}
    call = {"type": "function_call", "call_id": "1", "name": "f", "namespace": "crm", "arguments": "{}"}
    request = read(
        input=[{"type": "additional_tools", "id": "at_1", "role": "developer", "tools": [plain]}, call],
        tools=[group],
        tool_choice={
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "f", "namespace": "crm"}, {"type": "function", "name": "h"}],
        },
    )
    assert [(tool.name, tool.namespace, tool.description) for tool in request.tools] == [
        ("crm__f", "crm", "[crm: About.]\n\nFind."),
        ("crm__g", "crm", None),
        ("h", None, None),
    ]
    assert request.turns[0].parts == (ToolCall(call_id="1", name="crm__f", arguments="{}"),)
    assert request.tool_choice == ToolChoice(mode="any", names=("crm__f", "h"))


def test_a_search_for_tools_that_the_client_runs_is_a_function() -> None:
    found = FUNCTION | {"name": "mail", "defer_loading": True}
    request = read(
        tools=[{"type": "tool_search", "execution": "client", "description": "d", "parameters": {"type": "object"}}],
        input=[
            {"role": "user", "content": "hi"},
            {"type": "tool_search_call", "call_id": "1", "execution": "client", "arguments": {"query": "mail"}},
            {
                "type": "tool_search_output",
                "call_id": "1",
                "execution": "client",
                "status": "completed",
                "tools": [found, found],
            },
        ],
    )
    assert [tool.name for tool in request.tools] == ["tool_search", "mail"]
    assert request.turns[1].parts == (ToolCall(call_id="1", name="tool_search", arguments='{"query": "mail"}'),)
    assert request.turns[2].parts == (
        ToolResult(call_id="1", parts=(Text(text="Found, and ready to be called: mail, mail"),)),
    )


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ("auto", ToolChoice(mode="auto")),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="any")),
        ({"type": "function", "name": "f"}, ToolChoice(mode="any", names=("f",))),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            ToolChoice(mode="auto", names=("f",)),
        ),
    ],
)
def test_choices_of_tools(given, choice) -> None:
    request = read(tools=[FUNCTION], tool_choice=given, parallel_tool_calls=False)
    assert (request.tool_choice, request.parallel_tools) == (choice, False)
    assert write(request)["tool_choice"] == given
    assert read(tool_choice="auto", parallel_tool_calls=False).tool_choice is None


SERVED = [
    "file_search",
    "mcp",
    "shell",
    "local_shell",
    "apply_patch",
    "computer",
    "code_interpreter",
    "image_generation",
]


@pytest.mark.parametrize(
    "kind", [*SERVED, "web_search", "tool_search", "web_search_preview", "programmatic_tool_calling"]
)
def test_tools_that_the_provider_runs_are_refused(kind) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(tools=[FUNCTION, {"type": kind}])
    assert (caught.value.param, caught.value.code) == ("tools[1].type", "not_translatable")
    assert kind in caught.value.message


def test_the_search_that_codex_offers_unasked_goes() -> None:
    assert (
        read(tools=[{"type": "web_search", "external_web_access": True, "search_content_types": ["text"]}]).tools == ()
    )
    with pytest.raises(InvalidRequest, match="web_search"):
        read(tools=[{"type": "web_search"}])


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": {"effort": "ultra"}}, "reasoning.effort"),
        ({"reasoning": {"new": 1}}, "reasoning.new"),
        ({"stop": ["x"]}, "stop"),
        ({"seed": 1}, "seed"),
        ({"n": 2}, "n"),
        ({"text": {"format": {"type": "new"}}}, "text.format.type"),
        ({"tool_choice": {"type": "web_search_preview"}, "tools": [FUNCTION]}, "tool_choice.type"),
        ({"tool_choice": "sometimes", "tools": [FUNCTION]}, "tool_choice"),
        ({"tools": [FUNCTION | {"allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers"),
        ({"tools": [FUNCTION | {"new": 1}]}, "tools[0].new"),
        ({"input": [{"id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call", "id": "ws"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", "new": 1}]}]},
            "input[0].content[0].new",
        ),
        ({"input": [{"role": "user", "content": "x", "new": 1}]}, "input[0].new"),
        ({"input": [{"role": "system", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content"),
        (
            {"input": [{"type": "tool_search_call", "call_id": "1", "execution": "server", "arguments": {}}]},
            "input[0].execution",
        ),
    ],
)
def test_what_is_not_understood_is_named(members, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**members)
    assert (caught.value.param, caught.value.code) == (param, "not_translatable")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": 7}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        (
            {
                "input": [
                    {"type": "function_call_output", "call_id": "1", "output": [{"type": "refusal", "refusal": "x"}]}
                ]
            },
            "input[0].output",
        ),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"tool_choice": {"type": "allowed_tools", "tools": []}, "tools": [FUNCTION]}, "tool_choice.tools"),
    ],
)
def test_what_is_wrong_is_named(members, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**members)
    assert (caught.value.param, caught.value.code) == (param, "invalid_request")


def test_nulls_and_defaults_are_no_reason_to_refuse() -> None:
    names = (
        "background context_management conversation include instructions max_output_tokens prompt max_tool_calls"
        " metadata moderation parallel_tool_calls previous_response_id prompt_cache_key prompt_cache_retention"
        " reasoning safety_identifier stream stream_options temperature text tool_choice tools top_logprobs top_p user"
        " access_programs image prompt_cache_options"
    )
    nulls = dict.fromkeys(names.split())
    assert read(**nulls, service_tier="auto", store=True, truncation="disabled") == asking()
    defaults = {
        "background": False,
        "context_management": [],
        "reasoning": {"effort": None, "summary": None, "context": "auto", "mode": "standard"},
        "text": {"format": {"type": "text"}, "verbosity": None},
        "metadata": {},
        "service_tier": "default",
        "stream_options": {"include_obfuscation": False},
        "client_metadata": {"a": "b"},
        "prompt_cache_options": {"mode": "implicit"},
        "max_tool_calls": 3,
    }
    assert read(**defaults) == asking()


def test_breakpoints_inherit_their_lifetime() -> None:
    content = [{"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}]
    options = {"mode": "explicit", "ttl": "12h"}
    request = read(input=[{"role": "user", "content": content}], prompt_cache_options=options)
    assert (request.turns[0].parts, request.cache) == ((Text(text="a", cache="12h"),), None)
