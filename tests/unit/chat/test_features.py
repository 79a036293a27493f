"""Everything that a request asks for is noticed; what it does not mention is not."""

from typing import Any

import msgspec
import pytest

from trollproxy.chat import (
    FEATURES,
    Citation,
    Media,
    OutputSchema,
    Part,
    Reasoning,
    Refusal,
    Request,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    features_of,
)

SCHEMA = msgspec.Raw(b"{}")


def ask(**changes: Any) -> Request:
    return msgspec.structs.replace(Request(model="m", turns=()), **changes)


def with_part(part: Part, role: Any = "user") -> Request:
    return ask(turns=(Turn(role, (part,)),))


CASES: list[tuple[Request, set[str]]] = [
    (ask(), set()),
    (ask(system=(Text(text="s", cache="5m"),)), {"system", "cache_marks"}),
    (ask(turns=(Turn("system", (Text(text="s"),)),)), {"system_inside"}),
    (
        ask(sampling=Sampling(temperature=0.0, seed=0, logprobs=0, choices=2)),
        {"temperature", "seed", "logprobs", "choices"},
    ),
    (ask(sampling=Sampling(top_p=1.0, top_k=1, logit_bias=SCHEMA)), {"top_p", "top_k", "logit_bias"}),
    (ask(sampling=Sampling(presence_penalty=0.0, frequency_penalty=1.0)), {"presence_penalty", "frequency_penalty"}),
    (ask(max_output_tokens=1, stop=("x",), user="u", tier="flex"), {"max_output_tokens", "stop", "user", "tier"}),
    (
        ask(verbosity="low", metadata=SCHEMA, cache="5m", cache_key="k"),
        {"verbosity", "metadata", "cache_whole", "cache_key"},
    ),
    (ask(output=OutputSchema()), {"output_json"}),
    (ask(output=OutputSchema(schema=SCHEMA)), {"output_schema"}),
    (ask(parallel_tools=False), {"parallel_off"}),
    (ask(parallel_tools=True), {"parallel_on"}),
    (ask(tools=(Tool(name="t", strict=True, cache="1h"),)), {"tools", "tools_strict", "cache_marks"}),
    (ask(tools=(Tool(name="t", is_custom=True, strict=False),)), {"tools_custom"}),
    (ask(tool_choice=ToolChoice(mode="auto")), {"tool_choice_auto"}),
    (ask(tool_choice=ToolChoice(mode="none")), {"tool_choice_none"}),
    (ask(tool_choice=ToolChoice(mode="any")), {"tool_choice_any"}),
    (ask(tool_choice=ToolChoice(mode="any", names=("a",))), {"tool_choice_one"}),
    (ask(tool_choice=ToolChoice(mode="any", names=("a", "b"))), {"tool_choice_some"}),
    (ask(tool_choice=ToolChoice(mode="auto", names=("a",))), {"tool_choice_some"}),
    (ask(reasoning=Reasoning(mode="off")), {"reasoning_off"}),
    (ask(reasoning=Reasoning(mode="on", budget_tokens=5)), {"reasoning_on", "reasoning_budget"}),
    (
        ask(reasoning=Reasoning(mode="adaptive", effort="low", shows_thoughts=True)),
        {"reasoning_adaptive", "reasoning_effort", "reasoning_shown"},
    ),
    (ask(reasoning=Reasoning(shows_thoughts=False)), {"reasoning_hidden"}),
    (with_part(Media(kind="image", data="a", detail="low")), {"image_data", "image_detail"}),
    (
        with_part(Media(kind="document", url="u", context="c", wants_citations=True)),
        {"document_url", "document_context", "document_citations"},
    ),
    (with_part(Media(kind="document", text="t")), {"document_text"}),
    (with_part(Media(kind="audio", file_id="f")), {"audio_file"}),
    (with_part(Media(kind="image", data="a"), "assistant"), {"image_data", "assistant_media"}),
    (with_part(Text(text="t", citations=(Citation(url="u"),)), "assistant"), {"citations_inside"}),
    (with_part(Thinking(text="t"), "assistant"), {"thinking_inside"}),
    (with_part(Refusal(text="no"), "assistant"), {"refusal_inside"}),
    (with_part(ToolCall(call_id="c", name="n"), "assistant"), set()),
    (with_part(ToolCall(call_id="c", name="n", is_custom=True), "assistant"), {"tools_custom"}),
    (
        with_part(ToolResult(call_id="c", parts=(Media(kind="image", url="u"),), is_error=True, cache="5m")),
        {"result_media", "image_url", "result_error", "cache_marks"},
    ),
]


@pytest.mark.parametrize(("request_", "expected"), CASES)
def test_what_is_used(request_: Request, expected: set[str]) -> None:
    assert features_of(request_) == expected


def test_every_feature_can_be_noticed() -> None:
    noticed = {feature for _, features in CASES for feature in features}
    media = {f"{kind}_{place}" for kind in ("image", "document", "audio", "video") for place in ("data", "url", "file")}
    assert set(FEATURES) - noticed <= media
