"""Requests that are written: what maps, and how what has no place of its own is said."""

import json
from typing import Any

import msgspec
import pytest

from tests.unit.wire.openai_responses.talk import ENTRY, TONGUE, read, write
from trollproxy.chat import (
    CannotSay,
    Citation,
    Media,
    OutputSchema,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    State,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from trollproxy.wire.format import Target

HI = Turn("user", (Text(text="hi"),))


def asking(**members: Any) -> Request:
    return Request(**({"model": "m", "turns": (HI,)} | members))


def parts_of(*items: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(part for turn in read(input=[*items]).turns for part in turn.parts)


@pytest.mark.parametrize(
    "state",
    [
        None,
        State("anthropic", "sig"),
        State("openai_responses", "no json"),
        State("openai_responses", '{"type":"message"}'),
    ],
)
def test_thoughts_of_others_are_left_out(state) -> None:
    turns = (HI, Turn("assistant", (Thinking(text="t", state=state), Text(text="a"))))
    assert [item["role"] for item in write(asking(turns=turns))["input"]] == ["user", "assistant"]


def test_documents_are_written_with_what_is_told_of_them() -> None:
    text = Media(kind="document", text="body", name="T", context="C")
    pdf = Media(kind="document", data="aGk=", context="C")
    content = write(asking(turns=(Turn("user", (text, pdf)),)))["input"][0]["content"]
    assert content == [
        {"type": "input_text", "text": "T\n\nC\n\nbody"},
        {"type": "input_text", "text": "C"},
        {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,aGk="},
    ]


def test_an_image_without_a_type_cannot_be_said() -> None:
    with pytest.raises(CannotSay):
        write(asking(turns=(Turn("user", (Media(kind="image", data="aGk="),)),)))


def test_pictures_of_the_model_are_shown_by_the_user_after_the_results() -> None:
    picture = Media(kind="image", data="aGk=", media_type="image/png")
    turns = (
        HI,
        Turn("assistant", (picture, ToolCall(call_id="1", name="f"))),
        Turn("user", (ToolResult(call_id="1", parts=(Text(text="r"),)), Text(text="go"))),
    )
    kinds = [(item["type"], item.get("role")) for item in write(asking(turns=turns))["input"]]
    assert kinds == [
        ("message", "user"),
        ("function_call", None),
        ("function_call_output", None),
        ("message", "user"),
        ("message", "user"),
    ]
    generated = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk=", "size": "1x1"}
    assert parts_of(generated) == (picture,)


def test_results() -> None:
    image = Media(kind="image", data="aGk=", media_type="image/png")
    results = (
        ToolResult(call_id="1"),
        ToolResult(call_id="2", parts=(Text(text="no"),), is_error=True),
        ToolResult(call_id="3", parts=(Text(text="Error: no"), image), is_error=True),
        ToolResult(call_id="4", is_error=True, is_custom=True),
    )
    items = write(asking(turns=(HI, Turn("user", results))))["input"][1:]
    shown = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    assert [item["output"] for item in items] == [
        "",
        "Error: no",
        [{"type": "input_text", "text": "Error: no"}, shown],
        "Error:",
    ]
    assert items[3]["type"] == "custom_tool_call_output"
    assert parts_of({"type": "function_call_output", "call_id": "1", "output": [shown]}) == (
        ToolResult(call_id="1", parts=(image,)),
    )


def test_broken_arguments_in_the_history_are_kept() -> None:
    turns = (Turn("assistant", (ToolCall(call_id="1", name="f", arguments="{oops"), ToolCall(call_id="2", name="f"))),)
    assert [item["arguments"] for item in write(asking(turns=turns))["input"]] == ["{oops", "{}"]


def test_refusals_and_citations_of_earlier_answers() -> None:
    cited = Citation(url="https://example.com", title="T", start=1, end=3)
    turns = (Turn("assistant", (Text(text="abc", citations=(cited, Citation(title="own"))), Refusal(text="no"))),)
    written = write(asking(turns=turns))["input"]
    assert read(input=written).turns == (Turn("assistant", (Text(text="abc", citations=(cited,)), Refusal(text="no"))),)


def test_a_grammar_of_the_other_dialect_is_flattened() -> None:
    nested = msgspec.Raw(b'{"type":"grammar","grammar":{"syntax":"lark","definition":"start: x"}}')
    written = write(asking(tools=(Tool(name="c", is_custom=True, grammar=nested),)))["tools"]
    assert written[0]["format"] == {"type": "grammar", "syntax": "lark", "definition": "start: x"}


def test_the_rest_of_a_request() -> None:
    request = read(
        max_output_tokens=99,
        temperature=1,
        top_p=0.5,
        top_logprobs=3,
        text={
            "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
            "verbosity": "low",
        },
        reasoning={"effort": "high", "summary": "detailed"},
        safety_identifier="me",
        user="other",
        service_tier="flex",
        prompt_cache_key="k",
        prompt_cache_options={"ttl": "12h"},
        metadata={"a": "b"},
        stream=True,
    )
    assert request.sampling == Sampling(temperature=1.0, top_p=0.5, logprobs=3)
    assert request.reasoning == Reasoning(effort="high", shows_thoughts=True)
    assert (request.user, request.tier, request.cache_key, request.cache) == ("me", "flex", "k", "12h")
    written = write(request)
    assert written["store"] is False
    assert written["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert written["reasoning"] == {"effort": "high", "summary": "auto"}
    assert written["text"]["verbosity"] == "low"
    assert written["safety_identifier"] == "me"
    assert read(include=["message.output_text.logprobs"]).sampling.logprobs == 0
    assert read(text={"format": {"type": "json_object"}}).output == OutputSchema()


@pytest.mark.parametrize(
    ("reasoning", "written"),
    [
        (Reasoning(mode="off"), {"effort": "none"}),
        (Reasoning(mode="on"), {"effort": "medium"}),
        (Reasoning(mode="adaptive"), {"effort": "medium"}),
        (Reasoning(mode="adaptive", effort="low"), {"effort": "low"}),
        (Reasoning(mode="on", budget_tokens=1_024), {"effort": "low"}),
        (Reasoning(mode="on", budget_tokens=8_000), {"effort": "medium"}),
        (Reasoning(mode="on", budget_tokens=31_999), {"effort": "high"}),
        (Reasoning(shows_thoughts=True), {"summary": "auto"}),
        (Reasoning(shows_thoughts=False), {}),
    ],
)
def test_reasoning(reasoning, written) -> None:
    assert write(asking(reasoning=reasoning))["reasoning"] == written


def test_small_limits_and_a_warm_up() -> None:
    assert write(asking(max_output_tokens=1))["max_output_tokens"] == 16
    warm = write(asking(max_output_tokens=0))
    assert (warm["prompt_cache_options"], "max_output_tokens" in warm) == ({"prewarm": True}, False)
    assert read(prompt_cache_options={"prewarm": True}).max_output_tokens == 0


def test_marks_of_the_cache() -> None:
    marked = asking(
        system=(Text(text="a", cache="1h"),),
        turns=(
            Turn("user", (ToolResult(call_id="1", parts=(Text(text="r"),), cache="5m"), Text(text="q", cache="5m"))),
        ),
        cache="5m",
    )
    written = write(marked)
    assert "instructions" not in written
    system, result, question = written["input"]
    mark = {"mode": "explicit", "ttl": "30m"}
    assert system["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "12h"}
    assert result["output"][0]["prompt_cache_breakpoint"] == mark
    assert question["content"][0]["prompt_cache_breakpoint"] == mark
    assert written["prompt_cache_options"] == {"ttl": "30m"}
    old = json.dumps(write(marked, model="gpt-5.1"))
    assert "cache" not in old
    assert '"instructions"' in old


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("gpt-5.6-sol", True),
        ("gpt-6-astra", True),
        ("openai/gpt-6.1", True),
        ("gpt-5.5", False),
        ("gpt-4o", False),
        ("o3", False),
    ],
)
def test_models_that_take_marks(model, takes) -> None:
    request = asking(turns=(Turn("user", (Text(text="q", cache="5m"),)),))
    assert ("prompt_cache_breakpoint" in json.dumps(write(request, model=model))) is takes


def test_labels() -> None:
    written = write(asking(user="u" * 129, tier="standard_only"))
    assert len(written["safety_identifier"]) == 64
    assert written["service_tier"] == "default"
    with pytest.raises(CannotSay):
        write(asking(tier="batch"))


def test_big_numbers_and_the_order_of_keys_survive() -> None:
    schema = '{"type":"object","z":123456789012345678901234567890,"a":1.50}'
    body = f'{{"model":"m","input":"hi","tools":[{{"type":"function","name":"f","parameters":{schema}}}]}}'

    request = TONGUE.read_request(body.encode(), ENTRY)
    assert schema.encode() in TONGUE.write_request(request, Target(model="x"))
