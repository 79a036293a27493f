"""What a request wishes beside its words (which tool, how many, how warm, for whom), from every SDK to every vendor."""

from typing import Any

import pytest
from google.genai import types

from tests.e2e.clients import ChatCompletions, Conversation, GenerateContent, Messages, Responses, Tool, Wants
from tests.e2e.grid import by_every_sdk, on_every_vendor
from tests.e2e.native import Said, Vendor, answer
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import model_on
from tests.e2e.vendors import Vendors

TOOLS = (
    Tool("look", "Looks.", {"type": "object", "properties": {}}),
    Tool("hear", "Hears.", {"type": "object", "properties": {}}),
)


def calling(mode: str, *names: str) -> dict[str, Any]:
    config: Any = {"mode": mode, "allowed_function_names": list(names) or None}
    return {"tool_config": types.ToolConfig(function_calling_config=types.FunctionCallingConfig(**config))}


CHOICES: dict[Vendor, dict[str, dict[str, Any]]] = {
    "openai": {
        "auto": {"tool_choice": "auto"},
        "any": {"tool_choice": "required"},
        "none": {"tool_choice": "none"},
        "one": {"tool_choice": {"type": "function", "function": {"name": "hear"}}},
    },
    "responses": {
        "auto": {"tool_choice": "auto"},
        "any": {"tool_choice": "required"},
        "none": {"tool_choice": "none"},
        "one": {"tool_choice": {"type": "function", "name": "hear"}},
    },
    "anthropic": {
        "auto": {"tool_choice": {"type": "auto"}},
        "any": {"tool_choice": {"type": "any"}},
        "none": {"tool_choice": {"type": "none"}},
        "one": {"tool_choice": {"type": "tool", "name": "hear"}},
    },
    "gemini": {
        "auto": calling("AUTO"),
        "any": calling("ANY"),
        "none": calling("NONE"),
        "one": calling("ANY", "hear"),
    },
}


def asked(bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], vendor: Vendor, **more: Any) -> Any:
    """The body that the vendor got."""
    upstream.play(answer(vendor, Said("Yes.")))
    with sdk(bridge.url, bridge.key, model_on(vendor), Wants(tools=TOOLS, more=more)) as conversation:
        conversation.say("Hello")
        assert conversation.ask(stream=False).text == "Yes."
    return upstream.seen[-1].body


def choice_in(vendor: Vendor, body: Any) -> dict[str, Any]:
    """Spelt as in the table above."""
    if vendor != "gemini":
        return {"tool_choice": body.get("tool_choice", CHOICES[vendor]["auto"]["tool_choice"])}
    found = body["toolConfig"]["functionCallingConfig"]
    return calling(found["mode"], *found.get("allowedFunctionNames", ()))


@pytest.mark.parametrize("choice", ["auto", "any", "none", "one"])
@on_every_vendor
@by_every_sdk
def test_the_choice_of_tools(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor, choice: str
) -> None:
    body = asked(bridge, upstream, sdk, vendor, **CHOICES[sdk.own][choice])
    assert choice_in(vendor, body) == CHOICES[vendor][choice]


@on_every_vendor
@pytest.mark.parametrize("sdk", [ChatCompletions, Responses, Messages], ids=lambda sdk: sdk.own)
def test_one_tool_at_a_time(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    """Gemini has no word for it."""
    in_choice = {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    body = asked(bridge, upstream, sdk, vendor, **(in_choice if sdk is Messages else {"parallel_tool_calls": False}))
    if vendor == "anthropic":
        assert body["tool_choice"] == in_choice["tool_choice"]
    elif vendor != "gemini":
        assert body["parallel_tool_calls"] is False


@on_every_vendor
@by_every_sdk
def test_warmth_and_limits(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    wished: dict[str, Any] = {"temperature": 0.75, "top_p": 0.5}
    body = asked(bridge, upstream, sdk, vendor, **({"extra_body": wished} if sdk is Messages else wished))
    if vendor == "gemini":
        config = body["generationConfig"]
        assert (config["temperature"], config["topP"]) == (0.75, 0.5)
        return
    assert (body["temperature"], body["top_p"]) == (0.75, 0.5)
    if vendor == "anthropic" and sdk is not Messages:  # the newest version of the dialect refuses both
        assert upstream.seen[-1].headers["anthropic-version"] == "2023-06-01"


@on_every_vendor
@by_every_sdk
def test_how_hard_to_think(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor
) -> None:
    """Each in its own words; a budget and an effort stand for one another where only one of them is known."""
    efforts: dict[Vendor, dict[str, Any]] = {
        "openai": {"reasoning_effort": "high"},
        "responses": {"reasoning": {"effort": "high", "summary": "auto"}},
        "anthropic": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        "gemini": {"thinking_config": types.ThinkingConfig(thinking_level=types.ThinkingLevel.HIGH)},
    }
    body = asked(bridge, upstream, sdk, vendor, **efforts[sdk.own])
    if vendor == "openai":
        assert body["reasoning_effort"] == "high"
    elif vendor == "responses":
        assert body["reasoning"]["effort"] == "high"
        assert "reasoning.encrypted_content" in body["include"]
        assert body["store"] is False
    elif vendor == "gemini":
        assert body["generationConfig"]["thinkingConfig"].get("thinkingLevel", "HIGH") == "HIGH"
    elif sdk is not Messages:  # what the unknown model takes: a budget, which leaves room for the answer
        assert body["thinking"]["type"] == "enabled"
        assert 1024 <= body["thinking"]["budget_tokens"] <= body["max_tokens"] // 2


@on_every_vendor
@pytest.mark.parametrize("sdk", [ChatCompletions, Responses, Messages], ids=lambda sdk: sdk.own)
def test_for_whom(bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor) -> None:
    """Some agents name their users in 150 characters, and OpenAI takes 64 or 128: nobody is refused for that."""
    user = "user_" + "x" * 145
    wished = {"metadata": {"user_id": user}} if sdk is Messages else {"safety_identifier": "a-user"}
    body = asked(bridge, upstream, sdk, vendor, **wished)
    named = body.get("safety_identifier") or body.get("user") or body.get("metadata", {}).get("user_id")
    if vendor == "gemini":
        assert named is None
    elif sdk is not Messages:
        assert named == "a-user"
    else:
        assert named == user if vendor == "anthropic" else len(named) <= 64


def test_a_wish_that_the_sdks_own_vendor_knows_is_his(bridge: GatewayProcess, upstream: Vendors) -> None:
    """Gemini's thresholds mean nothing to others, and are no reason to refuse."""
    harm = types.HarmCategory.HARM_CATEGORY_HARASSMENT
    settings = [types.SafetySetting(category=harm, threshold=types.HarmBlockThreshold.OFF)]
    body = asked(bridge, upstream, GenerateContent, "anthropic", safety_settings=settings)
    assert "HARASSMENT" not in str(body)
    body = asked(bridge, upstream, GenerateContent, "gemini", safety_settings=settings)
    assert "HARASSMENT" in str(body["safetySettings"])
