"""Requests of Anthropic's clients: every member is mapped, may go for a reason, or is refused by its name."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.chat import (
    Citation,
    Media,
    OutputSchema,
    Reasoning,
    Request,
    Sampling,
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
from trollproxy.wire.anthropic.requests_in import read_request
from trollproxy.wire.anthropic.tables import DROPS
from trollproxy.wire.format import Entry

ENTRY = Entry()
HI: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}


def read(**members: Any) -> Request:
    return read_request(json.dumps({"model": "m", "max_tokens": 9, "messages": HI} | members).encode(), ENTRY)


def parts(*blocks: Any, role: str = "user") -> tuple[Any, ...]:
    return read(messages=[{"role": role, "content": list(blocks)}]).turns[0].parts


def refused(**members: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        read(**members)
    assert caught.value.code == "not_translatable"
    return caught.value.param


def test_the_plainest_request() -> None:
    assert read() == Request(model="m", turns=(Turn("user", (Text(text="hi"),)),), max_output_tokens=9)


def test_members_at_the_top() -> None:
    read_one = read(
        system=[{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        stop_sequences=["END"],
        stream=True,
        cache_control={"type": "ephemeral"},
        metadata={"user_id": "u"},
    )
    assert read_one.system == (Text(text="s", cache="1h"),)
    assert read_one.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=3)
    assert (read_one.stop, read_one.stream, read_one.cache, read_one.user) == (("END",), True, "5m", "u")


@pytest.mark.parametrize(
    ("members", "tier"),
    [
        ({"service_tier": "auto"}, None),
        ({"service_tier": "standard_only"}, "standard"),
        ({"speed": "standard"}, None),
        ({"speed": "fast"}, "fast"),
    ],
)
def test_tiers(members: dict[str, Any], tier: str | None) -> None:
    assert read(**members).tier == tier


@pytest.mark.parametrize(
    ("members", "reasoning"),
    [
        ({}, None),
        ({"output_config": {"effort": "max"}}, Reasoning(effort="max")),
        ({"thinking": {"type": "disabled"}}, Reasoning(mode="off")),
        ({"thinking": {"type": "between_tools"}}, Reasoning(mode="off")),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            Reasoning(mode="on", budget_tokens=2000, shows_thoughts=True),
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}},
            Reasoning(mode="on", budget_tokens=2000, shows_thoughts=False),
        ),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "medium"}},
            Reasoning(mode="adaptive", effort="medium", shows_thoughts=False),
        ),
        (
            {"thinking": {"type": "adaptive", "display": "summarized", "block_binding": {}}},
            Reasoning(mode="adaptive", shows_thoughts=True),
        ),
        ({"thinking": {"type": "adaptive", "display": "updates"}}, Reasoning(mode="adaptive", shows_thoughts=False)),
    ],
)
def test_thinking(members: dict[str, Any], reasoning: Reasoning | None) -> None:
    assert read(**members).reasoning == reasoning


def test_an_output_schema_in_either_place() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object", "n": 12345678901234567890}}
    for members in ({"output_config": {"format": wanted}}, {"output_format": wanted}):
        output = read(**members).output
        assert isinstance(output, OutputSchema)
        assert json.loads(bytes(output.schema or b"")) == wanted["schema"]


def test_images_and_documents() -> None:
    base64 = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    assert parts(
        {"type": "image", "source": base64, "transformations": {"oversized_image": "downsize"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}, "cache_control": {"type": "ephemeral"}},
        {"type": "document", "source": pdf, "title": "t", "context": "c", "citations": {"enabled": True}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}, "citations": None},
        {"type": "document", "source": {"type": "file", "file_id": "file_2"}},
        {"type": "document", "source": {"type": "content", "content": "whole"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}] * 2}},
    ) == (
        Media(kind="image", data="aGk=", media_type="image/png"),
        Media(kind="image", url="https://x/y.png"),
        Media(kind="image", file_id="file_1", cache="5m"),
        Media(kind="document", data="aGk=", media_type="application/pdf", name="t", context="c", wants_citations=True),
        Media(kind="document", text="words"),
        Media(kind="document", url="https://x/y.pdf"),
        Media(kind="document", file_id="file_2"),
        Media(kind="document", text="whole"),
        Media(kind="document", text="a\n\na"),
    )


def test_a_document_with_images_is_opened() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    source = {"type": "content", "content": [{"type": "text", "text": "a"}, image]}
    assert parts({"type": "document", "source": source, "title": "t"}) == (
        Text(text="t"),
        Text(text="a"),
        Media(kind="image", url="https://x/y.png"),
    )


def test_search_results_are_documents() -> None:
    found = {"type": "search_result", "source": "https://x", "title": "t", "content": [{"type": "text", "text": "a"}]}
    assert parts(found) == (Media(kind="document", text="https://x\n\na", name="t"),)
    assert parts(found | {"citations": {"enabled": True}})[0].wants_citations


def test_an_answer_of_the_vendor_is_taken_back_as_its_sdk_dumps_it() -> None:
    web = {"type": "web_search_result_location", "url": "https://x", "title": "t", "cited_text": "c"}
    page = {"type": "page_location", "document_index": 0, "document_title": "d", "cited_text": "c", "file_id": None}
    said = parts(
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "text", "text": "a", "citations": None, "parsed_output": {"x": 1}},
        {"type": "text", "text": "b", "citations": [web | {"encrypted_index": "e"}, page]},
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}, "trigger": {"type": "refusal"}},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"b": 1, "a": 2}, "caller": {"type": "direct"}},
        {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}, "caller": None, "toolset_name": None},
        role="assistant",
    )
    assert said == (
        Thinking(text="hm", state=State("anthropic", "c2ln")),
        Thinking(state=State("anthropic", "ZGF0YQ=="), is_redacted=True),
        Text(text="a"),
        Text(
            text="b",
            citations=(Citation(url="https://x", title="t", cited_text="c"), Citation(title="d", cited_text="c")),
        ),
        ToolCall(call_id="toolu_1", name="look", arguments='{"b": 1, "a": 2}'),
        ToolCall(call_id="toolu_2", name="look", arguments="{}"),
    )


def test_thoughts_of_other_vendors_come_out_of_their_envelope() -> None:
    said = parts(
        {"type": "thinking", "thinking": "hm", "signature": "trollproxy:gemini:c2ln"},
        {"type": "redacted_thinking", "data": "trollproxy:openai_responses:gAAA"},
        {"type": "thinking", "thinking": "unsigned", "signature": ""},
        role="assistant",
    )
    assert said == (
        Thinking(text="hm", state=State("gemini", "c2ln")),
        Thinking(state=State("openai_responses", "gAAA"), is_redacted=True),
        Thinking(text="unsigned"),
    )


def test_results_of_tools() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    said = parts(
        {"type": "tool_result", "tool_use_id": "a", "content": "fine", "is_error": False},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "content": [{"type": "text", "text": "x"}, image],
            "is_error": True,
        },
        {"type": "tool_result", "tool_use_id": "c", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "tool_result", "tool_use_id": "d", "content": [{"type": "tool_reference", "tool_name": "look"}]},
    )
    assert said == (
        ToolResult(call_id="a", parts=(Text(text="fine"),)),
        ToolResult(call_id="b", parts=(Text(text="x"), Media(kind="image", url="https://x/y.png")), is_error=True),
        ToolResult(call_id="c", cache="1h"),
        ToolResult(call_id="d", parts=(Text(text="The tool `look` can be called."),)),
    )


@pytest.mark.parametrize(
    ("choice", "wanted", "parallel"),
    [
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(mode="auto"), False),
        ({"type": "auto", "disable_parallel_tool_use": False}, ToolChoice(mode="auto"), None),
        ({"type": "any"}, ToolChoice(mode="any"), None),
        ({"type": "tool", "name": "look"}, ToolChoice(mode="any", names=("look",)), None),
        ({"type": "none"}, ToolChoice(mode="none"), None),
    ],
)
def test_tool_choice(choice: dict[str, Any], wanted: ToolChoice, parallel: bool | None) -> None:
    request = read(tools=[TOOL], tool_choice=choice)
    assert (request.tool_choice, request.parallel_tools) == (wanted, parallel)


def test_tools() -> None:
    tools = read(
        tools=[
            {"name": "a", "input_schema": {"type": "object", "properties": {}}, "type": "custom", "strict": True},
            {"name": "b", "description": "d", "input_schema": {}, "cache_control": {"type": "ephemeral"}},
            {"name": "c", "input_schema": {}, "input_examples": [{"x": 1}], "allowed_callers": ["direct"]},
            {"name": "d", "input_schema": {}, "defer_loading": True, "eager_input_streaming": True, "type": None},
            {"name": "tool_search_tool_bm25", "type": "tool_search_tool_bm25_20251119"},
        ]
    ).tools
    assert [tool.name for tool in tools] == ["a", "b", "c", "d"]
    assert tools[0] == Tool(name="a", parameters=tools[0].parameters, strict=True)
    assert (tools[1].description, tools[1].cache) == ("d", "5m")
    assert tools[2].description == 'Examples of its input:\n{"x": 1}'


def test_system_messages_keep_their_place() -> None:
    told = {"role": "system", "content": [{"type": "text", "text": "now"}]}
    request = read(messages=[{"role": "system", "content": "first"}, *HI, told], system="top")
    assert request.system == (Text(text="top"), Text(text="first"))
    assert [turn.role for turn in request.turns] == ["user", "system"]


def test_a_system_message_for_one_turn_is_over_after_it() -> None:
    told = {"role": "system", "content": "only now", "clear_at": "next_user_message"}
    said = {"role": "assistant", "content": "ok"}
    assert [turn.role for turn in read(messages=[*HI, told, said]).turns] == ["user", "system", "assistant"]
    assert [turn.role for turn in read(messages=[*HI, told, said, *HI]).turns] == ["user", "assistant", "user"]


def test_the_last_effort_counts() -> None:
    told = {"role": "system", "output_config": {"effort": "low"}}
    request = read(messages=[*HI, told], output_config={"effort": "high"})
    assert request.reasoning == Reasoning(effort="low")
    assert len(request.turns) == 1


def test_tools_come_and_go_with_the_conversation() -> None:
    def change(kind: str, tool: dict[str, Any]) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": kind, "tool": tool}]}

    one, two = (
        {"type": "tool_reference", "name": "look"},
        {"type": "tool_definition", "definition": TOOL | {"name": "b"}},
    )
    gone = change("tool_removal", one)
    assert [tool.name for tool in read(tools=[TOOL], messages=[*HI, change("tool_addition", two)]).tools] == [
        "look",
        "b",
    ]
    assert read(tools=[TOOL], messages=[*HI, gone]).tools == ()
    assert len(read(tools=[TOOL], messages=[*HI, gone, *HI, change("tool_addition", one)]).tools) == 1


# As captured from Claude Code 2.1.280, cut to what differs in kind.
CLAUDE_CODE: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\nx\n</system-reminder>"},
                {"type": "text", "text": "fix it", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            ],
        },
        {"role": "system", "content": "Agents: none.", "clear_at": "never"},
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.280.abc; cc_entrypoint=cli;"},
        {
            "type": "text",
            "text": "You are Claude Code",
            "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"},
        },
    ],
    "tools": [
        {
            "name": "Bash",
            "description": "Runs a command",
            "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
            "eager_input_streaming": True,
        },
        {"name": "mcp__x__y", "input_schema": {"type": "object"}, "defer_loading": True},
    ],
    "metadata": {"user_id": json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": "s" * 36})},
    "max_tokens": 128000,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "diagnostics": {"previous_message_id": None},
    "fallbacks": "default",
    "stream": True,
}


def test_claude_code_is_understood() -> None:
    request = read_request(json.dumps(CLAUDE_CODE).encode(), ENTRY)
    assert [tool.name for tool in request.tools] == ["Bash", "mcp__x__y"]
    assert request.reasoning == Reasoning(mode="adaptive", effort="medium", shows_thoughts=False)
    assert [turn.role for turn in request.turns] == ["user", "system"]
    assert request.user == CLAUDE_CODE["metadata"]["user_id"]
    assert request.system[0].cache == "1h"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url", "name": "n", "url": "u"}]}, "mcp_servers"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"billing_policy": {"type": "billing_policy", "bill_to": "user_profile"}}, "billing_policy"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits[0]"),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 9}}}, "output_config.task_budget"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]}, "tools[0].type"),
        ({"tools": [TOOL, {"type": "bash_20250124", "name": "bash"}]}, "tools[1].type"),
        ({"tools": [TOOL | {"allowed_callers": ["code_execution_20260120"]}]}, "tools[0].allowed_callers"),
        ({"tools": [TOOL | {"of_tomorrow": 1}]}, "tools[0].of_tomorrow"),
        ({"of_tomorrow": 1}, "of_tomorrow"),
        ({"messages": [{"role": "user", "content": "x", "of_tomorrow": 1}]}, "messages[0].of_tomorrow"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "x"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "of_tomorrow": 1}]}]},
            "messages[0].content[0].of_tomorrow",
        ),
        ({"thinking": {"type": "of_tomorrow"}}, "thinking.type"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_its_name(members: dict[str, Any], param: str) -> None:
    assert refused(**members) == param


@pytest.mark.parametrize(
    "members",
    [
        {"mcp_servers": []},
        {"inference_geo": "global"},
        {"billing_policy": {"type": "billing_policy", "bill_to": "self"}},
        {"fallback_credit_token": "t"},
        {"context_management": {"edits": []}},
        {"context_management": None},
    ],
)
def test_defaults_and_what_means_nothing_elsewhere_are_no_reason_to_refuse(members: dict[str, Any]) -> None:
    assert read(**members) == read()


def test_null_is_no_reason_to_refuse() -> None:
    optional = (
        "container thread compaction inference_geo mcp_servers billing_policy fallbacks diagnostics system tools "
        "tool_choice thinking output_config temperature top_p top_k stop_sequences cache_control metadata service_tier "
        "speed stream fallback_credit_token"
    )
    assert read(**dict.fromkeys(optional.split())) == read()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b'{"model":"m","messages":[],"max_tokens":"9"}', "max_tokens"),
        (b'{"model":"m","messages":[{"role":"robot","content":""}],"max_tokens":9}', "messages[0].role"),
        (b'{"model":"m","messages":[{"role":"user","content":3}],"max_tokens":9}', "messages[0].content"),
        (b'{"model":"m","messages":[]}', "max_tokens"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(body, ENTRY)
    assert caught.value.param == param


def test_counting_needs_no_limit() -> None:
    body = json.dumps({"model": "m", "messages": HI}).encode()
    assert read_request(body, Entry(operation="count_tokens")).max_output_tokens is None


def test_every_drop_has_its_reason() -> None:
    assert all(reason and not reason.endswith(".") for reason in DROPS.values())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["text", "tool_use", "user", "system", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "role", "content", "text", "source", "input", "name", "id", "tools", "tool"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("messages", "system", "tools", "thinking"), ANYTHING)))
def test_anything_is_read_or_refused(members: dict[str, Any]) -> None:
    with suppress(InvalidRequest):
        read(**members)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_request(body, ENTRY)


def test_a_note_to_the_vendors_billing_is_no_part_of_the_prompt() -> None:
    note = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.329.abc; cc_entrypoint=cli;"}
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    asked = json.dumps(body | {"system": [note, {"type": "text", "text": "Be brief."}]}).encode()
    assert read_request(asked, Entry()).system == (Text(text="Be brief."),)
