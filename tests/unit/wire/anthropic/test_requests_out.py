"""Conversations of any origin as Anthropic takes them: order, marks, tools and what a model cannot be asked for."""

import base64
import json
from typing import Any

import msgspec
import pytest

from trollproxy.chat import (
    FEATURES,
    CannotSay,
    Citation,
    Media,
    OutputSchema,
    Part,
    Refusal,
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
from trollproxy.wire.anthropic.requests_out import request_headers, write_request
from trollproxy.wire.anthropic.tables import CARRIES, PARAMS
from trollproxy.wire.format import Target

OPUS = Target(model="claude-opus-4-8")
SONNET = Target(model="claude-sonnet-4-20250514")
HI = Turn("user", (Text(text="hi"),))
LOOK = Tool(name="look", parameters=msgspec.Raw(b'{"type":"object","z":1,"a":12345678901234567890}'))
CALL = ToolCall(call_id="c1", name="look", arguments='{"z":1,"a":12345678901234567890}')
RESULT = ToolResult(call_id="c1", parts=(Text(text="seen"),))
ELSEWHERE = State("gemini", "c2ln")
SIGNED = Thinking(text="hm", state=State("anthropic", "c2ln"))


def raw_of(*turns: Turn, target: Target = OPUS, **members: Any) -> bytes:
    return write_request(Request(model="m", turns=turns or (HI,), **members), target)


def written(*turns: Turn, target: Target = OPUS, **members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(raw_of(*turns, target=target, **members))
    return body


def messages(*turns: Turn, target: Target = OPUS) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in written(*turns, target=target)["messages"]]


def said(role: Any, *parts: Part) -> Turn:
    return Turn(role, parts)


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_the_plainest_request() -> None:
    assert written() == {
        "model": "claude-opus-4-8",
        "max_tokens": 128_000,
        "messages": [{"role": "user", "content": "hi"}],
    }


@pytest.mark.parametrize(
    ("asked", "target", "limit"),
    [
        (None, Target(model="claude-haiku-4-5"), 64_000),
        (None, Target(model="glm-5"), 8_192),
        (None, Target(model="glm-5", max_output_tokens=100), 100),
        (50, Target(model="glm-5", max_output_tokens=100), 50),
        (500, Target(model="glm-5", max_output_tokens=100), 100),
        (500_000, OPUS, 500_000),
        (0, OPUS, 0),
    ],
)
def test_the_limit_is_required(asked: int | None, target: Target, limit: int) -> None:
    assert written(target=target, max_output_tokens=asked)["max_tokens"] == limit


def test_system_goes_to_the_top() -> None:
    body = written(system=(Text(text="a", cache="1h"), Text(text=" "), Text(text="b")))
    assert body["system"] == [text("a") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}, text("b")]


def test_a_system_prompt_alone_is_asked() -> None:
    body = json.loads(write_request(Request(model="m", turns=(), system=(Text(text="a"),)), OPUS))
    assert (body["messages"], "system" in body) == ([{"role": "user", "content": [text("a")]}], False)


def test_a_system_message_keeps_its_place_where_the_model_takes_it() -> None:
    told = said("system", Text(text="now"))
    answer = said("assistant", Text(text="ok"))
    assert messages(HI, told, answer, HI) == [("user", "hi"), ("system", "now"), ("assistant", "ok"), ("user", "hi")]
    assert messages(HI, told) == [("user", "hi"), ("system", "now")]
    wrapped = text("<system>\nnow\n</system>")
    assert messages(HI, told, HI) == [("user", [text("hi"), wrapped, text("hi")])]
    assert messages(HI, answer, told, HI)[-1] == ("user", [wrapped, text("hi")])
    assert messages(HI, told, answer, HI, target=SONNET)[0] == ("user", [text("hi"), wrapped])


def test_neighbours_of_one_role_are_one_turn_with_results_first() -> None:
    two = ToolCall(call_id="c2", name="look")
    turns = [HI, said("assistant", CALL), said("assistant", two), said("user", RESULT), HI]
    turns.append(said("user", ToolResult(call_id="c2", is_error=True)))
    roles, contents = zip(*messages(*turns), strict=True)
    assert roles == ("user", "assistant", "user")
    assert [block["type"] for block in contents[1]] == ["tool_use", "tool_use"]
    assert contents[2] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "seen"},
        {"type": "tool_result", "tool_use_id": "c2", "is_error": True},
        text("hi"),
    ]


