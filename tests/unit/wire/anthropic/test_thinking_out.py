"""Reasoning as each family of models takes it, and where it must be left out."""

import json
from typing import Any

import pytest

from trollproxy.chat import (
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
from trollproxy.wire.anthropic.models import model_of
from trollproxy.wire.anthropic.requests_out import request_headers, write_request
from trollproxy.wire.format import Target

HI = Turn("user", (Text(text="hi"),))
CALL = ToolCall(call_id="c1", name="look")
RESULT = Turn("user", (ToolResult(call_id="c1", parts=(Text(text="seen"),)),))
SIGNED = Thinking(text="hm", state=State("anthropic", "c2ln"))
MANUAL, BOTH, ADAPTIVE = "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-4-8"
BUDGET = Reasoning(mode="on", budget_tokens=4000)


def asked(model: str, reasoning: Reasoning | None, *turns: Turn, **members: Any) -> tuple[Any, Any]:
    members = {"max_output_tokens": 20_000} | members
    request = Request(model="m", turns=turns or (HI,), reasoning=reasoning, **members)
    body = json.loads(write_request(request, Target(model=model)))
    return body.get("thinking"), body.get("output_config", {}).get("effort")


@pytest.mark.parametrize(
    ("model", "reasoning", "thinking", "effort"),
    [
        (ADAPTIVE, None, None, None),
        (ADAPTIVE, Reasoning(effort="high"), {"type": "adaptive"}, "high"),
        (ADAPTIVE, Reasoning(effort="minimal"), {"type": "adaptive"}, "low"),
        (ADAPTIVE, Reasoning(effort="xhigh"), {"type": "adaptive"}, "xhigh"),
        (ADAPTIVE, Reasoning(shows_thoughts=True), {"type": "adaptive", "display": "summarized"}, None),
        (ADAPTIVE, Reasoning(shows_thoughts=False), None, None),
        (ADAPTIVE, Reasoning(mode="adaptive", shows_thoughts=False), {"type": "adaptive", "display": "omitted"}, None),
        (ADAPTIVE, Reasoning(budget_tokens=1024), {"type": "adaptive"}, "low"),
        (ADAPTIVE, Reasoning(budget_tokens=2000), {"type": "adaptive"}, "medium"),
        (ADAPTIVE, Reasoning(mode="on", budget_tokens=30_000), {"type": "adaptive"}, "high"),
        (ADAPTIVE, Reasoning(mode="on", effort="low", budget_tokens=9000), {"type": "adaptive"}, "low"),
        (ADAPTIVE, Reasoning(mode="off"), {"type": "disabled"}, None),
        (ADAPTIVE, Reasoning(mode="off", effort="max"), {"type": "disabled"}, "high"),
        ("claude-sonnet-5-5", Reasoning(mode="off"), {"type": "between_tools"}, None),
        ("claude-opus-5-5", Reasoning(mode="off"), None, "low"),
        ("claude-of-tomorrow-9", Reasoning(mode="off"), None, "low"),
        (BOTH, Reasoning(effort="xhigh"), {"type": "adaptive"}, "high"),
        (BOTH, Reasoning(effort="max"), {"type": "adaptive"}, "max"),
        (BOTH, BUDGET, {"type": "enabled", "budget_tokens": 4000}, None),
        (BOTH, Reasoning(mode="on"), {"type": "adaptive"}, None),
        (MANUAL, Reasoning(effort="low"), {"type": "enabled", "budget_tokens": 1024}, None),
        (MANUAL, Reasoning(effort="medium"), {"type": "enabled", "budget_tokens": 2048}, None),
        (MANUAL, Reasoning(mode="adaptive"), {"type": "enabled", "budget_tokens": 4096}, None),
        (MANUAL, Reasoning(effort="max"), {"type": "enabled", "budget_tokens": 10_000}, None),
        (MANUAL, Reasoning(budget_tokens=5), {"type": "enabled", "budget_tokens": 1024}, None),
        (MANUAL, Reasoning(budget_tokens=90_000), {"type": "enabled", "budget_tokens": 19_999}, None),
        (MANUAL, Reasoning(mode="off"), {"type": "disabled"}, None),
        ("claude-opus-4-5", Reasoning(effort="xhigh"), {"type": "enabled", "budget_tokens": 8192}, "high"),
        ("claude-3-5-sonnet-20241022", Reasoning(effort="high"), None, None),
        ("claude-3-5-sonnet-20241022", Reasoning(mode="off"), None, None),
        ("glm-5", Reasoning(effort="high"), {"type": "enabled", "budget_tokens": 4096}, None),
    ],
)
def test_each_family_in_its_own_way(model: str, reasoning: Any, thinking: Any, effort: Any) -> None:
    assert asked(model, reasoning) == (thinking, effort)


def test_a_budget_leaves_room_for_the_answer_or_is_left_out() -> None:
    assert asked(MANUAL, BUDGET, max_output_tokens=1025)[0] == {"type": "enabled", "budget_tokens": 1024}
    assert asked(MANUAL, BUDGET, max_output_tokens=1024)[0] is None
    assert asked(MANUAL, BUDGET, max_output_tokens=0)[0] is None
    effort = Reasoning(effort="high")
    assert asked(MANUAL, effort, max_output_tokens=4000)[0] == {"type": "enabled", "budget_tokens": 2000}
    assert asked(MANUAL, effort, max_output_tokens=1500)[0] == {"type": "enabled", "budget_tokens": 1024}


LOOP = (HI, Turn("assistant", (CALL,)), RESULT)
SIGNED_LOOP = (HI, Turn("assistant", (SIGNED, CALL)), RESULT)


@pytest.mark.parametrize(
    ("turns", "thinks"),
    [
        (LOOP, False),
        (SIGNED_LOOP, True),
        ((HI, Turn("assistant", (Thinking(text="hm", state=State("gemini", "x")), CALL)), RESULT), False),
        # what began with thoughts goes on: the vendor thinks once before a row of calls
        ((*SIGNED_LOOP, Turn("assistant", (CALL,)), RESULT), True),
        ((*LOOP, Turn("assistant", (SIGNED, CALL)), RESULT), False),
        # a loop that is over does not matter
        ((*LOOP, Turn("assistant", (Text(text="done"),)), HI), True),
        ((*LOOP, Turn("assistant", (Text(text="so:"),))), False),  # a begun answer
    ],
)
def test_a_tool_loop_that_began_without_thoughts_goes_on_without(turns: tuple[Turn, ...], thinks: bool) -> None:
    assert (asked(MANUAL, BUDGET, *turns)[0] is not None) == thinks
    assert asked(ADAPTIVE, BUDGET, *turns)[0] == {"type": "adaptive"}


@pytest.mark.parametrize("names", [(), ("look",)])
def test_a_forced_tool_leaves_a_budget_out(names: tuple[str, ...]) -> None:
    members: dict[str, Any] = {"tools": (Tool(name="look"),), "tool_choice": ToolChoice(mode="any", names=names)}
    assert asked(MANUAL, BUDGET, **members)[0] is None
    assert asked(BOTH, Reasoning(effort="low"), **members)[0] == {"type": "adaptive"}


def test_who_thinks_takes_no_sampling() -> None:
    warm = Sampling(temperature=0.2)
    for reasoning, version in ((BUDGET, "2026-10-21"), (Reasoning(mode="off"), "2023-06-01"), (None, "2023-06-01")):
        request = Request(model="m", turns=(HI,), reasoning=reasoning, sampling=warm)
        body = json.loads(write_request(request, Target(model=MANUAL)))
        assert ("temperature" in body) == (version == "2023-06-01")
        assert request_headers(request, Target(model=MANUAL)) == [("anthropic-version", version)]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("us.anthropic.claude-opus-4-8-v1:0", "claude-opus-4-8"),
        ("anthropic/claude-opus-4.8", "claude-opus-4-8"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("Claude-Opus-5", "claude-opus-5"),
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet"),
    ],
)
def test_names_of_resellers(name: str, like: str) -> None:
    assert model_of(name) is model_of(like)


def test_a_later_version_is_not_the_family_before_it() -> None:
    to_come = model_of("claude-opus-6")
    assert model_of("claude-opus-5-7") is to_come
    assert model_of("claude-opus-50") is to_come
    assert model_of("claude-haiku-4-9") is to_come
    assert model_of("kimi-k3") is model_of("")
