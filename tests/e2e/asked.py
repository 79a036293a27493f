"""What a vendor must be asked for a conversation, by hand after its documents; `native.py` is the side of the answers.

Nothing here uses the gateway's own formats. Where a vendor takes two spellings of one thing, `plain` brings a request
to one of them; nothing else is forgiven.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.e2e.clients import Result, Tool
from tests.e2e.native import Call, Said, Vendor

Step = str | Said | Sequence[Result]  # the user's words, the model's, the results of its calls


def history(vendor: Vendor, steps: Sequence[Step], *, replays: bool = True) -> list[dict[str, Any]]:
    """The turns as the vendor shall see them. `replays`: the vendor's own signed thoughts come back to it."""
    return [turn for step in steps for turn in _TURNS[vendor](step, replays)]


def declared(vendor: Vendor, tools: Sequence[Tool]) -> Any:
    return _TOOLS[vendor](tools)


def history_of(vendor: Vendor, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The turns of a request that the vendor got, in one spelling."""
    return _PLAIN[vendor](body)


def system_of(vendor: Vendor, body: dict[str, Any]) -> str:
    """What the request says at its top."""
    if vendor == "openai":
        return "\n".join(_text(turn["content"]) for turn in body["messages"] if turn["role"] in {"system", "developer"})
    if vendor == "responses":
        inside = [turn for turn in body["input"] if turn.get("role") in {"system", "developer"}]
        told = ([body["instructions"]] if body.get("instructions") else []) + [
            _text(turn["content"]) for turn in inside
        ]
        return "\n".join(told)
    if vendor == "anthropic":
        return _text(body.get("system", ""))
    return _text(body.get("systemInstruction", {}).get("parts", ""))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


# Anthropic Messages


def _messages(step: Step, replays: bool) -> list[dict[str, Any]]:
    if isinstance(step, str):
        return [{"role": "user", "content": step}]
    if not isinstance(step, Said):
        return [{"role": "user", "content": [_tool_result(result) for result in step]}]
    blocks: list[dict[str, Any]] = []
    if step.signature and replays:
        blocks.append({"type": "thinking", "thinking": step.thinking, "signature": step.signature})
    if step.text:
        blocks.append({"type": "text", "text": step.text})
    blocks += [
        {"type": "tool_use", "id": call.call_id, "name": call.name, "input": json.loads(call.arguments)}
        for call in step.calls
    ]
    return [{"role": "assistant", "content": blocks}]


def _tool_result(result: Result) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": result.call.call_id, "content": result.text}
    return block | ({"is_error": True} if result.is_error else {})


def _messages_tools(tools: Sequence[Tool]) -> Any:
    return [{"name": tool.name, "description": tool.description, "input_schema": dict(tool.schema)} for tool in tools]


def _plain_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """A text alone may stand for its block."""
    written = []
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, str) and message["role"] == "assistant":
            content = [{"type": "text", "text": content}]
        written.append({**message, "content": content})
    return written


# Gemini


def _contents(step: Step, replays: bool) -> list[dict[str, Any]]:
    if isinstance(step, str):
        return [{"role": "user", "parts": [{"text": step}]}]
    if not isinstance(step, Said):
        return [{"role": "user", "parts": [_function_response(result) for result in step]}]
    parts: list[dict[str, Any]] = [{"text": step.text}] if step.text else []
    for place, call in enumerate(step.calls):
        part: dict[str, Any] = {
            "functionCall": {"id": call.call_id, "name": call.name, "args": json.loads(call.arguments)}
        }
        if place == 0:
            # Without a signature of its own a call needs the word that stands for none, says the vendor.
            part["thoughtSignature"] = step.signature if replays else "skip_thought_signature_validator"
        parts.append(part)
    return [{"role": "model", "parts": parts}]


def _function_response(result: Result) -> dict[str, Any]:
    response = {"error" if result.is_error else "output": result.text}
    return {"functionResponse": {"id": result.call.call_id, "name": result.call.name, "response": response}}


def _declarations(tools: Sequence[Tool]) -> Any:
    declared = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": dict(tool.schema)}
        for tool in tools
    ]
    return [{"functionDeclarations": declared}]


def _plain_contents(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Unsigned thoughts may come back or not: the vendor passes them over."""
    return [
        {
            **content,
            "parts": [part for part in content["parts"] if not part.get("thought") or part.get("thoughtSignature")],
        }
        for content in body["contents"]
    ]


# OpenAI Chat Completions


def _chat(step: Step, replays: bool) -> list[dict[str, Any]]:
    if isinstance(step, str):
        return [{"role": "user", "content": step}]
    if not isinstance(step, Said):
        return [{"role": "tool", "tool_call_id": found.call.call_id, "content": _told(found)} for found in step]
    turn: dict[str, Any] = {"role": "assistant", "content": step.text or None}
    if step.thinking and replays:
        turn["reasoning_content"] = step.thinking  # who shows it wants it back while tools are at work
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.loads(call.arguments)},
        }
        for call in step.calls
    ]
    return [turn | ({"tool_calls": calls} if calls else {})]


