"""Requests written: for the vendor's own models everything that the dialect has, for others what all of them take."""

import json
from typing import Any

import msgspec
import pytest

from tests.unit.wire.openai_chat.talk import ENTRY, OTHER, OWN, TONGUE, write
from trollproxy.chat import (
    CannotSay,
    Media,
    OutputSchema,
    Part,
    Reasoning,
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
    TurnRole,
)
from trollproxy.wire.format import Target

HI = Turn("user", (Text(text="hi"),))
OWN_THOUGHT = Thinking(text="hm", state=State("openai_chat", ""))
TOOLS = (Tool(name="f"), Tool(name="g"), Tool(name="patch", is_custom=True))


def messages(*turns: Turn, model: str = OWN, **members: Any) -> Any:
    return write(Request(model="m", turns=turns, **members), model)["messages"]


def body(*, model: str = OWN, **members: Any) -> Any:
    return write(Request(model="m", turns=(HI,), **members), model)


def content(*parts: Part, role: TurnRole = "user", model: str = OWN) -> Any:
    return messages(Turn(role, parts), model=model)[0]["content"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5.6", "max_completion_tokens"),
        ("gpt-10", "max_completion_tokens"),
        ("o4-mini", "max_completion_tokens"),
        ("openai/gpt-5-mini", "max_completion_tokens"),
        ("ft:gpt-5:acme", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
        ("gpt-35-turbo", "max_tokens"),  # Azure's spelling
        ("gpt-oss-120b", "max_tokens"),
        ("openai/gpt-oss-120b", "max_tokens"),
        ("deepseek-chat", "max_tokens"),
        ("mistral-large", "max_tokens"),
        ("olmo-3", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_model_takes(model: str, name: str) -> None:
    written = body(model=model, max_output_tokens=9)
    assert {key: written[key] for key in written if key.startswith("max_")} == {name: 9}


def test_what_only_the_vendor_takes_goes_to_its_own_models() -> None:
    members: dict[str, Any] = {"user": "u", "cache_key": "k"}
    own, other = body(**members), body(model=OTHER, **members)
    assert (own["safety_identifier"], own["prompt_cache_key"]) == ("u", "k")
    assert (other["user"], other.keys() & {"safety_identifier", "prompt_cache_key"}) == ("u", set())


def test_a_long_user_is_hashed() -> None:
    long = "u" * 150
    assert len(body(user=long)["safety_identifier"]) == 64
    assert body(user=long) == body(user=long)
    assert body(user="u" * 128)["safety_identifier"] == "u" * 128


def test_usage_is_always_asked_for() -> None:
    assert body(stream=True, wants_usage=False)["stream_options"] == {"include_usage": True}
    assert "stream" not in body()


def test_more_than_four_stops_are_refused() -> None:
    assert body(stop=("a", "b"))["stop"] == ["a", "b"]
    with pytest.raises(CannotSay) as caught:
        body(stop=tuple("abcde"))
    assert caught.value.feature == "stop"


def test_sampling() -> None:
    sampling = Sampling(temperature=1.5, seed=0, logprobs=0, logit_bias=msgspec.Raw(b'{"1":-100}'), choices=2)
    written = body(sampling=sampling)
    told = {"temperature": 1.5, "seed": 0, "logit_bias": {"1": -100}, "logprobs": True, "n": 2}
    assert written.items() >= told.items()
    assert "top_logprobs" not in written
    assert body(sampling=Sampling(logprobs=2))["top_logprobs"] == 2


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        (None, None),
        (Reasoning(mode="off"), "none"),
        (Reasoning(mode="on"), None),
        (Reasoning(mode="adaptive", effort="max"), "max"),
        (Reasoning(mode="on", budget_tokens=1024), "minimal"),
        (Reasoning(mode="on", budget_tokens=4000), "low"),
        (Reasoning(mode="on", budget_tokens=8192), "medium"),
        (Reasoning(mode="on", budget_tokens=16_384), "high"),
        (Reasoning(mode="on", budget_tokens=64_000), "xhigh"),
        (Reasoning(mode="on", budget_tokens=64_000, effort="low"), "low"),
        (Reasoning(shows_thoughts=True), None),
    ],
)
def test_efforts(reasoning: Reasoning | None, effort: str | None) -> None:
    assert body(reasoning=reasoning).get("reasoning_effort") == effort


def test_output() -> None:
    assert body(output=OutputSchema())["response_format"] == {"type": "json_object"}
    written = body(output=OutputSchema(schema=msgspec.Raw(b'{"type":"object"}'), strict=True))["response_format"]
    assert written["json_schema"] == {"name": "answer", "schema": {"type": "object"}, "strict": True}


# Tools


def test_tools() -> None:
    grammar = msgspec.Raw(b'{"type":"text"}')
    written = body(
        tools=(Tool(name="f", description="d", strict=True), Tool(name="p", is_custom=True, grammar=grammar))
    )
    assert written["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
        },
        {"type": "custom", "custom": {"name": "p", "format": {"type": "text"}}},
    ]


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (ToolChoice(mode="auto"), "auto"),
        (ToolChoice(mode="none"), "none"),
        (ToolChoice(mode="any"), "required"),
        (ToolChoice(mode="any", names=("f",)), {"type": "function", "function": {"name": "f"}}),
        (ToolChoice(mode="any", names=("patch",)), {"type": "custom", "custom": {"name": "patch"}}),
        (
            ToolChoice(mode="auto", names=("f",)),
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
        (
            ToolChoice(mode="any", names=("f", "patch")),
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [
                        {"type": "function", "function": {"name": "f"}},
                        {"type": "custom", "custom": {"name": "patch"}},
                    ],
                },
            },
        ),
    ],
)
def test_tool_choice(choice: ToolChoice, written: Any) -> None:
    assert body(tools=TOOLS, tool_choice=choice)["tool_choice"] == written


