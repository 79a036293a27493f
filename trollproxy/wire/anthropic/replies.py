"""Whole answers, both ways, and the words for why an answer ended."""

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Choice,
    Finish,
    Media,
    Refusal,
    Reply,
    State,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.anthropic.citations import read_citations, write_citation
from trollproxy.wire.anthropic.shallow import UsageObject
from trollproxy.wire.anthropic.usage import tier_of, to_usage, usage_object
from trollproxy.wire.body import as_object, decode_reply
from trollproxy.wire.envelope import seal
from trollproxy.wire.format import Asked

_FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "context_full",
    "refusal": "refusal",
    "pause_turn": "paused",
    "compaction": "paused",
}
_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "context_full": "model_context_window_exceeded",
    "refusal": "refusal",
    "paused": "pause_turn",
}


class StopDetails(msgspec.Struct, gc=False):
    explanation: str | None = None


class _Block(msgspec.Struct, gc=False):
    """Any block of an answer; kinds that no translated request can have asked for are passed over."""

    type: str
    text: str = ""
    citations: list[msgspec.Raw] | None = None
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Message(msgspec.Struct, gc=False):
    content: list[_Block]
    id: str = ""
    model: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: UsageObject | None = None


_MESSAGE = msgspec.json.Decoder(_Message)


def read_reply(body: bytes, asked: Asked) -> Reply:
    message = decode_reply(_MESSAGE, body)
    if message is None:
        raise UpstreamBroken("The provider's answer is not of its format.")
    parts = _read_blocks(message.content, asked)
    if message.stop_details is not None and message.stop_details.explanation:
        parts.append(Refusal(text=message.stop_details.explanation))
    choice = Choice(
        parts=tuple(parts),
        finish=finish_of(message.stop_reason, has_calls=any(isinstance(part, ToolCall) for part in parts)),
        stop_sequence=message.stop_sequence,
    )
    usage = to_usage(message.usage) if message.usage is not None else None
    return Reply(reply_id=message.id, model=message.model, choices=(choice,), usage=usage, tier=tier_of(message.usage))


def finish_of(reason: str | None, *, has_calls: bool) -> Finish:
    """A reason of tomorrow, or none, is an ordinary end."""
    return _FINISHES.get(reason or "", "tool_calls" if has_calls else "stop")


def reason_of(finish: Finish, *, has_calls: bool, has_refusal: bool) -> str:
    """The dialect's clients run tools, and tell of a refusal, where this word says so, whatever the content is."""
    if finish == "stop" and (has_calls or has_refusal):
        return _REASONS["tool_calls" if has_calls else "refusal"]
    return _REASONS[finish]


def stop_details(reason: str) -> dict[str, object] | None:
    return {"type": "refusal", "category": None, "explanation": None} if reason == "refusal" else None


def call_id_of(block_id: str, asked: Asked, number: int) -> str:
    return block_id or f"call_{asked.request_id.removeprefix('req_')}_{number}"


def message_id(reply_id: str, asked: Asked) -> str:
    if reply_id.startswith("msg_"):
        return reply_id
    return f"msg_{reply_id or asked.request_id.removeprefix('req_')}"


def shown_as_text(part: AnswerPart) -> str | None:
    """What a client reads where the dialect has no block of its own; None: it has one."""
    match part:
        case Refusal(text=text):
            return text
        case Media():
            address = part.url or f"data:{part.media_type or 'application/octet-stream'};base64,{part.data or ''}"
            return part.text if part.text is not None else f"![{part.name or part.kind}]({address})"
    return None


def write_reply(reply: Reply, asked: Asked) -> bytes:
    choice = reply.choices[0]
    if choice.finish == "malformed":
        raise UpstreamBroken("The model's answer could not be used.")
    blocks = [block for part in choice.parts if (block := _write_part(part)) is not None]
    reason = reason_of(
        choice.finish,
        has_calls=any(isinstance(part, ToolCall) for part in choice.parts),
        has_refusal=any(isinstance(part, Refusal) for part in choice.parts),
    )
    usage = reply.usage if reply.usage is not None else Usage(uncached=asked.estimate)
    return msgspec.json.encode(
        message_object(reply.reply_id, asked)
        | {
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": choice.stop_sequence,
            "stop_details": stop_details(reason),
            "usage": usage_object(usage, tier=reply.tier),
        }
    )


def message_object(reply_id: str, asked: Asked) -> dict[str, object]:
    """An answer's members before anything is said."""
    return {
        "id": message_id(reply_id, asked),
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _read_blocks(blocks: list[_Block], asked: Asked) -> list[AnswerPart]:
    parts: list[AnswerPart] = []
    length = 0
    for number, block in enumerate(blocks):
        match block.type:
            case "text":
                end = length + len(block.text)
                citations = tuple(read_citations(block.citations or (), start=length, end=end))
                parts.append(Text(text=block.text, citations=citations))
                length = end
            case "thinking":
                state = State("anthropic", block.signature) if block.signature else None
                parts.append(Thinking(text=block.thinking, state=state))
            case "redacted_thinking":
                parts.append(Thinking(state=State("anthropic", block.data), is_redacted=True))
            case "tool_use":
                call_id = call_id_of(block.id, asked, number)
                parts.append(ToolCall(call_id=call_id, name=block.name, arguments=bytes(block.input).decode()))
    return parts


def _write_part(part: AnswerPart) -> dict[str, object] | None:
    text = shown_as_text(part)
    if text is not None:
        return {"type": "text", "text": text, "citations": None}
    match part:
        case Text() if part.text:
            cited = [write_citation(citation) for citation in part.citations]
            return {"type": "text", "text": part.text, "citations": cited or None}
        case ToolCall():
            return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": as_object(part.arguments)}
        case Thinking(state=state):
            sealed = seal(state, "anthropic") if state is not None else ""
            if part.is_redacted:
                return {"type": "redacted_thinking", "data": sealed} if sealed else None
            return {"type": "thinking", "thinking": part.text, "signature": sealed} if part.text or sealed else None
    return None