def _told(result: Result) -> str:
    """OpenAI's dialects have no word for a failed tool."""
    return f"Error: {result.text}" if result.is_error else result.text


def _chat_tools(tools: Sequence[Tool]) -> Any:
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def _function(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)}


def _plain_chat(body: dict[str, Any]) -> list[dict[str, Any]]:
    """A text alone may stand for its part, and an answer without words may say so or not. Arguments are read."""
    written = []
    for message in body["messages"]:
        if message["role"] in {"system", "developer"}:
            continue
        content = message.get("content")
        if isinstance(content, list) and [part["type"] for part in content] == ["text"]:
            content = content[0]["text"]
        calls = [_read_call(call) for call in message.get("tool_calls", ())]
        written.append({**message, "content": content or None} | ({"tool_calls": calls} if calls else {}))
    return written


def _read_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}


# OpenAI Responses


def _items(step: Step, replays: bool) -> list[dict[str, Any]]:
    if isinstance(step, str):
        return [{"role": "user", "content": step}]
    if not isinstance(step, Said):
        return [
            {"type": "function_call_output", "call_id": result.call.call_id, "output": _told(result)} for result in step
        ]
    items: list[dict[str, Any]] = []
    if step.signature and replays:
        summary = [{"type": "summary_text", "text": step.thinking}] if step.thinking else []
        items.append({"type": "reasoning", "summary": summary, "encrypted_content": step.signature})
    if step.text:
        items.append({"role": "assistant", "content": step.text})
    return items + [_function_call(call) for call in step.calls]


def _function_call(call: Call) -> dict[str, Any]:
    arguments = json.loads(call.arguments)
    return {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": arguments}


def _responses_tools(tools: Sequence[Tool]) -> Any:
    return [{"type": "function", **_function(tool), "strict": False} for tool in tools]


def _plain_items(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Ids and statuses of items may come back or not; a text alone may stand for its part. Arguments are read."""
    return [_plain_item(item) for item in body["input"] if item.get("role") not in {"system", "developer"}]


def _plain_item(item: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in item.items() if name not in {"id", "status"} and value is not None}
    if kept.get("type") == "function_call":
        return {**kept, "arguments": json.loads(kept["arguments"])}
    if "role" not in kept:
        return kept
    kept.pop("type", None)
    content = kept["content"]
    if not isinstance(content, str) and len(content) == 1 and content[0]["type"] in {"input_text", "output_text"}:
        content = content[0]["text"]
    return {**kept, "content": content}


_TURNS: dict[Vendor, Callable[[Step, bool], list[dict[str, Any]]]] = {
    "openai": _chat,
    "responses": _items,
    "anthropic": _messages,
    "gemini": _contents,
}
_TOOLS: dict[Vendor, Callable[[Sequence[Tool]], Any]] = {
    "openai": _chat_tools,
    "responses": _responses_tools,
    "anthropic": _messages_tools,
    "gemini": _declarations,
}
_PLAIN: dict[Vendor, Callable[[dict[str, Any]], list[dict[str, Any]]]] = {
    "openai": _plain_chat,
    "responses": _plain_items,
    "anthropic": _plain_messages,
    "gemini": _plain_contents,
}