def test_a_choice_among_no_tools_is_not_written() -> None:
    assert not body(tool_choice=ToolChoice(mode="auto"), parallel_tools=False).keys() & {
        "tool_choice",
        "parallel_tool_calls",
    }


# Messages


def test_plain_words_are_a_string() -> None:
    assert messages(HI, system=(Text(text="Be brief."),)) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]


def test_several_texts_are_a_list_for_the_vendor_and_one_text_for_others() -> None:
    texts = (Text(text="a"), Text(text="b"))
    assert content(*texts) == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert content(*texts, model=OTHER) == "a\n\nb"
    assert content(*texts, role="assistant", model=OTHER) == "ab", "what the model said in pieces was one text"


@pytest.mark.parametrize(
    ("media", "written"),
    [
        (
            Media(kind="image", data="AAAA", media_type="image/webp", detail="low"),
            {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AAAA", "detail": "low"}},
        ),
        (Media(kind="image", url="https://x"), {"type": "image_url", "image_url": {"url": "https://x"}}),
        (
            Media(kind="document", data="AAAA", media_type="application/pdf"),
            {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
        ),
        (
            Media(kind="document", data="AAAA", media_type="text/csv", name="a.csv"),
            {"type": "file", "file": {"filename": "a.csv", "file_data": "data:text/csv;base64,AAAA"}},
        ),
        (Media(kind="document", text="words", name="t"), {"type": "text", "text": "t:\nwords"}),
        (
            Media(kind="audio", data="AAAA", media_type="audio/mpeg"),
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
        ),
    ],
)
def test_media(media: Media, written: Any) -> None:
    assert content(Text(text="a"), media) == [{"type": "text", "text": "a"}, written]


def test_the_words_about_a_document_stand_before_it() -> None:
    first, second = content(Media(kind="document", data="AAAA", media_type="application/pdf", context="From 1999."))
    assert (first["text"], second["type"]) == ("From 1999.", "file")


def test_a_recording_that_it_does_not_take_is_refused() -> None:
    with pytest.raises(CannotSay) as caught:
        content(Media(kind="audio", data="AAAA", media_type="audio/ogg"))
    assert caught.value.feature == "audio_data"


def test_results_are_messages_and_their_images_come_behind_all_of_them() -> None:
    image = Media(kind="image", data="AAAA", media_type="image/png")
    results = (
        ToolResult(call_id="a", name="look", parts=(Text(text="1"), Text(text="2"), image)),
        ToolResult(call_id="b", parts=(image,)),
        ToolResult(call_id="c", parts=(Text(text="boom"),), is_error=True),
        ToolResult(call_id="d"),
    )
    *told, shown = messages(Turn("user", (*results, Text(text="Well?"))))
    assert [(message["role"], message["tool_call_id"], message["content"]) for message in told] == [
        ("tool", "a", "1\n2"),
        ("tool", "b", "The result is shown below."),
        ("tool", "c", "Error: boom"),
        ("tool", "d", ""),
    ]
    assert shown["role"] == "user"
    texts = [part.get("text") for part in shown["content"]]
    assert texts == ["What look returned for a:", None, "What the tool returned for b:", None, "Well?"]


def test_results_alone_need_no_words_of_the_user() -> None:
    assert len(messages(Turn("user", (ToolResult(call_id="a"),)))) == 1
    assert messages(Turn("user", ())) == [{"role": "user", "content": ""}]


def test_an_answer_of_all_kinds() -> None:
    parts = (
        OWN_THOUGHT,
        Text(text="a"),
        Refusal(text="No."),
        ToolCall(call_id="c", name="f", arguments='{"b":1,"a":2}'),
        ToolCall(call_id="d", name="f"),
        ToolCall(call_id="e", name="p", arguments="x", is_custom=True),
    )
    (message,) = messages(Turn("assistant", parts))
    assert message == {
        "role": "assistant",
        "content": "a",
        "reasoning_content": "hm",
        "refusal": "No.",
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"b":1,"a":2}'}},
            {"id": "d", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "e", "type": "custom", "custom": {"name": "p", "input": "x"}},
        ],
    }


