"""LangChain's ChatOpenAI in a tool loop: it drops every member it does not know, so the gateway remembers thoughts."""

import json
from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from tests.e2e.native import Call, Said, Tokens, Vendor, answer, stream
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import cost_nusd, model_on, translating_gateway
from tests.e2e.vendors import Vendors

SIGNED = "c2lnbmVkID4+PiBieSB0aGUgdmVuZG9y/w=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": SCHEMA}}
CALLS = tuple(Call(f"call_{city}", "get_weather", json.dumps({"city": city})) for city in ("Oslo", "Bergen"))


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with Vendors() as opened:
        yield opened


@pytest.fixture(scope="module")
def gateway(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with translating_gateway(tmp_path_factory.mktemp("langchain"), vendors) as running:
        yield running


def ask(chat: Any, history: list[Any], *, is_streamed: bool) -> AIMessage:
    if not is_streamed:
        reply: AIMessage = chat.invoke(history)
        return reply
    chunks: list[AIMessageChunk] = list(chat.stream(history))
    return reduce(add, chunks)


def signatures(vendor: Vendor, body: Any) -> list[str]:
    """What of the thought's signature is where the vendor looks for it."""
    if vendor == "anthropic":
        blocks = [
            block for message in body["messages"] if message["role"] == "assistant" for block in message["content"]
        ]
        return [block["signature"] for block in blocks if block["type"] == "thinking"]
    if vendor == "gemini":
        parts = [part for content in body["contents"] if content["role"] == "model" for part in content["parts"]]
        return [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]
    return [item["encrypted_content"] for item in body["input"] if item.get("type") == "reasoning"]


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("vendor", ["anthropic", "gemini", "responses"])
def test_a_tool_loop_keeps_its_signed_thoughts(
    vendor: Vendor, is_streamed: bool, gateway: GatewayProcess, vendors: Vendors
) -> None:
    vendors.reset()
    play = stream if is_streamed else answer
    thought = Said(thinking="Which city?", signature=SIGNED, calls=CALLS)
    vendors.play(play(vendor, thought), play(vendor, Said(text="It rains.", turn=2)))
    chat = ChatOpenAI(
        model=model_on(vendor),
        base_url=f"{gateway.url}/v1",
        api_key=lambda: gateway.key,
        max_retries=0,
        timeout=20,
        stream_usage=is_streamed,
    ).bind_tools([TOOL])
    with gateway.bill() as bill:
        history: list[Any] = [HumanMessage("How is the weather?")]
        first = ask(chat, history, is_streamed=is_streamed)
        results = [ToolMessage(f"{call['args']['city']}: rain", tool_call_id=call["id"]) for call in first.tool_calls]
        history += [AIMessage(content=first.content, tool_calls=first.tool_calls), *results]
        second = ask(chat, history, is_streamed=is_streamed)
    assert [call["args"] for call in first.tool_calls] == [{"city": "Oslo"}, {"city": "Bergen"}]
    assert second.text == "It rains."
    assert signatures(vendor, vendors.seen[1].body) == [SIGNED]
    assert all(f"{city}: rain" in vendors.seen[1].raw.decode() for city in ("Oslo", "Bergen"))
    assert [charge.cost_nusd for charge in bill] == [cost_nusd(Tokens())] * 2
    usage = first.usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"]) == (120, 30)
