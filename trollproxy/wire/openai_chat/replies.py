"""Whole answers of the dialect, read and written."""

from collections.abc import Iterator

import msgspec

from trollproxy.chat import (
    AnswerPart,
    Choice,
    Citation,
    Media,
    Refusal,
    Reply,
    Text,
    Thinking,
    TokenScore,
    ToolCall,
)
from trollproxy.errors import UpstreamBroken
from trollproxy.wire.body import decode_reply
from trollproxy.wire.data_urls import write_data_url
from trollproxy.wire.format import Asked
from trollproxy.wire.openai_chat import answers
from trollproxy.wire.openai_chat.answers import Delta, Logprobs
from trollproxy.wire.openai_chat.usage import read_usage, write_usage

Members = dict[str, object]


class _Choice(msgspec.Struct, gc=False):
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class _Reply(msgspec.Struct, gc=False):
    choices: list[_Choice]
    id: str | None = None
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: str | None = None


_REPLY = msgspec.json.Decoder(_Reply)


def read_reply(body: bytes, asked: Asked) -> Reply:
    read = decode_reply(_REPLY, body)
    if read is None or not read.choices:
        raise UpstreamBroken("The provider's answer is not of its format.")
    return Reply(
        reply_id=read.id or "",
        model=read.model or "",
        choices=tuple(_read_choice(choice, asked) for choice in read.choices),
        usage=read_usage(read.usage),
        tier=None if read.service_tier in (None, "auto", "default") else read.service_tier,
    )


def _read_choice(choice: _Choice, asked: Asked) -> Choice:
    message = choice.message or Delta()
    parts = tuple(_read_parts(message, answers.read_scores(choice.logprobs), asked))
    return Choice(parts=parts, finish=answers.read_finish(choice.finish_reason, has_calls=bool(message.calls)))


def _read_parts(message: Delta, scores: tuple[TokenScore, ...], asked: Asked) -> Iterator[AnswerPart]:
    if message.thoughts:
        yield Thinking(text=message.thoughts, state=message.thoughts_state)
    citations = tuple(answers.read_citations(message.annotations))
    if message.words or scores or citations:
        yield Text(text=message.words, citations=citations, scores=scores)
    if message.refusal:
        yield Refusal(text=message.refusal)
    for number, call in enumerate(message.calls):
        said = call.function or call.custom or answers.Said()
        is_custom = call.function is None and call.custom is not None
        yield ToolCall(
            call_id=answers.call_id(call.id, asked.request_id, number),
            name=said.name or "",
            arguments=said.input or "" if is_custom else answers.read_arguments(said.arguments),
            is_custom=is_custom,
        )


def write_reply(reply: Reply, asked: Asked) -> bytes:
    members: Members = {
        "id": answers.reply_id(reply.reply_id, asked.request_id),
        "object": "chat.completion",
        "created": asked.now_s,
        "model": asked.model,
        "choices": [_write_choice(choice, number) for number, choice in enumerate(reply.choices)],
    }
    if reply.usage is not None:
        members["usage"] = write_usage(reply.usage)
    if reply.tier is not None:
        members["service_tier"] = reply.tier
    return msgspec.json.encode(members)


def _write_choice(choice: Choice, number: int) -> Members:
    finish = answers.FINISH_WORDS.get(choice.finish)
    if finish is None:
        raise UpstreamBroken("The model's answer could not be used.")
    scores = [score for part in choice.parts if isinstance(part, Text) for score in part.scores]
    return {
        "index": number,
        "message": _message(choice.parts),
        "logprobs": answers.write_scores(scores) if scores else None,
        "finish_reason": finish,
    }


def _message(parts: tuple[AnswerPart, ...]) -> Members:
    words = "".join(_words(part) for part in parts)
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    thoughts = "".join(part.text for part in parts if isinstance(part, Thinking))
    calls = [write_call(part) for part in parts if isinstance(part, ToolCall)]
    annotations = [*filter(None, map(answers.write_citation, _citations(parts)))]
    message: Members = {"role": "assistant", "content": words or None, "refusal": refusal or None}
    optional = (("reasoning_content", thoughts), ("tool_calls", calls), ("annotations", annotations))
    return message | {name: value for name, value in optional if value}


def _words(part: AnswerPart) -> str:
    if isinstance(part, Media):
        return media_words(part)
    return part.text if isinstance(part, Text) else ""


def _citations(parts: tuple[AnswerPart, ...]) -> Iterator[Citation]:
    for part in parts:
        if isinstance(part, Text):
            yield from part.citations


def write_call(call: ToolCall) -> Members:
    if call.is_custom:
        return {"id": call.call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def media_words(media: Media) -> str:
    """The dialect's answers hold text only; an image in it is what Markdown shows as one."""
    url = media.url or write_data_url(media.media_type or "image/png", media.data or "")
    return f"![{media.kind}]({url})"
