"""Tools that not every vendor can have by their names or kinds: renamed or wrapped on the way out, and back again."""

import json
import re
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from tests.e2e.clients import ChatCompletions, Conversation, Messages, Responses, Result, Tool, Wants
from tests.e2e.grid import both_ways, by_every_sdk, on_every_vendor, played
from tests.e2e.native import Call, Said, Vendor
from tests.e2e.process import GatewayProcess
from tests.e2e.seen import tool_names
from tests.e2e.translating import model_on
from tests.e2e.vendors import Vendors

LONG = "mcp__a_server_with_a_long_name__" + "and_a_tool_with_an_even_longer_one_" * 2  # 102 characters
LONGER = LONG[:-1] + "2"
NAMES: dict[Vendor, re.Pattern[str]] = {  # what the vendors say that they take
    "openai": re.compile(r"[a-zA-Z0-9_-]{1,64}"),
    "responses": re.compile(r"[a-zA-Z0-9_-]{1,64}"),
    "anthropic": re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    "gemini": re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}"),
}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
PATCH = '*** Begin Patch\n*** Add File: ü.txt\n+"quoted" \\ and 東京\n*** End Patch'
WRAPPED = json.dumps({"input": PATCH}, ensure_ascii=False)


@both_ways
@on_every_vendor
@by_every_sdk
def test_long_names_come_back(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor, stream: bool
) -> None:
    """Two long names that differ in their last letter, one with dots. The vendor calls each by what it was told."""
    names = [LONG, LONGER, "files.read" if sdk.own == "gemini" else "files_read"]
    wants = Wants(tools=[Tool(name, "Does it.", SCHEMA) for name in names])
    with sdk(bridge.url, bridge.key, model_on(vendor), wants) as conversation:
        conversation.say("Go")
        upstream.play(played(vendor, Said("Ready."), stream=stream))
        conversation.ask(stream=stream)
        told = tool_names(vendor, upstream.seen[0].body)
        assert len(set(told)) == len(names)
        if sdk.own != vendor:
            assert all(NAMES[vendor].fullmatch(name) for name in told)
        calls = tuple(Call(f"call_names_{place}", name, "{}") for place, name in enumerate(told))
        upstream.play(played(vendor, Said(calls=calls, turn=2), stream=stream))
        conversation.say("On")
        heard = conversation.ask(stream=stream)
        assert [name for _, name, _ in heard.calls] == names
        results = [Result(Call(call_id, name, "{}"), "done") for call_id, name, _ in heard.calls]
        conversation.give(results)
        upstream.play(played(vendor, Said("Done.", turn=3), stream=stream))
        assert conversation.ask(stream=stream).text == "Done."
    assert tool_names(vendor, upstream.seen[2].body) == told
    body = upstream.seen[2].raw.decode()
    assert all(body.count(json.dumps(name)) >= 2 for name in told)  # declared and in the call
    if sdk.own != vendor and vendor in {"openai", "responses"}:
        assert LONG not in body


def custom_tool(sdk: type[Conversation]) -> dict[str, Any]:
    grammar = {"syntax": "lark", "definition": 'start: "*** Begin Patch"'}
    if sdk is Responses:
        tool = {"type": "custom", "name": "apply_patch", "description": "Patches."}
        return tool | {"format": {"type": "grammar", **grammar}}
    custom = {"name": "apply_patch", "description": "Patches.", "format": {"type": "grammar", "grammar": grammar}}
    return {"type": "custom", "custom": custom}


def custom_calls(conversation: Conversation) -> list[tuple[str, str, str]]:
    """Ids, names and inputs of the custom calls that the SDK has in its history."""
    if isinstance(conversation, Responses):
        items = [item for item in conversation.items if getattr(item, "type", "") == "custom_tool_call"]
        return [(item.call_id, item.name, item.input) for item in items]
    assert isinstance(conversation, ChatCompletions)
    calls = [call for message in conversation.messages for call in getattr(message, "tool_calls", None) or ()]
    return [(call.id, call.custom.name, call.custom.input) for call in calls]


@both_ways
@pytest.mark.parametrize("vendor", ["anthropic", "gemini"])
@pytest.mark.parametrize("sdk", [ChatCompletions, Responses], ids=lambda sdk: sdk.own)
def test_custom_tools_are_wrapped_and_unwrapped(
    bridge: GatewayProcess, upstream: Vendors, sdk: type[Conversation], *, vendor: Vendor, stream: bool
) -> None:
    wants = Wants(more={"tools": [custom_tool(sdk)]})
    said = Said("Let me.", calls=(Call("call_custom", "apply_patch", WRAPPED),))
    upstream.play(played(vendor, said, stream=stream), played(vendor, Said("Done.", turn=2), stream=stream))
    with sdk(bridge.url, bridge.key, model_on(vendor), wants) as conversation:
        conversation.say("Patch it")
        hear_custom(conversation, stream=stream)
        ((call_id, name, text),) = custom_calls(conversation)
        assert (name, text) == ("apply_patch", PATCH)
        if isinstance(conversation, Responses):
            conversation.items.append({"type": "custom_tool_call_output", "call_id": call_id, "output": "ok"})
        else:
            conversation.give([Result(Call(call_id, name, ""), "ok")])
        assert conversation.ask(stream=stream).text == "Done."
    first, second = (seen.raw.decode() for seen in upstream.seen)
    assert "*** Begin Patch" in first, "the grammar is told in words"
    assert json.dumps(PATCH, ensure_ascii=False) in second
    assert '"ok"' in second


def hear_custom(conversation: Conversation, *, stream: bool) -> None:
    """As `ask`, for calls that the conversation's own reading does not know."""
    if isinstance(conversation, Responses):
        conversation.ask(stream=stream)
        return
    assert isinstance(conversation, ChatCompletions)
    if stream:
        conversation.messages.append(streamed_message(conversation))
        return
    completion: Any = conversation.sdk.chat.completions.create(**conversation.members())
    conversation.messages.append(completion.choices[0].message)


def streamed_message(conversation: ChatCompletions) -> ChatCompletionMessage:
    """By hand: the SDK's own assembling breaks on streamed custom calls, the vendor's own ones too."""
    chunks: Any = conversation.sdk.chat.completions.create(**conversation.members(), stream=True)
    text, call = "", {"name": "", "input": ""}
    call_id = ""
    for delta in (choice.delta for chunk in chunks for choice in chunk.choices):
        text += delta.content or ""
        for piece in delta.tool_calls or ():
            assert piece.index == 0
            call_id = piece.id or call_id
            call = {name: call[name] + (piece.custom.get(name) or "") for name in call}
    made = {"id": call_id, "type": "custom", "custom": call}
    return ChatCompletionMessage.model_validate({"role": "assistant", "content": text, "tool_calls": [made]})


@on_every_vendor
def test_tools_of_a_finished_loop_need_not_be_declared(
    bridge: GatewayProcess, upstream: Vendors, vendor: Vendor
) -> None:
    """A history with calls but a request without tools: clients summarise like that."""
    call: Any = [{"type": "tool_use", "id": "toolu_old", "name": "look", "input": {"at": "sky"}}]
    result: Any = [{"type": "tool_result", "tool_use_id": "toolu_old", "content": "blue"}]
    upstream.play(played(vendor, Said("It is blue."), stream=False))
    with Messages(bridge.url, bridge.key, model_on(vendor)) as conversation:
        conversation.say("Look")
        conversation.messages += [{"role": "assistant", "content": call}, {"role": "user", "content": result}]
        assert conversation.ask(stream=False).text == "It is blue."
    assert "blue" in upstream.seen[0].raw.decode()