def test_the_user_begins() -> None:
    assert [role for role, _ in messages(said("assistant", Text(text="hello")), HI)] == ["user", "assistant", "user"]


def test_a_begun_answer_does_not_end_in_white_space() -> None:
    assert messages(HI, said("assistant", Text(text="The answer is \n")))[-1] == ("assistant", "The answer is")


def test_blank_texts_and_unsigned_thoughts_are_left_out() -> None:
    turn = said(
        "assistant",
        Thinking(text="unsigned"),
        Thinking(text="theirs", state=ELSEWHERE),
        SIGNED,
        Thinking(state=State("anthropic", "ZGF0YQ=="), is_redacted=True),
        Text(text=" \n"),
        Refusal(text="No."),
    )
    assert messages(HI, turn, HI)[1] == (
        "assistant",
        [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZGF0YQ=="},
            text("No."),
        ],
    )
    assert messages(HI, said("assistant", Text(text="")), HI) == [("user", [text("hi"), text("hi")])]


def test_what_an_assistant_painted_is_shown_by_the_user() -> None:
    painted = Media(kind="image", url="https://x/y.png")
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    assert messages(HI, said("assistant", Text(text="look"), painted), HI)[1:] == [
        ("assistant", "look"),
        ("user", [image, text("hi")]),
    ]


def test_sources_of_earlier_answers_are_left_out() -> None:
    assert messages(HI, said("assistant", Text(text="a", citations=(Citation(url="u"),))))[1] == ("assistant", "a")


@pytest.mark.parametrize(
    ("media", "source"),
    [
        (Media(kind="image", data="iVBORw0=", media_type="image/png"), ("base64", "image/png")),
        (Media(kind="image", data="/9j/4AA=", media_type="image/jpg", detail="high"), ("base64", "image/jpeg")),
        (Media(kind="image", data="UklGRg=="), ("base64", "image/webp")),
        (Media(kind="document", data="JVBERi0="), ("base64", "application/pdf")),
        (Media(kind="document", text="words"), ("text", "text/plain")),
        (Media(kind="document", data="d29yZHM=", media_type="text/csv"), ("text", "text/plain")),
        (Media(kind="document", url="https://x/y.pdf"), ("url", None)),
    ],
)
def test_media(media: Media, source: tuple[str, str | None]) -> None:
    block = messages(said("user", media))[0][1][0]
    assert (block["type"], block["source"]["type"], block["source"].get("media_type")) == (media.kind, *source)


def test_a_document_says_what_it_is() -> None:
    media = Media(kind="document", text="words", name="t", context="c", wants_citations=True, cache="30m")
    assert messages(said("user", media))[0][1] == [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "words"},
            "title": "t",
            "context": "c",
            "citations": {"enabled": True},
            "cache_control": {"type": "ephemeral"},
        }
    ]


@pytest.mark.parametrize(
    ("media", "feature"),
    [
        (Media(kind="image", data="Qk0=", media_type="image/bmp"), "image_data"),
        (Media(kind="image", data="????"), "image_data"),
        (Media(kind="document", data="UEs=", media_type="application/zip"), "document_data"),
        (Media(kind="document", data="/w==", media_type="text/plain"), "document_data"),
        (Media(kind="document", data="é", media_type="text/plain"), "document_data"),
    ],
)
def test_media_that_the_vendor_does_not_take(media: Media, feature: str) -> None:
    with pytest.raises(CannotSay) as caught:
        raw_of(said("user", media))
    assert caught.value.feature == feature


