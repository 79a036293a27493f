"""Tool loops of every SDK on every vendor: what the SDK assembles is what the vendor said, and what the vendor is asked
next is what it wants to see, signatures byte for byte.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.e2e.asked import Step, declared, history, history_of, system_of
from tests.e2e.clients import Conversation, Heard, Result, Tool, Wants, same_arguments
from tests.e2e.grid import both_ways, by_every_sdk, on_every_vendor, played
from tests.e2e.native import Call, Said, Tokens, Vendor
from tests.e2e.process import GatewayProcess
from tests.e2e.translating import cost_nusd, model_on
from tests.e2e.vendors import Seen, Vendors

WEATHER = Tool(
    "get_weather",
    "Tells the weather. Größe: °C",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 9007199254740993}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
TIME = Tool("get-time", "Tells the time.", {"type": "object", "properties": {}})
TOOLS = (WEATHER, TIME)
# Beyond what a float holds, an order that no dictionary sorts, letters of any alphabet, nesting, nothing.
ARGUMENTS = '{"z": 12345678901234567890, "city": "Tromsø 東京 😀 \\"x\\"", "a": {"c": [], "b": [1.10, {"d": null}]}}'
SIGNATURES = tuple(base64.b64encode(bytes([251, 239, 190, 255, turn]) * 9).decode() for turn in range(1, 5))
FINISHES: dict[Vendor, dict[str, str]] = {
    "openai": {"done": "stop", "tools": "tool_calls", "length": "length"},
    "responses": {"done": "completed", "tools": "completed", "length": "max_output_tokens"},
    "anthropic": {"done": "end_turn", "tools": "tool_use", "length": "max_tokens"},
    "gemini": {"done": "STOP", "tools": "STOP", "length": "MAX_TOKENS"},
}


def loop_of(vendor: Vendor) -> tuple[Said, ...]:
    """Two parallel calls, then one without a word before it, then words, then words to the user's next question."""
    first = (Call("call_1a", "get_weather", ARGUMENTS), Call("call_1b", "get-time", "{}"))
    return (
        Said("Let me see.", "The city first.", SIGNATURES[0], first, Tokens(out_reasoning=7)),
        Said("", "Once more.", SIGNATURES[1], (Call("call_2a", "get_weather", '{"city": ""}'),), turn=2),
        Said("It is cold: -11 °C.", turn=3),
        Said("You are welcome.", turn=4),
    )


def check_heard(heard: Heard, said: Said, own: Vendor) -> None:
    assert heard.text == said.text
    assert heard.thinking == said.thinking
    assert [name for _, name, _ in heard.calls] == [call.name for call in said.calls]
    assert all(same_arguments(told[2], call.arguments) for told, call in zip(heard.calls, said.calls, strict=True))
    ids = [call_id for call_id, _, _ in heard.calls]
    assert len(set(ids)) == len(ids) or set(ids) == {""}  # Gemini may leave them out
    kind = "length" if said.stop == "length" else "tools" if said.calls else "done"
    assert heard.stop == FINISHES[own][kind]
    assert tokens_of(own, heard.usage) == said.tokens


def tokens_of(own: Vendor, usage: Any) -> Tokens:
    """What the SDK was told of the tokens, by bucket."""
    if own == "openai":
        read, thoughts = usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        return Tokens(usage.prompt_tokens - read, read, usage.completion_tokens - thoughts, thoughts)
    if own == "responses":
        read, thoughts = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        return Tokens(usage.input_tokens - read, read, usage.output_tokens - thoughts, thoughts)
    if own == "anthropic":
        thoughts = usage.output_tokens_details.thinking_tokens
        return Tokens(usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens - thoughts, thoughts)
    read, thoughts = usage.cached_content_token_count or 0, usage.thoughts_token_count or 0
    return Tokens(usage.prompt_token_count - read, read, usage.candidates_token_count, thoughts)


def with_ids(said: Said, heard: Heard) -> Said:
    """Gemini's calls may come without ids; the SDK has been given some."""
    calls = (replace(call, call_id=call_id) for call, (call_id, _, _) in zip(said.calls, heard.calls, strict=True))
    return replace(said, calls=tuple(calls))


def check_asked(seen: Seen, vendor: Vendor, steps: Sequence[Step]) -> None:
    # By their texts, since dictionaries do not compare the order of their members; those of the turns' own are sorted.
    assert history_of(vendor, seen.body) == history(vendor, steps)
    assert seen.body["tools"] == declared(vendor, TOOLS)
    assert system_of(vendor, seen.body) == "Be brief."


def check_passed(seen: Seen, conversation: Conversation) -> None:
    """Same dialect: the very bytes, but for the model's name and our need for usage."""
    sent = json.loads(conversation.sent[-1].content)
    if "model" in sent:
        sent["model"] = "real-model"
    assert json.dumps(seen.body) == json.dumps(sent)


def results_for(said: Said, own: Vendor) -> list[Result]:
    """The last one failed, where the SDK can say so."""
    can_fail = own in {"anthropic", "gemini"} and len(said.calls) > 1
    last = len(said.calls) - 1
    return [
        Result(call, f"result of {call.name}: 11°", is_error=can_fail and place == last)
        for place, call in enumerate(said.calls)
    ]


@both_ways
@on_every_vendor
@by_every_sdk
def test_a_tool_loop_loses_nothing(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor, stream: bool
) -> None:
    said = loop_of(vendor)
    upstream.play(*(played(vendor, each, stream=stream) for each in said))
    wants = Wants(system="Be brief.", tools=TOOLS, thinks=True)
    steps: list[Step] = []
    with bridge.bill() as bill, sdk(bridge.url, bridge.key, model_on(vendor), wants) as conversation:
        for place, each in enumerate(said):
            earlier = said[place - 1] if place else None
            if earlier is not None and earlier.calls:
                assert isinstance(steps[-1], Said)
                results = results_for(steps[-1], sdk.own)
                conversation.give(results)
                steps.append(results)
            else:
                conversation.say("How is the weather?" if not place else "Thank you.")
                steps.append("How is the weather?" if not place else "Thank you.")
            heard = conversation.ask(stream=stream)
            check_heard(heard, each, sdk.own)
            if sdk.own == vendor:
                check_passed(upstream.seen[-1], conversation)
            else:
                check_asked(upstream.seen[-1], vendor, steps)
            steps.append(with_ids(each, heard))
    assert len(upstream.seen) == len(bill) == len(said)
    assert [charge.cost_nusd for charge in bill] == [cost_nusd(each.tokens) for each in said]
    assert {(charge.ended_by, charge.is_estimated, charge.stream) for charge in bill} == {("completed", False, stream)}