def test_an_answer_that_says_nothing() -> None:
    assert messages(Turn("assistant", ())) == [{"role": "assistant", "content": ""}]
    assert messages(Turn("assistant", (ToolCall(call_id="c", name="f"),)))[0]["content"] is None


@pytest.mark.parametrize(
    "foreign",
    [
        Thinking(text="hm"),
        Thinking(text="hm", state=State("anthropic", "sig")),
        Thinking(state=State("openai_responses", "gAAA"), is_redacted=True),
    ],
)
def test_thoughts_of_others_stay_with_them(foreign: Thinking) -> None:
    assert messages(Turn("assistant", (foreign, Text(text="a")))) == [{"role": "assistant", "content": "a"}]


def test_thoughts_go_back_under_their_own_name() -> None:
    renamed = Thinking(text="hm", state=State("openai_chat", "reasoning"))
    (message,) = messages(Turn("assistant", (renamed, Text(text="a"))))
    assert message == {"role": "assistant", "content": "a", "reasoning": "hm"}


def test_who_wants_thoughts_back_is_told_where_there_were_none() -> None:
    """DeepSeek: "the reasoning_content must be passed back", with every call and even if it is empty."""
    call = ToolCall(call_id="c", name="f")
    history = (Turn("assistant", (OWN_THOUGHT, call)), Turn("assistant", (call,)), Turn("assistant", (Text(text="a"),)))
    assert [message.get("reasoning_content") for message in messages(*history)] == ["hm", "", None]
    assert "reasoning_content" not in messages(*history[1:])[0]


def test_broken_arguments_in_a_history_are_not_lost() -> None:
    (message,) = messages(Turn("assistant", (ToolCall(call_id="c", name="f", arguments="{broken"),)))
    assert message["tool_calls"][0]["function"]["arguments"] == "{broken"


def test_the_last_four_marks_are_written_for_models_that_take_them() -> None:
    lives: Any = ("5m", "1h", "30m", "12h", "5m")
    turn = Turn("user", tuple(Text(text=str(number), cache=life) for number, life in enumerate(lives)))
    written = messages(turn)[0]["content"]
    assert [part.get("prompt_cache_breakpoint", {}).get("ttl") for part in written] == [
        None,
        "12h",
        "30m",
        "12h",
        "30m",
    ]
    for model in ("gpt-5", "gpt-4o", OTHER):
        assert "prompt_cache_breakpoint" not in json.dumps(messages(turn, model=model))


def test_a_mark_on_a_result() -> None:
    (message,) = messages(Turn("user", (ToolResult(call_id="a", parts=(Text(text="1"),), cache="1h"),)))
    assert message["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit", "ttl": "12h"}


def test_what_is_written_is_read_again_with_its_bytes() -> None:
    arguments = '{"b":1,  "a":123456789012345678901}'
    turn = Turn("assistant", (ToolCall(call_id="c", name="f", arguments=arguments),))
    written = TONGUE.write_request(Request(model="m", turns=(HI, turn)), Target(model=OTHER))
    assert TONGUE.read_request(written, ENTRY).turns[1] == turn
