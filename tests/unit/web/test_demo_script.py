"""The demo script: pure, counts what it sends, keeps the allowance, and misbehaves exactly as told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trollproxy.chat import FormatName
from trollproxy.web.demo_prompt import arguments_for
from trollproxy.web.demo_script import TOKEN_DELAY_S, Script, count, models, play

FORMATS: tuple[FormatName, ...] = ("openai_chat", "anthropic")
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}, "note": {"type": "string"}},
    "required": ["city", "days"],
}


def ask(form: FormatName, text: str = "hi", **changes: Any) -> Script:
    request = {"model": "demo", "max_tokens": 1_000, "messages": [{"role": "user", "content": text}], **changes}
    return play(form, json.dumps(request).encode())


def tools(form: FormatName, *names: str) -> list[dict[str, Any]]:
    if form == "anthropic":
        return [{"name": name, "input_schema": SCHEMA} for name in names]
    return [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in names]


def events(script: Script) -> list[Any]:
    blocks = [block.split("data: ", 1)[1] for block in script.body.decode().split("\n\n") if block]
    return [block if block == "[DONE]" else json.loads(block) for block in blocks]


def both() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("form", FORMATS)


def text_of(form: FormatName, script: Script) -> str:
    body = json.loads(script.body)
    if form == "anthropic":
        return "".join(block["text"] for block in body["content"] if block["type"] == "text")
    return str(body["choices"][0]["message"]["content"])


def call_of(form: FormatName, script: Script) -> tuple[str, Any] | None:
    body = json.loads(script.body)
    if form == "anthropic":
        calls = [(b["name"], b["input"]) for b in body["content"] if b["type"] == "tool_use"]
    else:
        given_calls = body["choices"][0]["message"].get("tool_calls", [])
        calls = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in given_calls]
    return calls[0] if calls else None


@both()
def test_the_same_request_gives_the_same_script(form: FormatName) -> None:
    assert ask(form) == ask(form)
    assert ask(form, stream=True).is_stream
    assert "2 bytes, about 1 tokens" in text_of(form, ask(form))


def test_chat_completions_stream_says_what_the_body_says() -> None:
    *chunks, done = events(ask("openai_chat", stream=True, stream_options={"include_usage": True}))
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == []
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1])
    body = json.loads(ask("openai_chat").body)
    assert text == body["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == body["usage"]
    assert body["usage"]["completion_tokens"] == len(chunks) - 3
    assert all(c["usage"] is None for c in chunks[:-1])


def test_chat_completions_hides_usage_that_was_not_asked_for() -> None:
    chunks = events(ask("openai_chat", stream=True))[:-1]
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


def test_anthropic_stream_says_what_the_body_says() -> None:
    sent = events(ask("anthropic", stream=True))
    body = json.loads(ask("anthropic").body)
    deltas = [e for e in sent if e["type"] == "content_block_delta"]
    assert [e["type"] for e in sent if e not in deltas] == [
        "message_start", "ping", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert "".join(e["delta"]["text"] for e in deltas) == body["content"][0]["text"]
    assert sent[-2]["usage"]["output_tokens"] == len(deltas) == body["usage"]["output_tokens"]
    assert sent[0]["message"]["usage"]["input_tokens"] == body["usage"]["input_tokens"]


@both()
def test_tokens_are_apart(form: FormatName) -> None:
    assert [p.delay_s for p in ask(form, "#demo tokens=3", stream=True).pieces] == [0, *[TOKEN_DELAY_S] * 3, 0]
    assert [p.delay_s for p in ask(form, "#demo tokens=2 delay_ms=7", stream=True).pieces] == [0, 0.007, 0.007, 0]
    assert ask(form, "#demo delay_ms=7").pieces[0].delay_s == 0.007


@both()
@pytest.mark.parametrize("text", ["please use a tool", "what about SECOND?", "nothing"])
def test_tools_are_called_when_named(form: FormatName, text: str) -> None:
    called = call_of(form, ask(form, text, tools=tools(form, "first", "second")))
    name = {"p": "first", "w": "second", "n": None}[text[0]]
    assert called == ((name, {"city": "Trondheim", "days": 3}) if name else None)


@pytest.mark.parametrize(
    ("form", "choice", "name"),
    [
        ("openai_chat", "none", None),
        ("openai_chat", "required", "first"),
        ("openai_chat", {"type": "function", "function": {"name": "second"}}, "second"),
        ("anthropic", {"type": "none"}, None),
        ("anthropic", {"type": "any"}, "first"),
        ("anthropic", {"type": "tool", "name": "second"}, "second"),
    ],
)
def test_tool_choice(form: FormatName, choice: Any, name: str | None) -> None:
    text = "use the tool" if name is None else "hi"
    called = call_of(form, ask(form, text, tools=tools(form, "first", "second"), tool_choice=choice))
    assert (called and called[0]) == name


def test_a_streamed_call_has_a_dense_index_and_one_name() -> None:
    chunks = events(ask("openai_chat", "tool", tools=tools("openai_chat", "first"), stream=True))[:-1]
    calls = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert {call["index"] for call in calls} == {0}
    assert ["name" in call["function"] for call in calls] == [True] + [False] * (len(calls) - 1)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    sent = events(ask("anthropic", "tool", tools=tools("anthropic", "first"), stream=True))
    assert [e["index"] for e in sent if e["type"] == "content_block_start"] == [0, 1]
    assert [e["index"] for e in sent if e["type"] == "content_block_stop"] == [0, 1]


@pytest.mark.parametrize(
    ("form", "result"),
    [
        ("openai_chat", {"role": "tool", "tool_call_id": "c", "content": "rain"}),
        ("anthropic", {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "rain"}]}),
    ],
)
def test_a_tool_result_is_quoted(form: FormatName, result: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "tool"}, {"role": "assistant", "content": "ok"}, result]
    script = ask(form, messages=messages, tools=tools(form, "first"))
    assert "rain" in text_of(form, script)
    assert call_of(form, script) is None


@both()
@given(limit=st.integers(1, 80), text=st.sampled_from(["hi", "use the tool", "#demo tokens=50"]), stream=st.booleans())
def test_the_allowance_is_kept(form: FormatName, limit: int, text: str, stream: bool) -> None:
    script = ask(form, text, max_tokens=limit, tools=tools(form, "first"), stream=stream)
    if stream:
        assert len(script.pieces) - 2 <= limit
        return
    body = json.loads(script.body)
    out = body["usage"]["output_tokens" if form == "anthropic" else "completion_tokens"]
    stop = body["stop_reason"] if form == "anthropic" else body["choices"][0]["finish_reason"]
    assert out <= limit
    assert (stop in {"length", "max_tokens"}) <= (out == limit)


def test_a_long_system_prompt_is_cached() -> None:
    usage = json.loads(
        ask(
            "openai_chat", messages=[{"role": "system", "content": "x" * 8_000}, {"role": "user", "content": "hi"}]
        ).body
    )["usage"]
    assert usage["prompt_tokens"] == 2_001
    assert usage["prompt_tokens_details"]["cached_tokens"] == 2_000


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({}, (2, 0, 100, 50)), ({"user_id": "cached"}, (2, 150, 0, 0))],
)
def test_cache_control_is_written_then_read(metadata: dict[str, str], expected: tuple[int, ...]) -> None:
    system = [
        {"type": "text", "text": "x" * 200},
        {"type": "text", "text": "x" * 200, "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "x" * 200, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    usage = json.loads(ask("anthropic", "12345678", system=system, metadata=metadata).body)["usage"]
    by_ttl = usage["cache_creation"]
    found = (usage["input_tokens"], usage["cache_read_input_tokens"], *by_ttl.values())
    assert found == expected
    assert usage["cache_creation_input_tokens"] == sum(by_ttl.values())


def test_choices() -> None:
    body = json.loads(ask("openai_chat", "#demo tokens=5", n=3).body)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["completion_tokens"] == 15


@both()
@pytest.mark.parametrize("stream", [False, True])
def test_breaks_stand_where_they_were_asked_for(form: FormatName, stream: bool) -> None:
    for action in ("cut", "hang"):
        head = ask(form, f"#demo tokens=5 {action}=head", stream=stream)
        assert head.pieces[0].action == action
        after = ask(form, f"#demo tokens=5 {action}=2", stream=stream)
        assert [p.action for p in after.pieces].index(action) == (3 if stream else 1)
        late = ask(form, f"#demo tokens=5 {action}=99", stream=stream)
        assert [p.action for p in late.pieces].index(action) == (6 if stream else 1)
        assert after.body == ask(form, f"#demo tokens=5 {action}=2", stream=stream).body


@both()
def test_error_events(form: FormatName) -> None:
    (first,) = events(ask(form, "#demo error_event=0", stream=True))
    assert "error" in first
    script = ask(form, "#demo tokens=5 error_event=2", stream=True)
    assert len(script.pieces) == 4
    assert "error" in events(script)[-1]


@both()
def test_usage_content_and_sense_can_be_left_out(form: FormatName) -> None:
    for stream in (False, True):
        assert b'"usage":{' not in ask(form, "#demo nousage=1", stream=stream).body
    assert text_of(form, ask(form, "#demo empty=1")) == ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(ask(form, "#demo garbage=1").body)
    with pytest.raises(json.JSONDecodeError):
        events(ask(form, "#demo garbage=1", stream=True))


@both()
def test_statuses(form: FormatName) -> None:
    script = ask(form, "#demo status=429 retry_after_s=7\nand more text")
    assert (script.status, script.headers) == (429, (("Retry-After", "7"),))
    assert json.loads(script.body)["error"]["message"]
    overloaded = json.loads(ask("anthropic", "#demo status=529", stream=True).body)
    assert overloaded["error"]["type"] == "overloaded_error"


@both()
@pytest.mark.parametrize("line", ["#demo cuts=3", "#demo cut=x", "#demo tokens=-1", "#demo status=200", "#demo oops"])
def test_wrong_control_words_are_errors(form: FormatName, line: str) -> None:
    assert ask(form, line).status == 400


@both()
@pytest.mark.parametrize(
    "changes", [{"messages": []}, {"messages": "hi"}, {"model": None}, {"max_tokens": 0}, {"max_tokens": "9"}]
)
def test_invalid_requests_are_refused(form: FormatName, changes: dict[str, Any]) -> None:
    assert ask(form, **changes).status == 400


def test_anthropic_needs_max_tokens_but_counting_does_not() -> None:
    body = b'{"model":"demo","messages":[{"role":"user","content":"12345678"}]}'
    assert play("anthropic", body).status == 400
    assert json.loads(count(body).body) == {"input_tokens": 2}
    assert count(b"{").status == 400


def test_models() -> None:
    assert json.loads(models("openai_chat").body)["object"] == "list"
    assert json.loads(models("anthropic").body)["has_more"] is False


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "text", "content", "name", "function", "cache_control", "ttl", "parameters", "properties", "required",
         "enum", "anyOf", "$ref", "format", "items", "minItems"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@both()
@given(
    extra=st.dictionaries(st.sampled_from(["tools", "tool_choice", "system", "metadata", "stream_options"]), JSON),
    content=JSON,
)
def test_any_json_gets_an_answer(form: FormatName, extra: dict[str, Any], content: Any) -> None:
    extra = {"tool_choice": {"type": "any"}, **extra}
    assert ask(form, messages=[{"role": "user", "content": content}], **extra).status in {200, 400}


@given(schema=st.dictionaries(st.sampled_from(["type", "required", "properties", "enum", "$ref", "items"]), JSON))
def test_any_schema_gets_arguments(schema: dict[str, Any]) -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": schema}}
    tool = {"name": "t", "input_schema": schema}
    called = call_of("anthropic", ask("anthropic", tools=[tool], tool_choice={"type": "any"}))
    assert called == ("t", arguments_for(schema))


def test_arguments_follow_the_schema() -> None:
    schema = {
        "type": "object",
        "required": ["kind", "when", "list", "deep", "either", "ref", "free", "yes", "nothing", "same"],
        "$defs": {"r": {"type": "object", "required": ["r"], "properties": {"r": {"$ref": "#/$defs/r"}}}},
        "properties": {
            "kind": {"enum": ["a", "b"]},
            "when": {"type": "string", "format": "date-time"},
            "list": {"type": "array", "items": {"type": "number"}, "minItems": 2},
            "deep": {"type": "object", "properties": {"x": {"const": 4}}, "required": ["x"]},
            "either": {"anyOf": [{"type": ["integer", "null"]}, {"type": "null"}]},
            "ref": {"$ref": "#/$defs/r"},
            "yes": {"type": "boolean"},
            "nothing": {"type": "null"},
            "same": {"type": "string", "default": "d"},
        },
    }
    made = arguments_for(schema)
    assert made.pop("ref")["r"]["r"]
    assert made == {
        "kind": "a", "when": "2026-01-01T12:00:00Z", "list": [1, 1], "deep": {"x": 4}, "either": 1,
        "free": "demo free", "yes": True, "nothing": None, "same": "d",
    }  # fmt: skip