def test_bytes_of_schemas_and_arguments_are_kept() -> None:
    body = raw_of(HI, said("assistant", CALL), said("user", RESULT), tools=(LOOK,))
    assert bytes(LOOK.parameters or b"") in body
    assert b'"input":' + CALL.arguments.encode() in body


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [("", {}), ("{}", {}), ('{"a":', {"arguments": '{"a":'}), ("[1]", {"arguments": "[1]"}), ("x", {"arguments": "x"})],
)
def test_broken_arguments_are_not_lost(arguments: str, sent: dict[str, Any]) -> None:
    call = ToolCall(call_id="c1", name="look", arguments=arguments)
    assert messages(HI, said("assistant", call))[1][1][0]["input"] == sent


@pytest.mark.parametrize(
    ("parameters", "schema"),
    [
        (None, {"type": "object", "properties": {}}),
        (b"{}", {"type": "object"}),
        (b'{"properties":{"a":{}}}', {"type": "object", "properties": {"a": {}}}),
        (b'{"type":"object"}', {"type": "object"}),
    ],
)
def test_a_schema_says_its_type(parameters: bytes | None, schema: dict[str, Any]) -> None:
    tool = Tool(name="look", parameters=msgspec.Raw(parameters) if parameters is not None else None, strict=True)
    assert written(tools=(tool,))["tools"] == [{"name": "look", "input_schema": schema, "strict": True}]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice(mode="auto"), None, {"type": "auto"}),
        (ToolChoice(mode="none"), False, {"type": "none"}),
        (ToolChoice(mode="any"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice(mode="any", names=("look",)), None, {"type": "tool", "name": "look"}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, sent: Any) -> None:
    assert written(tools=(LOOK,), tool_choice=choice, parallel_tools=parallel).get("tool_choice") == sent


@pytest.mark.parametrize("mode", ["auto", "any"])
def test_of_some_tools_only_those_are_shown(mode: Any) -> None:
    tools = tuple(Tool(name=name) for name in "abc")
    names = ("a", "c")
    body = written(tools=tools, tool_choice=ToolChoice(mode=mode, names=names))
    assert ([tool["name"] for tool in body["tools"]], body["tool_choice"]) == (["a", "c"], {"type": mode})


@pytest.mark.parametrize(
    ("names", "feature"), [((), "tool_choice_any"), (("look",), "tool_choice_one"), (("look", "b"), "tool_choice_any")]
)
def test_a_model_that_cannot_be_made_to_call(names: tuple[str, ...], feature: str) -> None:
    with pytest.raises(CannotSay) as caught:
        raw_of(target=Target(model="claude-opus-5-5"), tools=(LOOK,), tool_choice=ToolChoice(mode="any", names=names))
    assert caught.value.feature == feature


def test_calls_of_the_past_have_their_tools_declared() -> None:
    body = written(HI, said("assistant", CALL), said("user", RESULT))
    assert [tool["name"] for tool in body["tools"]] == ["look"]
    assert body["tool_choice"] == {"type": "none"}


def test_marks_live_as_long_as_is_next() -> None:
    texts = tuple(Text(text=life, cache=life) for life in ("12h", "1h", "30m", "5m"))
    marks = [block["cache_control"] for block in messages(said("user", *texts))[0][1]]
    long, short = {"type": "ephemeral", "ttl": "1h"}, {"type": "ephemeral"}
    assert marks == [long, long, short, short]


def test_after_a_short_mark_none_lives_longer() -> None:
    texts = (Text(text="a", cache="5m"), Text(text="b", cache="1h"))
    body = written(said("user", *texts), cache="12h")
    assert [block["cache_control"] for block in body["messages"][0]["content"]] == [{"type": "ephemeral"}] * 2
    assert body["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(("cache", "kept"), [(None, 4), ("1h", 3)])
def test_the_last_four_marks_count(cache: Any, kept: int) -> None:
    texts = tuple(Text(text=word, cache="1h") for word in "abc")
    tool = Tool(name="look", cache="1h")
    result = ToolResult(call_id="c1", parts=(Text(text="x", cache="1h"),), cache="1h")
    body = written(said("user", result, *texts), tools=(tool,), system=(Text(text="s", cache="1h"),), cache=cache)
    places = [*body["tools"], *body["system"], *body["messages"][0]["content"][0]["content"]]
    places += body["messages"][0]["content"]
    assert ["cache_control" in place for place in places] == [False] * (7 - kept) + [True] * kept


def test_an_output_schema() -> None:
    schema = msgspec.Raw(b'{"type":"object","z":1,"a":2}')
    output = OutputSchema(schema=schema, name="n", strict=False)
    assert b'"output_config":{"format":{"type":"json_schema","schema":' + bytes(schema) in raw_of(output=output)


def test_what_has_no_member_is_asked_for_in_words() -> None:
    assert "JSON" in written(output=OutputSchema())["system"][0]["text"]
    assert "short" in written(verbosity="low")["system"][0]["text"]
    assert "system" not in written(verbosity="medium")


@pytest.mark.parametrize(
    ("model", "asked", "sent", "version"),
    [
        ("claude-opus-4-8", Sampling(temperature=0.3, top_p=0.5, top_k=3), {}, "2026-10-21"),
        ("claude-of-tomorrow-9", Sampling(temperature=0.3), {}, "2026-10-21"),
        ("claude-sonnet-4-5", Sampling(), {}, "2026-10-21"),
        ("claude-sonnet-4-5", Sampling(temperature=0.3, top_p=0.5), {"temperature": 0.3}, "2023-06-01"),
        ("claude-sonnet-4-5", Sampling(top_p=0.5, top_k=3), {"top_p": 0.5, "top_k": 3}, "2023-06-01"),
        ("glm-5", Sampling(temperature=1.7, top_p=0.5), {"temperature": 1.0, "top_p": 0.5}, "2023-06-01"),
    ],
)
def test_sampling_and_the_version_that_takes_it(model: str, asked: Sampling, sent: Any, version: str) -> None:
    body = written(target=Target(model=model), sampling=asked)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == sent
    request = Request(model="m", turns=(HI,), sampling=asked)
    assert request_headers(request, Target(model=model)) == [("anthropic-version", version)]


@pytest.mark.parametrize(
    ("tier", "sent"),
    [
        (None, {}),
        ("standard", {"service_tier": "standard_only"}),
        ("priority", {"service_tier": "auto"}),
        ("fast", {"speed": "fast"}),
    ],
)
def test_tiers(tier: str | None, sent: dict[str, str]) -> None:
    body = written(tier=tier)
    assert {name: body[name] for name in ("service_tier", "speed") if name in body} == sent
    betas = [
        value for name, value in request_headers(Request(model="m", turns=(HI,), tier=tier), OPUS) if "beta" in name
    ]
    assert betas == (["fast-mode-2026-02-01"] if tier == "fast" else [])


@pytest.mark.parametrize(("members", "feature"), [({"tier": "flex"}, "tier"), ({"stop": ("\n",)}, "stop")])
def test_values_that_the_vendor_does_not_take(members: dict[str, Any], feature: str) -> None:
    with pytest.raises(CannotSay) as caught:
        raw_of(**members)
    assert caught.value.feature == feature


def test_a_long_user_is_hashed() -> None:
    assert written(user="u" * 256)["metadata"] == {"user_id": "u" * 256}
    assert len(written(user="u" * 257)["metadata"]["user_id"]) == 64


def test_the_rest() -> None:
    body = written(stop=("END",), stream=True, metadata=msgspec.Raw(b"{}"), cache_key="k", cache="12h")
    assert body["stop_sequences"] == ["END"]
    assert body["stream"] is True
    assert body["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert not {"metadata", "cache_key"} & body.keys()


def test_a_wrapped_tools_grammar_and_all_else_is_told_in_the_tables() -> None:
    assert CARRIES.keys() <= set(FEATURES)
    assert PARAMS.keys() <= set(FEATURES)
    absent = set(FEATURES) - CARRIES.keys()
    assert absent == {
        "image_file",
        "document_file",
        *(f"{kind}_{place}" for kind in ("audio", "video") for place in ("data", "url", "file")),
        *("seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "choices"),
    }


def test_base64_of_a_text_is_read() -> None:
    data = base64.b64encode("grüß".encode()).decode()
    block = messages(said("user", Media(kind="document", data=data, media_type="text/plain")))[0][1][0]
    assert block["source"]["data"] == "grüß"
