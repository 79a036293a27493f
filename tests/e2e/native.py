"""What vendors really send, written by hand after their documents: whole answers and streams, from one description.

Nothing here uses the gateway's own formats; a mistake there must not hide itself.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tests.e2e.vendors import Played, streamed, whole

Vendor = Literal["openai", "responses", "anthropic", "gemini"]
VENDORS: tuple[Vendor, ...] = ("openai", "responses", "anthropic", "gemini")
Stop = Literal["done", "length"]


@dataclass(frozen=True)
class Call:
    call_id: str
    name: str
    arguments: str  # JSON text; free text if the tool is a custom one, which only OpenAI has
    is_custom: bool = False


@dataclass(frozen=True)
class Tokens:
    """By bucket, as the bill wants them."""

    uncached: int = 100
    read: int = 20
    out_text: int = 30
    out_reasoning: int = 0


@dataclass(frozen=True)
class Said:
    """An answer: thoughts, then words, then calls. `signature` signs the thoughts (at Gemini: the first call).

    Vendors never give an id twice, and agents rely on it: the answers of one conversation differ in `turn`.
    """

    text: str = ""
    thinking: str = ""
    signature: str = ""
    calls: tuple[Call, ...] = ()
    tokens: Tokens = Tokens()
    stop: Stop = "done"
    turn: int = 1


def answer(vendor: Vendor, said: Said) -> Played:
    return whole(_WHOLE[vendor](said))


def stream(vendor: Vendor, said: Said, **options: Any) -> Played:
    return streamed(*events(vendor, said), **options)


def events(vendor: Vendor, said: Said) -> list[bytes]:
    return _EVENTS[vendor](said)


def error(vendor: Vendor, status: int, message: str = "No.", **headers: str) -> Played:
    """A refusal, as the vendor writes it."""
    names = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        404: "NOT_FOUND",
        413: "INVALID_ARGUMENT",
        429: "RESOURCE_EXHAUSTED",
        529: "UNAVAILABLE",
    }
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    bodies: dict[Vendor, object] = {
        "openai": {
            "error": {"message": message, "type": kinds.get(status, "server_error"), "param": None, "code": None}
        },
        "anthropic": {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}},
        "gemini": {"error": {"code": status, "message": message, "status": names.get(status, "INTERNAL")}},
    }
    bodies["responses"] = bodies["openai"]
    return whole(bodies[vendor], status=status, **headers)


def error_event(vendor: Vendor, message: str = "Overloaded") -> bytes:
    """An error inside a stream."""
    return {
        "openai": _data({"error": {"message": message, "type": "server_error", "code": None}}),
        "responses": _event(
            {"type": "error", "error": {"type": "server_error", "code": "server_error", "message": message}}
        ),
        "anthropic": _event({"type": "error", "error": {"type": "overloaded_error", "message": message}}),
        "gemini": _data({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}}),
    }[vendor]


def _data(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _event(body: dict[str, Any]) -> bytes:
    return f"event: {body['type']}\n".encode() + _data(body)


def _halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


# OpenAI Chat Completions


def _chat_usage(tokens: Tokens) -> dict[str, Any]:
    prompt, completion = tokens.uncached + tokens.read, tokens.out_text + tokens.out_reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": tokens.read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.out_reasoning, "audio_tokens": 0},
    }


def _chat_finish(said: Said) -> str:
    return "length" if said.stop == "length" else "tool_calls" if said.calls else "stop"


def _chat_call(call: Call, name: str, arguments: str) -> dict[str, Any]:
    if call.is_custom:
        return {"type": "custom", "custom": {"name": name, "input": arguments}}
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def _chat_whole(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None, "annotations": []}
    if said.thinking:
        message["reasoning_content"] = said.thinking
    if said.calls:
        message["tool_calls"] = [
            {"id": call.call_id, **_chat_call(call, call.name, call.arguments)} for call in said.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _chat_finish(said)}
    return {
        "id": f"chatcmpl-{said.turn}",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "real-model",
        "choices": [choice],
        "usage": _chat_usage(said.tokens),
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }


def _chat_events(said: Said) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**head, "choices": [choice], "usage": None})

    chunk_id = f"chatcmpl-{said.turn}"
    head = {"id": chunk_id, "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "real-model"}
    written = [chunk({"role": "assistant", "content": "", "refusal": None})]
    written += [chunk({"reasoning_content": half}) for half in _halves(said.thinking) if said.thinking]
    written += [chunk({"content": half}) for half in _halves(said.text) if said.text]
    for place, call in enumerate(said.calls):
        opened = {"index": place, "id": call.call_id, **_chat_call(call, call.name, "")}
        written.append(chunk({"tool_calls": [opened]}))
        for half in _halves(call.arguments):
            more = {"custom": {"input": half}} if call.is_custom else {"function": {"arguments": half}}
            written.append(chunk({"tool_calls": [{"index": place, **more}]}))
    written.append(chunk({}, _chat_finish(said)))
    written.append(_data({**head, "choices": [], "usage": _chat_usage(said.tokens)}))
    return [*written, b"data: [DONE]\n\n"]


# OpenAI Responses


def _response_usage(tokens: Tokens) -> dict[str, Any]:
    given, made = tokens.uncached + tokens.read, tokens.out_text + tokens.out_reasoning
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": tokens.read},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": tokens.out_reasoning},
        "total_tokens": given + made,
    }


def _response_items(said: Said) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if said.thinking or said.signature:
        summary = [{"type": "summary_text", "text": said.thinking}] if said.thinking else []
        thought = {"id": f"rs_{said.turn}", "type": "reasoning", "summary": summary}
        items.append({**thought, "encrypted_content": said.signature})
    if said.text:
        content = [{"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}]
        message = {"id": f"msg_{said.turn}", "type": "message", "role": "assistant", "status": "completed"}
        items.append({**message, "content": content})
    return items + [_call_item(call, f"{said.turn}_{place}") for place, call in enumerate(said.calls)]


def _call_item(call: Call, number: str) -> dict[str, Any]:
    named = {"status": "completed", "call_id": call.call_id, "name": call.name}
    if call.is_custom:
        return {"id": f"ctc_{number}", "type": "custom_tool_call", **named, "input": call.arguments}
    return {"id": f"fc_{number}", "type": "function_call", **named, "arguments": call.arguments}


def _response(said: Said, status: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    is_ended = status != "in_progress"
    return {
        "id": f"resp_{said.turn}",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "model": "real-model",
        "output": items,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "metadata": {},
        "usage": _response_usage(said.tokens) if is_ended else None,
    }


def _response_status(said: Said) -> str:
    return "incomplete" if said.stop == "length" else "completed"


def _response_whole(said: Said) -> dict[str, Any]:
    return _response(said, _response_status(said), _response_items(said))


def _response_events(said: Said) -> list[bytes]:
    written: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(said, "in_progress", [])},
        {"type": "response.in_progress", "response": _response(said, "in_progress", [])},
    ]
    items = _response_items(said)
    for place, item in enumerate(items):
        written += _item_events(item, place)
    ended = _response(said, _response_status(said), items)
    written.append({"type": f"response.{_response_status(said)}", "response": ended})
    return [_event({**event, "sequence_number": number}) for number, event in enumerate(written)]


def _item_events(item: dict[str, Any], place: int) -> list[dict[str, Any]]:
    at: dict[str, Any] = {"item_id": item["id"], "output_index": place}
    if item["type"] == "reasoning":
        inner, opened = _summary_events(item, at), {**item, "summary": [], "encrypted_content": ""}
    elif item["type"] == "message":
        inner, opened = _text_events(item, at), {**item, "content": [], "status": "in_progress"}
    elif item["type"] == "custom_tool_call":
        inner, opened = _custom_events(item, at), {**item, "input": "", "status": "in_progress"}
    else:
        inner, opened = _call_events(item, at), {**item, "arguments": "", "status": "in_progress"}
    added = {"type": "response.output_item.added", "output_index": place, "item": opened}
    return [added, *inner, {"type": "response.output_item.done", "output_index": place, "item": item}]


def _summary_events(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for number, part in enumerate(item["summary"]):
        here = {**at, "summary_index": number}
        empty = {"type": "summary_text", "text": ""}
        written.append({"type": "response.reasoning_summary_part.added", **here, "part": empty})
        deltas = _halves(part["text"])
        written += [{"type": "response.reasoning_summary_text.delta", **here, "delta": half} for half in deltas]
        written.append({"type": "response.reasoning_summary_text.done", **here, "text": part["text"]})
        written.append({"type": "response.reasoning_summary_part.done", **here, "part": part})
    return written


def _text_events(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    here, part = {**at, "content_index": 0}, item["content"][0]
    empty = {**part, "text": ""}
    deltas = [
        {"type": "response.output_text.delta", **here, "delta": half, "logprobs": []} for half in _halves(part["text"])
    ]
    return [
        {"type": "response.content_part.added", **here, "part": empty},
        *deltas,
        {"type": "response.output_text.done", **here, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **here, "part": part},
    ]


def _call_events(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    kind = "response.function_call_arguments"
    deltas = [{"type": f"{kind}.delta", **at, "delta": half} for half in _halves(item["arguments"])]
    return [*deltas, {"type": f"{kind}.done", **at, "name": item["name"], "arguments": item["arguments"]}]


def _custom_events(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    kind = "response.custom_tool_call_input"
    deltas = [{"type": f"{kind}.delta", **at, "delta": half} for half in _halves(item["input"])]
    return [*deltas, {"type": f"{kind}.done", **at, "input": item["input"]}]


# Anthropic Messages


def _messages_usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.uncached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.read,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": tokens.out_text + tokens.out_reasoning,
        "output_tokens_details": {"thinking_tokens": tokens.out_reasoning},
        "service_tier": "standard",
    }


def _blocks(said: Said) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.thinking or said.signature:
        blocks.append({"type": "thinking", "thinking": said.thinking, "signature": said.signature})
    if said.text:
        blocks.append({"type": "text", "text": said.text, "citations": None})
    return blocks + [
        {"type": "tool_use", "id": call.call_id, "name": call.name, "input": json.loads(call.arguments)}
        for call in said.calls
    ]


def _message(said: Said, content: list[dict[str, Any]], stop_reason: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{said.turn}",
        "type": "message",
        "role": "assistant",
        "model": "real-model",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": _messages_usage(said.tokens),
    }


def _stop_reason(said: Said) -> str:
    return "max_tokens" if said.stop == "length" else "tool_use" if said.calls else "end_turn"


def _message_whole(said: Said) -> dict[str, Any]:
    return _message(said, _blocks(said), _stop_reason(said))


def _message_events(said: Said) -> list[bytes]:
    start = _message(said, [], None)
    start["usage"] = {**start["usage"], "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 0}}
    written: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    calls = iter(said.calls)
    for place, block in enumerate(_blocks(said)):
        arguments = next(calls).arguments if block["type"] == "tool_use" else ""
        opened, deltas = _block_events(block, arguments)
        written.append({"type": "content_block_start", "index": place, "content_block": opened})
        written += [{"type": "content_block_delta", "index": place, "delta": delta} for delta in deltas]
        written.append({"type": "content_block_stop", "index": place})
    usage = _messages_usage(said.tokens)
    delta = {"stop_reason": _stop_reason(said), "stop_sequence": None}
    written.append({"type": "message_delta", "delta": delta, "usage": usage})
    return [_event(event) for event in [*written, {"type": "message_stop"}]]


def _block_events(block: dict[str, Any], arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": half} for half in _halves(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*deltas, signed]
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": half} for half in _halves(block["text"])]
    deltas = [{"type": "input_json_delta", "partial_json": half} for half in _halves(arguments)]
    return {**block, "input": {}}, deltas


# Gemini


def _gemini_usage(tokens: Tokens) -> dict[str, Any]:
    usage = {
        "promptTokenCount": tokens.uncached + tokens.read,
        "candidatesTokenCount": tokens.out_text,
        "totalTokenCount": tokens.uncached + tokens.read + tokens.out_text + tokens.out_reasoning,
        "cachedContentTokenCount": tokens.read,
    }
    return usage | ({"thoughtsTokenCount": tokens.out_reasoning} if tokens.out_reasoning else {})


def _gemini_parts(said: Said) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    if said.thinking:
        parts.append({"text": said.thinking, "thought": True})
    if said.text:
        parts.append({"text": said.text})
    for place, call in enumerate(said.calls):
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": json.loads(call.arguments)}}
        parts.append(part | ({"thoughtSignature": said.signature} if place == 0 and said.signature else {}))
    return parts


def _gemini(said: Said, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": _gemini_usage(said.tokens),
        "modelVersion": "real-model",
        "responseId": f"g{said.turn}",
    }


def _gemini_finish(said: Said) -> str:
    return "MAX_TOKENS" if said.stop == "length" else "STOP"


def _gemini_whole(said: Said) -> dict[str, Any]:
    return _gemini(said, _gemini_parts(said), _gemini_finish(said))


def _gemini_events(said: Said) -> list[bytes]:
    pieces: list[dict[str, Any]] = []
    for part in _gemini_parts(said):
        pieces += [{**part, "text": half} for half in _halves(part["text"])] if "text" in part else [part]
    written = [_gemini(said, [piece], None) for piece in pieces[:-1]]
    return [_data(chunk) for chunk in [*written, _gemini(said, pieces[-1:], _gemini_finish(said))]]


_WHOLE: dict[Vendor, Callable[[Said], dict[str, Any]]] = {
    "openai": _chat_whole,
    "responses": _response_whole,
    "anthropic": _message_whole,
    "gemini": _gemini_whole,
}
_EVENTS: dict[Vendor, Callable[[Said], list[bytes]]] = {
    "openai": _chat_events,
    "responses": _response_events,
    "anthropic": _message_events,
    "gemini": _gemini_events,
}
