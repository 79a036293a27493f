"""How the demo provider's answers look on the wire: Chat Completions and Anthropic Messages, whole and streamed.

Owns the shapes, as the official SDKs accept them. An `Answer` is what is said; a dialect makes a body or frames of it.
Frames come in three parts, so that the script can stop between any two tokens. Invariant: pure, and the same answer
gives the same bytes. It must not know requests, control words or time.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

Json = dict[str, Any]
Stop = Literal["stop", "length", "tool"]

CREATED_AT_S = 1_767_225_600  # 2026-01-01: a script has no clock

_CC_STOP = {"stop": "stop", "length": "length", "tool": "tool_calls"}
_AM_STOP = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}
_CC_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
_AM_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of the prompt in disjoint buckets, and of the answer."""

    uncached: int
    read: int = 0
    write_5m: int = 0
    write_1h: int = 0
    out: int

    @property
    def prompt(self) -> int:
        return self.uncached + self.read + self.write_5m + self.write_1h


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is said: pieces of text, then perhaps one tool call whose arguments come in pieces."""

    model: str
    reply_id: str
    text: tuple[str, ...] = ()
    tool: str | None = None
    arguments: tuple[str, ...] = ()
    stop: Stop = "stop"
    counts: Counts | None  # None: the usage is left out
    stream_usage: bool = True
    choices: int = 1


class Frames(msgspec.Struct, frozen=True, kw_only=True):
    """A streamed answer: what comes before the tokens, one frame for each token, and what comes after."""

    opening: bytes
    tokens: tuple[bytes, ...]
    closing: bytes


class Dialect(Protocol):
    """What the script needs to speak a format."""

    def body(self, answer: Answer) -> Json: ...

    def frames(self, answer: Answer) -> Frames: ...

    def error(self, status: int, message: str) -> Json: ...

    def error_frame(self, status: int, message: str) -> bytes: ...

    def garbage_frame(self) -> bytes: ...


def data(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def event(value: Json) -> bytes:
    return f"event: {value['type']}\n".encode() + data(value)


class ChatCompletions:
    """OpenAI's `/v1/chat/completions`."""

    def body(self, answer: Answer) -> Json:
        choice = {"message": self._message(answer), "logprobs": None, "finish_reason": _CC_STOP[answer.stop]}
        body = self._head(answer, "chat.completion")
        body["choices"] = [{"index": index, **choice} for index in range(answer.choices)]
        if answer.counts is not None:
            body["usage"] = self._usage(answer.counts)
        return body

    def frames(self, answer: Answer) -> Frames:
        content = None if answer.tool else ""
        finish = self._chunk(answer, {}, _CC_STOP[answer.stop])
        return Frames(
            opening=self._chunk(answer, {"role": "assistant", "content": content, "refusal": None}),
            tokens=tuple(self._tokens(answer)),
            closing=finish + self._usage_chunk(answer) + b"data: [DONE]\n\n",
        )

    def error(self, status: int, message: str) -> Json:
        kind, code = _CC_ERRORS.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))  # noqa: PLR2004 - HTTP
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def error_frame(self, status: int, message: str) -> bytes:
        return data(self.error(status, message))

    def garbage_frame(self) -> bytes:
        return b'data: {"id": oops\n\n'

    def _head(self, answer: Answer, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{answer.reply_id}",
            "object": kind,
            "created": CREATED_AT_S,
            "model": answer.model,
            "service_tier": "default",
            "system_fingerprint": "fp_demo",
        }

    def _message(self, answer: Answer) -> Json:
        message: Json = {"role": "assistant", "content": "".join(answer.text), "refusal": None, "annotations": []}
        if answer.tool is not None:
            function = {"name": answer.tool, "arguments": "".join(answer.arguments)}
            message["content"] = message["content"] or None
            message["tool_calls"] = [{"id": f"call_{answer.reply_id}", "type": "function", "function": function}]
        return message

    def _chunk(self, answer: Answer, delta: Json, finish: str | None = None) -> bytes:
        chunk = self._head(answer, "chat.completion.chunk")
        chunk["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        if answer.counts is not None and answer.stream_usage:
            chunk["usage"] = None
        return data(chunk)

    def _usage_chunk(self, answer: Answer) -> bytes:
        if answer.counts is None or not answer.stream_usage:
            return b""
        return data({**self._head(answer, "chat.completion.chunk"), "choices": [], "usage": self._usage(answer.counts)})

    def _tokens(self, answer: Answer) -> Sequence[bytes]:
        frames = [self._chunk(answer, {"content": piece}) for piece in answer.text]
        for place, piece in enumerate(answer.arguments):
            call: Json = {"index": 0, "function": {"arguments": piece}}
            if place == 0:  # the SDK concatenates what is repeated, so the id and the name come once
                call["function"] = {"name": answer.tool, "arguments": piece}
                call |= {"id": f"call_{answer.reply_id}", "type": "function"}
            frames.append(self._chunk(answer, {"tool_calls": [call]}))
        return frames

    def _usage(self, counts: Counts) -> Json:
        return {
            "prompt_tokens": counts.prompt,
            "completion_tokens": counts.out,
            "total_tokens": counts.prompt + counts.out,
            "prompt_tokens_details": {"cached_tokens": counts.read, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }


class Messages:
    """Anthropic's `/v1/messages`."""

    def body(self, answer: Answer) -> Json:
        body = self._message(answer, stop_reason=_AM_STOP[answer.stop])
        if answer.text:
            body["content"].append({"type": "text", "text": "".join(answer.text)})
        if answer.tool is not None:
            body["content"].append({**self._tool_use(answer), "input": _whole("".join(answer.arguments))})
        if answer.counts is not None:
            body["usage"] = self._usage(answer.counts)
        return body

    def frames(self, answer: Answer) -> Frames:
        start = self._message(answer, stop_reason=None)
        if answer.counts is not None:
            start["usage"] = {**self._usage(answer.counts), "output_tokens": min(1, answer.counts.out)}
        tokens = self._tokens(answer)
        blocks = bool(answer.text) + (answer.tool is not None)
        last_stop = event({"type": "content_block_stop", "index": blocks - 1}) if blocks else b""
        return Frames(
            opening=event({"type": "message_start", "message": start}) + event({"type": "ping"}),
            tokens=tuple(tokens),
            closing=last_stop + event(self._delta(answer)) + event({"type": "message_stop"}),
        )

    def error(self, status: int, message: str) -> Json:
        kind = _AM_ERRORS.get(status, "api_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004 - HTTP
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_demo"}

    def error_frame(self, status: int, message: str) -> bytes:
        return event(self.error(status, message))

    def garbage_frame(self) -> bytes:
        return b'event: message_start\ndata: {"type": oops\n\n'

    def _message(self, answer: Answer, *, stop_reason: str | None) -> Json:
        return {
            "id": f"msg_{answer.reply_id}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [],
            "stop_reason": stop_reason,
            "stop_sequence": None,
        }

    def _tool_use(self, answer: Answer) -> Json:
        return {"type": "tool_use", "id": f"toolu_{answer.reply_id}", "name": answer.tool, "input": {}}

    def _delta(self, answer: Answer) -> Json:
        value: Json = {
            "type": "message_delta",
            "delta": {"stop_reason": _AM_STOP[answer.stop], "stop_sequence": None},
        }
        if answer.counts is not None:
            usage = self._usage(answer.counts)
            names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
            value["usage"] = {name: usage[name] for name in names}
        return value

    def _tokens(self, answer: Answer) -> Sequence[bytes]:
        """The start of a block goes with its first token, and the stop of the text with the first of the tool."""
        frames = [self._block_delta(0, {"type": "text_delta", "text": piece}) for piece in answer.text]
        if frames:
            frames[0] = self._block_start(0, {"type": "text", "text": ""}) + frames[0]
        index = 1 if frames else 0
        calls = [self._block_delta(index, {"type": "input_json_delta", "partial_json": p}) for p in answer.arguments]
        if calls:
            before = event({"type": "content_block_stop", "index": 0}) if frames else b""
            calls[0] = before + self._block_start(index, self._tool_use(answer)) + calls[0]
        return frames + calls

    def _block_start(self, index: int, block: Json) -> bytes:
        return event({"type": "content_block_start", "index": index, "content_block": block})

    def _block_delta(self, index: int, delta: Json) -> bytes:
        return event({"type": "content_block_delta", "index": index, "delta": delta})

    def _usage(self, counts: Counts) -> Json:
        return {
            "input_tokens": counts.uncached,
            "cache_creation_input_tokens": counts.write_5m + counts.write_1h,
            "cache_read_input_tokens": counts.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": counts.write_5m,
                "ephemeral_1h_input_tokens": counts.write_1h,
            },
            "output_tokens": counts.out,
            "service_tier": "standard",
        }


def _whole(arguments: str) -> object:
    """What a cut-off tool call looks like when it must be an object."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return {}
